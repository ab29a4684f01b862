"""A backup and its store in memory, for tests of what reads and writes files: real trees, real
nodes, no appliance, no sealing.

Small files share chunks as bundles do, larger ones are cut every so many bytes.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backit.client import metadata
from backit.client.excludes import Excludes
from backit.client.outcome import RestoreOptions, RestoreResult, Silent
from backit.client.restore import Restore
from backit.client.scan import Scanner
from backit.crypto import primitives
from backit.crypto.keys import DomainKeys
from backit.engine.extents import ExtentList, ExtentsBuilder
from backit.engine.leaf import Extent, NewEntry, Where
from backit.engine.levels import Sealable
from backit.engine.tree import TreeBuilder
from backit.errors import BackitError, NotFound
from backit.format import node, record
from backit.format.magic import LARGE_FILE, Kind
from backit.format.node import Node, encode_time, entry_key
from backit.format.record import Plain
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId, DomainId

NUMERIC = RestoreOptions(numeric_ids=True)
KEYS = DomainKeys(DomainId(bytes(16)), bytes(32))

TYPES = {
    stat.S_IFREG: pb.FILE_TYPE_REGULAR,
    stat.S_IFDIR: pb.FILE_TYPE_DIRECTORY,
    stat.S_IFLNK: pb.FILE_TYPE_SYMLINK,
    stat.S_IFIFO: pb.FILE_TYPE_FIFO,
    stat.S_IFCHR: pb.FILE_TYPE_CHARACTER,
    stat.S_IFBLK: pb.FILE_TYPE_BLOCK,
}


@dataclass
class Shelf:
    """Chunks and nodes by id. `broken` says which chunks cannot be had, and why."""

    chunks_held: dict[ChunkId, bytes] = field(default_factory=dict[ChunkId, bytes])
    nodes: dict[ChunkId, Plain] = field(default_factory=dict[ChunkId, Plain])
    broken: dict[ChunkId, BackitError] = field(default_factory=dict[ChunkId, BackitError])
    asked: list[ChunkId] = field(default_factory=list[ChunkId])
    backwards: bool = False

    def put(self, data: bytes) -> ChunkId:
        chunk = record.data_id(KEYS, data)
        self.chunks_held[chunk] = data
        return chunk

    def emit(self, sealable: Sealable) -> None:
        plain = Plain(Kind.NODE, sealable.references, sealable.plaintext)
        self.nodes[sealable.chunk] = plain

    def load(self, ids: Sequence[ChunkId]) -> Iterator[Node]:
        for chunk in ids:
            if chunk not in self.nodes:
                raise NotFound(f"node {chunk}: the appliance does not have it")
            yield node.decode(self.nodes[chunk], chunk)

    def chunks(self, ids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, bytes | BackitError]]:
        for chunk in reversed(ids) if self.backwards else ids:
            self.asked.append(chunk)
            yield chunk, self.broken.get(chunk, self.chunks_held[chunk])


@dataclass
class Item:
    """An entry and the content it is to have."""

    directory: bytes
    entry: pb.Entry
    data: bytes = b""


@dataclass
class Saver:
    """Turns items, in key order, into a snapshot on a shelf."""

    shelf: Shelf = field(default_factory=Shelf)
    bundle: int = 64 * 1024
    cut: int = 256 * 1024
    users: dict[int, str] = field(default_factory=dict[int, str])

    def save(self, items: Iterable[Item]) -> ChunkId:
        builder = TreeBuilder(
            KEYS,
            self.shelf.emit,
            user_name=lambda uid: self.users.get(uid, ""),
        )
        waiting: list[tuple[NewEntry, bytes]] = []
        held = 0
        for item in items:
            new = NewEntry(item.directory, item.entry)
            if item.data:
                item.entry.content_hash = primitives.keyed_digest(KEYS.content_key, item.data)
            if len(item.data) >= self.cut:
                new.extents, new.extent_tree, hash_of_list = self._large(item.data)
                if len(new.extents) != 1 or len(item.data) >= LARGE_FILE:
                    item.entry.content_hash = hash_of_list
                item.data = b""
            waiting.append((new, item.data))
            held += len(item.data)
            if held >= self.bundle or len(waiting) > 1000:
                self._close_bundle(builder, waiting)
                held = 0
        self._close_bundle(builder, waiting)
        return builder.finish().chunk

    def _large(self, data: bytes) -> Where:
        extents, listed = ExtentsBuilder(KEYS, self.shelf.emit), ExtentList(KEYS)
        for start in range(0, len(data), self.cut):
            piece = data[start : start + self.cut]
            extent = Extent(self.shelf.put(piece), 0, len(piece))
            extents.add(extent)
            listed.add(extent)
        return *extents.finish(), listed.digest()

    def _close_bundle(self, builder: TreeBuilder, waiting: list[tuple[NewEntry, bytes]]) -> None:
        together = b"".join(data for _new, data in waiting)
        chunk = self.shelf.put(together) if together else None
        at = 0
        for new, data in waiting:
            if data and chunk is not None:
                new.extents = (Extent(chunk, at, len(data)),)
                at += len(data)
            builder.add(new)
        waiting.clear()


def read_items(source: bytes, excludes: Excludes | None = None) -> Iterator[Item]:
    """What a backup of a path would save."""
    scanner = Scanner(
        [source], excludes=excludes or Excludes(), one_file_system=False, report=_ignore
    )
    for batch in scanner.batches():
        for name, found in batch.entries:
            yield _item(batch.directory, batch.fd, name, found)


def _ignore(_path: bytes, _why: str, _severity: str) -> None:
    pass


def _item(directory: bytes, at: int, name: bytes, found: os.stat_result) -> Item:
    entry = pb.Entry(
        name=name,
        type=TYPES[stat.S_IFMT(found.st_mode)],
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime=encode_time(found.st_mtime_ns),
        inode=found.st_ino,
    )
    if entry.type != pb.FILE_TYPE_DIRECTORY and found.st_nlink > 1:
        entry.links, entry.link_device = found.st_nlink, found.st_dev
    data = b""
    if entry.type == pb.FILE_TYPE_REGULAR:
        data, attributes = _read_file(at, name, found, entry)
    elif entry.type == pb.FILE_TYPE_DIRECTORY:
        fd = metadata.open_directory(at, name)
        entry.flags = metadata.read_flags(fd)
        attributes = metadata.read_attributes(fd)
        os.close(fd)
    else:
        attributes = metadata.read_attributes_at(at, name)
        if entry.type == pb.FILE_TYPE_SYMLINK:
            entry.target = os.readlink(name, dir_fd=at)
        elif entry.type != pb.FILE_TYPE_FIFO:
            entry.device_major = os.major(found.st_rdev)
            entry.device_minor = os.minor(found.st_rdev)
    for key, value in attributes:
        entry.attributes.add(name=key, value=value)
    return Item(directory, entry, data)


def _read_file(
    at: int, name: bytes, found: os.stat_result, entry: pb.Entry
) -> tuple[bytes, metadata.Attributes]:
    fd = metadata.open_for_reading(at, name)
    try:
        entry.size = found.st_size
        entry.flags = metadata.read_flags(fd)
        pieces: list[bytes] = []
        end = 0
        for offset, length in metadata.data_ranges(fd, found.st_size):
            if offset > end:
                entry.holes.add(offset=end, length=offset - end)
            pieces.append(os.pread(fd, length, offset))
            end = offset + length
        if end < found.st_size:
            entry.holes.add(offset=end, length=found.st_size - end)
        return b"".join(pieces), metadata.read_attributes(fd)
    finally:
        os.close(fd)


def in_order(items: Iterable[Item]) -> list[Item]:
    """Items as a scan would give them."""
    return sorted(items, key=lambda item: entry_key(item.directory, item.entry.name))


def components(path: str | os.PathLike[str]) -> list[bytes]:
    """A path as a restore names a subtree."""
    return [part for part in os.fsencode(path).split(b"/") if part]


def file_entry(name: bytes, data: bytes = b"", **fields: int) -> pb.Entry:
    """A regular file of the person who runs the tests."""
    entry = pb.Entry(name=name, type=pb.FILE_TYPE_REGULAR, mode=0o644, size=len(data))
    return _owned(entry, fields)


def directory_entry(name: bytes, **fields: int) -> pb.Entry:
    return _owned(pb.Entry(name=name, type=pb.FILE_TYPE_DIRECTORY, mode=0o755), fields)


def symlink_entry(name: bytes, target: bytes) -> pb.Entry:
    entry = pb.Entry(name=name, type=pb.FILE_TYPE_SYMLINK, mode=0o777, target=target)
    return _owned(entry, {})


def _owned(entry: pb.Entry, fields: dict[str, int]) -> pb.Entry:
    entry.uid, entry.gid = os.geteuid(), os.getegid()
    entry.mtime = encode_time(10**18)
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry


def restore(
    root: ChunkId,
    shelf: Shelf,
    target: Path,
    subtree: Sequence[bytes] = (),
    options: RestoreOptions = NUMERIC,
    progress: Silent | None = None,
) -> RestoreResult:
    return Restore(
        root,
        shelf.load,
        shelf,
        KEYS,
        subtree=subtree,
        target=target,
        options=options,
        progress=progress,
    ).run()
