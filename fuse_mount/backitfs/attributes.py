"""Entries and folders as FUSE wants to see them: attributes filled in, nothing decided."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyfuse3

from backit.engine.file_types import DEVICES, full_mode
from backit.format.magic import MIB
from backit.format.node import TIME_OFFSET, data_size
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from backitfs.view import Item

# Seconds for which the kernel may keep what it knows: inside a snapshot nothing ever changes.
FOR_LONG = 3600.0
FOR_NOW = 1.0

BLOCK, UNIT = 4096, 512
# A reader that asks takes steps of this size.
BEST_READ = MIB

_REGULAR, _SYMLINK = pb.FILE_TYPE_REGULAR, pb.FILE_TYPE_SYMLINK


@dataclass(frozen=True, slots=True)
class Owner:
    """Who mounted: owns the levels above the snapshots, and everything if `owns_all`."""

    uid: int
    gid: int
    owns_all: bool = False


def of_item(item: Item, number: int, owner: Owner) -> pyfuse3.EntryAttributes:
    """An entry's attributes as they were saved. Directories have 1 link, as on btrfs."""
    entry = item.entry
    kind = entry.type
    found = pyfuse3.EntryAttributes()
    found.st_ino = number
    found.entry_timeout = found.attr_timeout = FOR_LONG
    found.st_mode = full_mode(entry)
    found.st_nlink = entry.links or 1
    if owner.owns_all:
        found.st_uid, found.st_gid = owner.uid, owner.gid
    else:
        found.st_uid, found.st_gid = entry.uid, entry.gid
    if kind == _REGULAR:
        found.st_size = entry.size
        found.st_blocks = -(-data_size(entry) // BLOCK) * (BLOCK // UNIT)
    elif kind == _SYMLINK:
        found.st_size = len(entry.target)
    elif kind in DEVICES:
        found.st_rdev = os.makedev(entry.device_major, entry.device_minor)
    modified = entry.mtime - TIME_OFFSET
    found.st_atime_ns = found.st_mtime_ns = modified
    found.st_ctime_ns = entry.ctime - TIME_OFFSET
    return found


def of_folder(number: int, owner: Owner, changed: int, timeout: float) -> pyfuse3.EntryAttributes:
    """A folder that is in no snapshot; `changed` in Unix nanoseconds."""
    return _made_up(number, stat.S_IFDIR | 0o555, owner, changed, timeout)


def of_link(number: int, target: bytes, owner: Owner, changed: int) -> pyfuse3.EntryAttributes:
    """A link that is in no snapshot and may change."""
    found = _made_up(number, stat.S_IFLNK | 0o777, owner, changed, FOR_NOW)
    found.st_size = len(target)
    return found


def of_dot(number: int) -> pyfuse3.EntryAttributes:
    """Of "." or "..", of which the kernel takes the number and nothing else."""
    found = pyfuse3.EntryAttributes()
    found.st_ino = number
    found.st_mode = stat.S_IFDIR
    return found


def absent(timeout: float) -> pyfuse3.EntryAttributes:
    """The kernel may remember for so long that there is nothing of that name."""
    found = pyfuse3.EntryAttributes()
    found.st_ino = 0
    found.entry_timeout = timeout
    return found


def _made_up(
    number: int, mode: int, owner: Owner, changed: int, timeout: float
) -> pyfuse3.EntryAttributes:
    found = pyfuse3.EntryAttributes()
    found.st_ino = number
    found.entry_timeout = found.attr_timeout = timeout
    found.st_mode = mode
    found.st_uid, found.st_gid = owner.uid, owner.gid
    found.st_atime_ns = found.st_mtime_ns = found.st_ctime_ns = changed
    return found
