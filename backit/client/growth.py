"""Grows a snapshot's tree out of a scan: what is unchanged is kept, what is new is read.

The hot loop of every backup. It never waits for a chunk's name: the tree lets leaves wait whose
contents are still on their way. For one thread.
"""

from __future__ import annotations

import grp
import pwd
import stat as st
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from backit.client.reader import Reader
from backit.engine.file_types import FORMAT_MASK, REGULAR, TYPE_OF
from backit.engine.leaf import NewEntry, detach
from backit.engine.merge import ParentCursor, is_unchanged
from backit.engine.tree import OnLeaf, TreeBuilder
from backit.errors import Invalid
from backit.format.magic import DIRECTORY_LIMIT
from backit.format.node import encode_time
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from backit.client.contents import Contents
    from backit.client.outlet import Outlet
    from backit.client.problems import Problems
    from backit.client.scan import Batch
    from backit.crypto.keys import DomainKeys
    from backit.engine.levels import ChildInfo
    from backit.engine.merge import Parent, Scanned
    from backit.engine.tree import Leaf

# Hard-linked files whose content is remembered until their next name turns up.
LINKS_MAX = 100_000


@dataclass(slots=True)
class Counts:
    """What has been met so far; read by others while it changes."""

    entries: int = 0
    files: int = 0
    content_bytes: int = 0
    changed_files: int = 0
    changed_bytes: int = 0
    path: bytes = b""

    def take(self, other: Counts) -> None:
        """Become equal to what another process has counted."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def met(self, entries: Sequence[Scanned]) -> None:
        sizes = [each.st_size for _name, each in entries if each.st_mode & FORMAT_MASK == REGULAR]
        self.entries += len(entries)
        self.files += len(sizes)
        self.content_bytes += sum(sizes)

    def changed(self, found: os.stat_result) -> None:
        if found.st_mode & FORMAT_MASK == REGULAR:
            self.changed_files += 1
            self.changed_bytes += found.st_size


class Growth:
    """One snapshot's tree while it grows."""

    def __init__(
        self,
        sender: Outlet,
        keys: DomainKeys,
        contents: Contents,
        *,
        counts: Counts,
        problems: Problems,
        on_leaf: OnLeaf,
    ) -> None:
        self._contents = contents
        self._sender = sender
        self._counts = counts
        self._problems = problems
        self._directory = b""
        self._reader = Reader(self._contents, sender, keys, self._report)
        self._tree = TreeBuilder(
            keys,
            sender.node,
            user_name=_user_name,
            group_name=_group_name,
            on_leaf=on_leaf,
            hurry=contents.close,
        )
        self._links: OrderedDict[tuple[int, int], NewEntry] = OrderedDict()

    def run(self, batches: Iterable[Batch], parent: Iterable[Leaf]) -> ChildInfo:
        """Take in everything the scan finds; returns the root. Everything is submitted, not yet
        durable.
        """
        cursor = ParentCursor(parent)
        counts = self._counts
        for batch in batches:
            directory, fd = batch.directory, batch.fd
            self._directory = directory
            counts.path = directory
            if len(directory) > DIRECTORY_LIMIT:
                self._problems.failed(_path(directory, b""), "its path is too long to be saved")
                continue
            self._take_in(directory, fd, batch.entries, cursor)
            counts.met(batch.entries)
            self._sender.check()
        return self._tree.finish()

    def _take_in(
        self, directory: bytes, fd: int, scanned: Sequence[Scanned], cursor: ParentCursor
    ) -> None:
        """Entries of one directory, in key order."""
        worn = self._contents.worn
        at = 0
        while at < len(scanned):
            if not (cursor.is_done or worn):
                run = cursor.unchanged(directory, scanned, at)
                if run is not None:
                    self._tree.keep(*run[0], run[1])
                    at += run[1]
                    continue
            name, found = scanned[at]
            at += 1
            old = None if cursor.is_done else cursor.find(directory, name)
            if (
                old is not None
                and is_unchanged(old[1][old[2]][1], found)
                and not (worn and self._is_worn(old))
            ):
                self._tree.keep(*old)
            else:
                self._take(fd, name, found, old)

    def _is_worn(self, old: Parent) -> bool:
        """Whether the entry's content lies in a bundle that is to be given up."""
        leaf, flat, index = old
        entry = flat[index][1]
        if len(entry.extents) != 1:
            return False
        return leaf.node.references[entry.extents[0].chunk] in self._contents.worn

    def _report(self, name: bytes, why: str) -> None:
        self._problems.failed(_path(self._directory, name), why)

    def _skipped(self, name: bytes, why: str) -> None:
        self._problems.skipped(_path(self._directory, name), why)

    def _take(self, fd: int, name: bytes, found: os.stat_result, old: Parent | None) -> None:
        """Read what is new or has changed."""
        new = self._linked(name, found) if found.st_nlink > 1 else None
        if new is None:
            try:
                new = self._read(fd, name, found, old)
            except FileNotFoundError:
                self._skipped(name, "it vanished before it was read")
            except (OSError, Invalid) as error:
                if old is not None and is_unchanged(old[1][old[2]][1], found):
                    self._tree.keep(*old)  # it was only to be moved out of a worn bundle
                else:
                    self._report(name, _why(error))
        if new is not None:
            self._tree.add(new)

    def _read(
        self, fd: int, name: bytes, found: os.stat_result, old: Parent | None
    ) -> NewEntry | None:
        if found.st_mode & FORMAT_MASK not in TYPE_OF:
            self._skipped(name, "a socket, or of a type that cannot be saved")
            return None
        old_hash = b""
        if old is not None and not self._is_worn(old):
            old_hash = old[1][old[2]][1].content_hash
        new = self._reader.read(self._directory, fd, name, found, old_hash)
        if old is not None and new.content is None and new.message.content_hash:
            before = detach(old[0].node, *old[1][old[2]])
            new.extents, new.extent_tree = before.extents, before.extent_tree
        else:
            self._counts.changed(found)
        if found.st_nlink > 1 and new.message.links:
            self._remember_link(new)
        return new

    def _linked(self, name: bytes, found: os.stat_result) -> NewEntry | None:
        """Another name of a file that this run has read already."""
        if not st.S_ISREG(found.st_mode):
            return None
        first = self._links.get((found.st_dev, found.st_ino))
        if first is None or first.message.ctime != encode_time(found.st_ctime_ns):
            return None
        entry = pb.Entry()
        entry.CopyFrom(first.message)
        entry.name = name
        return NewEntry(self._directory, entry, first.extents, first.extent_tree, first.content)

    def _remember_link(self, new: NewEntry) -> None:
        entry = new.message
        if new.content is None and not entry.content_hash:
            return  # without data nothing is saved by remembering it
        self._links[entry.link_device, entry.inode] = new
        if len(self._links) > LINKS_MAX:
            self._links.popitem(last=False)


def _path(directory: bytes, name: bytes) -> bytes:
    return b"/" + directory.replace(b"\0", b"/") + name


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)


@cache
def _user_name(uid: int) -> str:
    try:
        return _text(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return ""


@cache
def _group_name(gid: int) -> str:
    try:
        return _text(grp.getgrgid(gid).gr_name)
    except KeyError:
        return ""


def _text(name: str) -> str:
    """What is no UTF-8 in the machine's user database has no place in a message."""
    return name.encode(errors="replace").decode()
