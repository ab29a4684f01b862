"""Directory handles: how client code gets at a file without ever following a path.

A name is opened below a directory that is open already and never through a symbolic link, so nobody
who moves things about meanwhile can lead us elsewhere, and no path is too long. Nothing here knows
of backups.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENCODING = "utf-8"
SURROGATES = "surrogateescape"

# What identifies a file on one machine: device and inode number.
Identity = tuple[int, int]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

# linux/openat2.h; the number is the same on every architecture that Debian runs on.
_OPENAT2 = 437
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_CONFINED = _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
# A kernel without openat2, and sandboxes that forbid it.
_NO_OPENAT2 = (errno.ENOSYS, errno.EPERM)
# Room for the longest component and the zero at the end, below PATH_MAX.
_STRETCH = 4096 - 256 - 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_directory(parent: int, name: bytes) -> int:
    """A directory to be read, its access time left alone where that is allowed. Raises OSError."""
    try:
        return os.open(name, _DIRECTORY | os.O_NOATIME, dir_fd=parent)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
    return os.open(name, _DIRECTORY, dir_fd=parent)


def open_place(parent: int, name: bytes) -> int:
    """A directory that names can be looked up in but that need not be readable. Raises OSError."""
    return os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=parent)


def open_for_reading(parent: int, name: bytes) -> int:
    """A file to be read, its access time left alone where that is allowed. Raises OSError.

    Never waits: a pipe that has taken the place of a file opens at once. A file under a lease is
    waited for, but only once it is known to be a regular file.
    """
    try:
        return os.open(name, _READ | os.O_NOATIME, dir_fd=parent)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
    except BlockingIOError:
        return _open_leased(parent, name)
    try:
        return os.open(name, _READ, dir_fd=parent)
    except BlockingIOError:
        return _open_leased(parent, name)


def _open_leased(parent: int, name: bytes) -> int:
    place = os.open(name, _PLACE, dir_fd=parent)
    try:
        if os.fstat(place).st_mode & 0o170000 != 0o100000:
            raise OSError(errno.EINVAL, "it is no regular file any more", os.fsdecode(name))
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)


def open_on_same_mount(parent: int, name: bytes) -> int:
    """As open_directory, but raises OSError (EXDEV) where something is mounted on the directory."""
    try:
        return _openat2(parent, name, _DIRECTORY | os.O_NOATIME, _NO_XDEV | _CONFINED)
    except OSError as error:
        if error.errno not in _NO_OPENAT2:
            raise
    try:
        return _openat2(parent, name, _DIRECTORY, _NO_XDEV | _CONFINED)
    except OSError as error:
        if error.errno not in _NO_OPENAT2:
            raise
    return open_directory(parent, name)


def open_below(root: int, components: Iterable[bytes]) -> int:
    """A directory any number of levels below another, reached through directories alone. Raises
    OSError.

    The path is given to the kernel in stretches that fit PATH_MAX; without openat2, name by name.
    """
    at = os.dup(root)
    try:
        for stretch in _stretches(components):
            below = _open_stretch(at, stretch)
            os.close(at)
            at = below
    except BaseException:
        os.close(at)
        raise
    return at


def open_above(below: int, wanted: Identity | None, flags: int = os.O_RDONLY) -> int:
    """The directory that an open one is in, if it is still the one wanted; else -1."""
    try:
        fd = os.open("..", flags | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
    except OSError:
        return -1
    if identity(fd) == wanted:
        return fd
    os.close(fd)
    return -1


def _stretches(components: Iterable[bytes]) -> Iterator[list[bytes]]:
    stretch: list[bytes] = []
    room = _STRETCH
    for component in components:
        stretch.append(component)
        room -= len(component) + 1
        if room < 0:
            yield stretch
            stretch, room = [], _STRETCH
    if stretch:
        yield stretch


def _open_stretch(at: int, stretch: list[bytes]) -> int:
    try:
        return _openat2(at, b"/".join(stretch), _DIRECTORY, _CONFINED)
    except OSError as error:
        if error.errno not in _NO_OPENAT2:
            raise
    return _open_name_by_name(at, stretch)


def _open_name_by_name(at: int, stretch: Iterable[bytes]) -> int:
    at = os.dup(at)
    try:
        for name in stretch:
            below = os.open(name, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
    except BaseException:
        os.close(at)
        raise
    return at


def _openat2(parent: int, path: bytes, flags: int, resolve: int) -> int:
    how = _OpenHow(flags, 0, resolve)
    while True:
        fd: int = _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(parent),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):
            raise OSError(code, os.strerror(code), os.fsdecode(path))


def identity(fd: int) -> Identity:
    """Tells whether a handle that was opened again leads to the same directory."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def proc_path(fd: int, name: bytes) -> bytes:
    """A short path to a name in an open directory, for calls that take no directory handle.

    To be used without following a symbolic link at its end.
    """
    return b"/proc/self/fd/%d/%s" % (fd, name)
