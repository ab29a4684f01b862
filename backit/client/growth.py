"""Grows a snapshot's tree out of a scan: what is unchanged is kept, what is new is read.

The hot loop of every backup. It never waits for a chunk's name: an entry whose content is still on
its way queues up, and everything behind it, because the tree takes entries in order. For one
thread.
"""

from __future__ import annotations

import grp
import pwd
import stat as st
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from backit.client.contents import Contents, LargeFile, Placement
from backit.client.reader import Reader
from backit.engine.file_types import FORMAT_MASK, REGULAR, TYPE_OF
from backit.engine.merge import ParentCursor, is_unchanged
from backit.engine.tree import NewEntry, OnLeaf, TreeBuilder, detach
from backit.errors import Invalid
from backit.format.magic import DIRECTORY_LIMIT, KIB, MIB
from backit.format.node import encode_time
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from backit.client.outlet import Outlet
    from backit.client.problems import Problems
    from backit.client.reader import Where
    from backit.client.scan import Batch
    from backit.crypto.keys import DomainKeys
    from backit.engine.merge import Parent
    from backit.engine.tree import ChildInfo, Leaf

# Entries that wait for the name of a chunk before the oldest is waited for.
QUEUE_MAX = 20_000
# Entries that join the queue between two looks at its front.
DRAIN_EVERY = 64
# Memory for what waits in the queue: entries, and promises of large files' chunks.
BURDEN_MAX = 16 * MIB
PROMISE_BYTES = 2 * KIB
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

    def met(self, found: os.stat_result) -> None:
        self.entries += 1
        if found.st_mode & FORMAT_MASK == REGULAR:
            self.files += 1
            self.content_bytes += found.st_size

    def changed(self, found: os.stat_result) -> None:
        if found.st_mode & FORMAT_MASK == REGULAR:
            self.changed_files += 1
            self.changed_bytes += found.st_size


# An entry in the queue: new with its content, or kept from the parent.
_Queued = tuple[NewEntry, "Where"]


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
            keys, sender.node, user_name=_user_name, group_name=_group_name, on_leaf=on_leaf
        )
        self._queue: deque[_Queued | Parent] = deque()
        self._burden = 0
        self._links: OrderedDict[tuple[int, int], _Queued] = OrderedDict()

    def run(self, batches: Iterable[Batch], parent: Iterable[Leaf]) -> ChildInfo:
        """Take in everything the scan finds; returns the root. Everything is submitted, not yet
        durable.
        """
        cursor = ParentCursor(parent)
        counts, worn = self._counts, self._contents.worn
        for batch in batches:
            directory, fd = batch.directory, batch.fd
            self._directory = directory
            counts.path = directory
            if len(directory) > DIRECTORY_LIMIT:
                self._problems.failed(_path(directory, b""), "its path is too long to be saved")
                continue
            for name, found in batch.entries:
                old = None if cursor.is_done else cursor.find(directory, name)
                if (
                    old is not None
                    and is_unchanged(old[1][old[2]][1], found)
                    and not (worn and self._is_worn(old))
                ):
                    self._keep(old)
                else:
                    self._take(fd, name, found, old)
                counts.met(found)
            self._sender.check()
        self._contents.close()
        self._drain(everything=True)
        return self._tree.finish()

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

    def _keep(self, old: Parent) -> None:
        if self._queue:
            self._enqueue(old)
        else:
            self._tree.keep(*old)

    def _take(self, fd: int, name: bytes, found: os.stat_result, old: Parent | None) -> None:
        """Read what is new or has changed, and queue it."""
        queued = self._linked(name, found) if found.st_nlink > 1 else None
        if queued is None:
            try:
                queued = self._read(fd, name, found, old)
            except FileNotFoundError:
                self._skipped(name, "it vanished before it was read")
            except (OSError, Invalid) as error:
                if old is not None and is_unchanged(old[1][old[2]][1], found):
                    self._keep(old)  # it was only to be moved out of a worn bundle
                else:
                    self._report(name, _why(error))
        if queued is not None:
            new, where = queued
            self._burden += new.weight
            if isinstance(where, LargeFile):
                self._burden += PROMISE_BYTES * where.ahead
            self._enqueue(queued)

    def _read(
        self, fd: int, name: bytes, found: os.stat_result, old: Parent | None
    ) -> _Queued | None:
        if found.st_mode & FORMAT_MASK not in TYPE_OF:
            self._skipped(name, "a socket, or of a type that cannot be saved")
            return None
        old_hash = b""
        if old is not None and not self._is_worn(old):
            old_hash = old[1][old[2]][1].content_hash
        entry, where = self._reader.read(fd, name, found, old_hash)
        new = NewEntry(self._directory, entry)
        if old is not None and where is None and entry.content_hash:
            before = detach(old[0].node, *old[1][old[2]])
            new.extents, new.extent_tree = before.extents, before.extent_tree
        else:
            self._counts.changed(found)
        queued = (new, where)
        if found.st_nlink > 1 and entry.links and entry.content_hash:
            self._remember_link(queued)
        return queued

    def _linked(self, name: bytes, found: os.stat_result) -> _Queued | None:
        """Another name of a file that this run has read already."""
        if not st.S_ISREG(found.st_mode):
            return None
        first = self._links.get((found.st_dev, found.st_ino))
        if first is None or first[0].message.ctime != encode_time(found.st_ctime_ns):
            return None
        entry = pb.Entry()
        entry.CopyFrom(first[0].message)
        entry.name = name
        return NewEntry(self._directory, entry, first[0].extents, first[0].extent_tree), first[1]

    def _remember_link(self, queued: _Queued) -> None:
        entry = queued[0].message
        self._links[entry.link_device, entry.inode] = queued
        if len(self._links) > LINKS_MAX:
            self._links.popitem(last=False)

    def _enqueue(self, item: _Queued | Parent) -> None:
        queue = self._queue
        queue.append(item)
        waiting = len(queue)
        if not waiting % DRAIN_EVERY:
            self._drain(everything=False)
        if waiting > QUEUE_MAX or self._burden > BURDEN_MAX:
            self._contents.close()
            self._drain(everything=True)

    def _drain(self, *, everything: bool) -> None:
        """Give the tree what is ready at the front of the queue; with `everything` wait for the
        rest.
        """
        queue, tree = self._queue, self._tree
        while queue:
            item = queue[0]
            if len(item) == 3:
                tree.keep(*item)
            else:
                new, where = item
                if where is not None:
                    if not everything and not where.is_ready:
                        return
                    if isinstance(where, Placement):
                        new.extents = where.extents()
                    else:
                        new.extents, new.extent_tree = where.finish()
                tree.add(new)
            queue.popleft()
        self._burden = 0


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
