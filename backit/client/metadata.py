"""What a file is beside its bytes: reads extended attributes, inode flags, holes. Sets nothing: see
imprint.py.
"""

from __future__ import annotations

import errno
import os
import struct
from fcntl import ioctl
from itertools import pairwise
from typing import TYPE_CHECKING

from backit.client.handles import (
    ENCODING,
    SURROGATES,
    open_directory,
    open_for_reading,
    proc_path,
)
from backit.format.node import FLAGS_MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "data_ranges",
    "open_directory",
    "open_for_reading",
    "read_attributes",
    "read_attributes_at",
    "read_attributes_of",
    "read_flags",
]

Attributes = tuple[tuple[bytes, bytes], ...]

# linux/fs.h: _IOR('f', 1, long), although the kernel fills an int only.
_GET_FLAGS = 0x80006601 | struct.calcsize("l") << 16
_FLAGS = struct.Struct("=I4x")
_ROOM = bytes(_FLAGS.size)
_NO_FLAGS = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM)

# Holes kept of one file: half of what an entry may weigh. The smallest above are read as data.
HOLES_MAX = 65_536


def read_attributes(fd: int) -> Attributes:
    """Extended attributes of an open file or directory, by name. Raises OSError.

    ACLs and capabilities are among them. A file system without any has none.
    """
    try:
        names = os.listxattr(fd)
    except OSError as error:
        return _none(error)
    if not names:
        return ()
    return _read(names, lambda name: os.getxattr(fd, name))


def read_attributes_at(parent: int, name: bytes) -> Attributes:
    """The same of a name in an open directory that is not to be opened: a link, pipe or device."""
    return _read_path(proc_path(parent, name), follow=False)


def read_attributes_of(path: bytes) -> Attributes:
    """The same through a path that the kernel resolves to an open file."""
    return _read_path(path, follow=True)


def _read_path(path: bytes, *, follow: bool) -> Attributes:
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        return _none(error)
    return _read(names, lambda name: os.getxattr(path, name, follow_symlinks=follow))


def _none(error: OSError) -> Attributes:
    if error.errno == errno.EOPNOTSUPP:
        return ()
    raise error


def _read(names: Sequence[str], get: Callable[[bytes], bytes]) -> Attributes:
    found: list[tuple[bytes, bytes]] = []
    for name in names:
        raw = name.encode(ENCODING, SURROGATES)
        try:
            found.append((raw, get(raw)))
        except OSError as error:
            # Gone again, or a name that the file system lists but does not hold.
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
    found.sort()
    return tuple(found)


def read_flags(fd: int) -> int:
    """Inode flags of an open file or directory, masked as FORMAT.md says; 0 if it has none."""
    return all_flags(fd) & FLAGS_MASK


def all_flags(fd: int) -> int:
    """Inode flags without the mask."""
    try:
        found = ioctl(fd, _GET_FLAGS, _ROOM)
    except OSError as error:
        if error.errno not in _NO_FLAGS:
            raise
        return 0
    flags: int = _FLAGS.unpack(found)[0]
    return flags


def data_ranges(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what is not a hole, ascending, below `size`. Raises OSError.

    Moves the file's position. Of more than 65,536 holes the smallest are taken for data.
    """
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            if start >= size:
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            if error.errno == errno.EINVAL:  # a file system that knows no holes
                return [(0, size)]
            raise
        ranges.append((start, min(at, size) - start))
    return ranges if len(ranges) <= HOLES_MAX else without_small_holes(ranges)


def without_small_holes(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges with only as many holes between them as an entry has room for, the largest."""
    gaps = [after[0] - (before[0] + before[1]) for before, after in pairwise(ranges)]
    smallest = sorted(gaps, reverse=True)[HOLES_MAX - 2]
    room = HOLES_MAX - 2 - sum(1 for gap in gaps if gap > smallest)
    joined = [ranges[0]]
    for gap, (start, length) in zip(gaps, ranges[1:], strict=True):
        keeps = gap > smallest or (gap == smallest and room > 0)
        if keeps:
            room -= gap == smallest
            joined.append((start, length))
        else:
            joined[-1] = (joined[-1][0], start + length - joined[-1][0])
    return joined
