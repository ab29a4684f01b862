"""Inode flags (`chattr`, `lsattr`): the ones that belong to a file, read and set by descriptor.

Flags that describe how a filesystem stores a file (extents, hashed directories) are left out:
they are not the user's and cannot be set.
"""

import enum
import errno
import fcntl
import os
import struct
from pathlib import Path

# linux/fs.h: _IOR('f', 1, long) and _IOW('f', 2, long), though the kernel moves an int.
_LONG = struct.calcsize("l")
_GETFLAGS = 2 << 30 | _LONG << 16 | ord("f") << 8 | 1
_SETFLAGS = 1 << 30 | _LONG << 16 | ord("f") << 8 | 2


class Flag(enum.IntFlag):
    """The flags a backup has to keep, with the values of linux/fs.h (FS_*_FL)."""

    COMPRESS = 0x4
    SYNC = 0x8
    IMMUTABLE = 0x10
    APPEND = 0x20
    NODUMP = 0x40
    NOATIME = 0x80
    NOCOMPRESS = 0x400
    JOURNAL_DATA = 0x4000
    NOTAIL = 0x8000
    DIRSYNC = 0x10000
    TOPDIR = 0x20000
    NOCOW = 0x800000
    PROJINHERIT = 0x20000000
    CASEFOLD = 0x40000000


NONE = Flag(0)
KEPT = Flag(sum(Flag))


def _raw(fd: int) -> int:
    answer = fcntl.ioctl(fd, _GETFLAGS, bytes(_LONG))
    return int(struct.unpack_from("I", answer)[0])


def read(fd: int) -> Flag:
    """Tell the flags of an open file or directory; none where the filesystem has none."""
    try:
        return Flag(_raw(fd) & KEPT)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            return NONE
        raise


def change(fd: int, *, add: Flag = NONE, drop: Flag = NONE) -> None:
    """Set and clear flags, and check that they are so: btrfs ignores some in silence.

    Raises OSError when the filesystem refuses or ignores a flag.
    """
    wanted = _raw(fd) & ~drop | add
    fcntl.ioctl(fd, _SETFLAGS, struct.pack("I", wanted).ljust(_LONG, b"\0"))
    have = _raw(fd)
    if have & add != add or have & drop:
        raise OSError(errno.EOPNOTSUPP, f"inode flags {wanted:#x} were ignored")


def change_path(path: Path, *, add: Flag = NONE, drop: Flag = NONE) -> None:
    """Do the same as `change` to the file or directory at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        change(fd, add=add, drop=drop)
    finally:
        os.close(fd)
