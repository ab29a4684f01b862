"""Makes one file, link or device below an open directory: whole under its name, or not there at
all.

A regular file has no name (O_TMPFILE), or where the file system cannot do that a temporary one,
until its content is right and its metadata is on it. Whatever stands at a name that is to be
replaced stays until the very moment its successor takes the name. Nothing here follows a symbolic
link or opens a path.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat as st
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.client.handles import open_for_reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.handles import Identity
    from backit.engine.plan import Layout

TEMPORARY_PREFIX = b".backit-restore-"
_TEMPORARY_LENGTH = len(TEMPORARY_PREFIX) + 32

_HASH_BLOCK = 1 << 20

# The target takes nothing more: every other file would fail the same way.
FULL = (errno.ENOSPC, errno.EDQUOT)
_ENDING = (*FULL, errno.EROFS)
# How file systems say that they do not know O_TMPFILE, and links.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_NO_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


def is_ending(error: BaseException) -> bool:
    """Whether an error means that the target takes nothing more, so that the run has to end."""
    return isinstance(error, OSError) and error.errno in _ENDING


def temporary_name() -> bytes:
    return TEMPORARY_PREFIX + secrets.token_hex(16).encode()


def is_temporary(name: bytes) -> bool:
    """Whether a restore that was killed may have left this name behind."""
    return len(name) == _TEMPORARY_LENGTH and name.startswith(TEMPORARY_PREFIX)


class NewFile:
    """A regular file on its way. It must end in `publish` or `discard`, with the directory open
    until then.
    """

    __slots__ = ("_name", "directory", "fd")

    def __init__(self, directory: int, device: int, nameless: Nameless, mode: int) -> None:
        """`mode` is the one it will have in the end, as far as the umask lets it."""
        self.directory = directory
        self._name: bytes | None = None
        mode &= 0o777
        fd = nameless.open(directory, device, mode)
        if fd is None:
            self._name = temporary_name()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._name, flags, mode, dir_fd=directory)
        self.fd = fd

    def write(self, data: memoryview, at: int, layout: Layout | None) -> None:
        """Write a run of the file's data that starts at `at` of it; without a layout there are no
        holes.
        """
        if layout is None:
            _write(self.fd, data, at)
            return
        for offset, start, length in layout.places(at, len(data)):
            _write(self.fd, data[start : start + length], offset)

    def publish(self, name: bytes, *, replace: bool) -> None:
        """Give it its name. Raises FileExistsError if that is taken and not to be replaced, or
        OSError.

        The handle stays open: some flags can only be set now.
        """
        if self._name is None:
            if not replace:
                self._link(name)
                return
            self._name = temporary_name()
            try:
                self._link(self._name)
            except BaseException:
                self._name = None
                raise
        if replace or not self._move_to_free(name):
            os.rename(self._name, name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        self._name = None

    def close(self) -> None:
        os.close(self.fd)

    def discard(self) -> None:
        """Leave nothing behind."""
        os.close(self.fd)
        if self._name is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self.directory)

    def _link(self, name: bytes) -> None:
        os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self.directory, follow_symlinks=True)

    def _move_to_free(self, name: bytes) -> bool:
        """Move from the temporary name, but never onto another file. False where links are not
        known.
        """
        if self._name is None:
            return True
        at = self.directory
        try:
            os.link(self._name, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            if exists(at, name):
                raise FileExistsError(errno.EEXIST, "it exists", os.fsdecode(name)) from None
            return False
        os.unlink(self._name, dir_fd=at)
        return True


class Nameless:
    """Opens files without names, and remembers which file systems cannot."""

    def __init__(self) -> None:
        self._unable: set[int] = set()

    def open(self, directory: int, device: int, mode: int) -> int | None:
        """None if this file system has no files without names. Raises OSError."""
        if device in self._unable:
            return None
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(b".", flags, mode, dir_fd=directory)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            self.open_nothing_on(device)
            return None

    def open_nothing_on(self, device: int) -> None:
        """This file system has no files without names."""
        self._unable.add(device)


def _write(fd: int, data: memoryview, offset: int) -> None:
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def exists(directory: int, name: bytes) -> bool:
    return look(directory, name) is not None


def look(directory: int, name: bytes) -> os.stat_result | None:
    """What stands at a name; None for nothing. Raises OSError."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Special:
    """A symbolic link (its target), a pipe, or a device (its number)."""

    kind: int
    target: bytes = b""
    device: int = 0

    def make(self, directory: int, name: bytes) -> None:
        if self.kind == st.S_IFLNK:
            os.symlink(self.target, name, dir_fd=directory)
        else:
            os.mknod(name, self.kind | 0o600, self.device, dir_fd=directory)


def make_special(
    directory: int,
    name: bytes,
    special: Special,
    imprint: Callable[[bytes], None],
    *,
    replace: bool,
) -> Identity:
    """Make it; `imprint` gets a path that leads to it and nowhere else. Raises OSError."""
    where = temporary_name() if replace else name
    special.make(directory, where)
    try:
        handle = os.open(where, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            found = os.fstat(handle)
            # Somebody else's file, put in its place meanwhile, must not get its owner.
            if found.st_nlink != 1 or st.S_IFMT(found.st_mode) != special.kind:
                raise FileExistsError(errno.EEXIST, "it was replaced while it was being restored")
            imprint(b"/proc/self/fd/%d" % handle)
        finally:
            os.close(handle)
        if replace:
            os.rename(where, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        if replace:
            with suppress(OSError):
                os.unlink(where, dir_fd=directory)
        raise
    return found.st_dev, found.st_ino


def remove_directory(directory: int, name: bytes) -> None:
    """Take away a directory that is in the way, if it is empty. Raises OSError."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        why = "a directory that is not empty is in its place"
        raise IsADirectoryError(errno.EISDIR, why) from None


def make_link(source: tuple[int, bytes], directory: int, name: bytes, *, replace: bool) -> None:
    """A further name for the file at `source`, which is a name below a handle. Raises OSError."""
    at, old = source
    if not replace:
        os.link(old, name, src_dir_fd=at, dst_dir_fd=directory, follow_symlinks=False)
        return
    temporary = temporary_name()
    os.link(old, temporary, src_dir_fd=at, dst_dir_fd=directory, follow_symlinks=False)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        # rename() leaves both names where they are the same file already.
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)


def hash_content(
    directory: int, name: bytes, layout: Layout, update: Callable[[bytes], object]
) -> bool:
    """Feed the data of a file of the target to `update`, as if it had a snapshot's holes. Raises
    OSError.

    False if it is not of that shape: there is data where the holes should be, or it has another
    length.
    """
    fd = open_for_reading(directory, name)
    try:
        found = os.fstat(fd)
        if not st.S_ISREG(found.st_mode) or found.st_size != layout.size:
            return False
        at = 0
        for offset, length in layout.stretches():
            if not _is_hole(fd, at, offset) or not _feed(fd, offset, length, update):
                return False
            at = offset + length
        return _is_hole(fd, at, layout.size)
    finally:
        os.close(fd)


def _feed(fd: int, offset: int, length: int, update: Callable[[bytes], object]) -> bool:
    end = offset + length
    while offset < end:
        data = os.pread(fd, min(_HASH_BLOCK, end - offset), offset)
        if not data:
            return False
        update(data)
        offset += len(data)
    return True


def _is_hole(fd: int, start: int, end: int) -> bool:
    """Whether a range reads as zeros."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return True
            if error.errno != errno.EINVAL:
                raise
        if start < end:
            data = os.pread(fd, min(_HASH_BLOCK, end - start), start)
            if not data or data.count(0) != len(data):
                return False
            start += len(data)
    return True
