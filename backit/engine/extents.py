"""Where the data of large files lies: the tree of more than 64 extents, and the hash of their list
(FORMAT.md section 6).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.engine.leaf import Extent
from backit.engine.levels import ChildInfo, Emit, Levels, make_node
from backit.errors import Damaged
from backit.format.magic import EXTENTS_LIMIT, INLINE_EXTENTS_LIMIT, LARGE_FILE
from backit.format.node import data_size
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backit.crypto.keys import DomainKeys
    from backit.engine.walk import Load
    from backit.format.node import Node

LEAF_MIN = 32
THRESHOLD = 2**32 // 96
READ_AHEAD = 16

_U32 = struct.Struct("<I")
_PLACE = struct.Struct("<32sII")


class ExtentsBuilder:
    """Takes a file's extents in order. Memory grows with the logarithm of their number."""

    def __init__(self, keys: DomainKeys, emit: Emit) -> None:
        self._keys = keys
        self._emit = emit
        self._inline: list[Extent] = []
        self._open: list[Extent] = []
        self._levels = Levels(keys, emit, lambda _level, child: _may_end(child.chunk))
        self._count = 0

    def add(self, extent: Extent) -> None:
        self._count += 1
        if self._count <= INLINE_EXTENTS_LIMIT:
            self._inline.append(extent)
            return
        for early in self._inline:
            self._add_to_leaf(early)
        self._inline = []
        self._add_to_leaf(extent)

    def finish(self) -> tuple[Sequence[Extent], ChunkId | None]:
        """The extents themselves if they are few, else the root of their tree."""
        if self._count <= INLINE_EXTENTS_LIMIT:
            return self._inline, None
        if self._open:
            self._close_leaf()
        return (), self._levels.finish().chunk

    def _add_to_leaf(self, extent: Extent) -> None:
        self._open.append(extent)
        count = len(self._open)
        if count >= EXTENTS_LIMIT or (count >= LEAF_MIN and _may_end(extent.chunk)):
            self._close_leaf()

    def _close_leaf(self) -> None:
        extents, self._open = self._open, []
        self._levels.add(_make_leaf(extents, self._keys, self._emit))


class ExtentList:
    """The content hash of a large file, from its extents in order."""

    def __init__(self, keys: DomainKeys) -> None:
        self._hasher = primitives.keyed_hasher(keys.content_list_key)

    def add(self, extent: Extent) -> None:
        self._hasher.update(_PLACE.pack(extent.chunk.raw, extent.offset, extent.length))

    def digest(self) -> bytes:
        return self._hasher.digest()


def list_hash(keys: DomainKeys, *extents: Extent) -> bytes:
    """The same of a few extents."""
    listed = ExtentList(keys)
    for extent in extents:
        listed.add(extent)
    return listed.digest()


def is_listed(entry: pb.Entry) -> bool:
    """Whether the content hash of a file with data is that of the list of its extents."""
    return len(entry.extents) != 1 or data_size(entry) >= LARGE_FILE


def extents_of(entry: pb.Entry, leaf: Node, load: Load) -> Iterator[Extent]:
    """A file's extents in file order, wherever they stand. Raises Damaged.

    Their lengths add up to the file's data, or Damaged is raised before the first one too many.
    """
    if not entry.extent_tree:
        yield from _resolve(entry.extents, leaf.references)
        return
    left = data_size(entry)
    root = leaf.references[entry.extent_tree - 1]
    for extent in _walk([root], None, load):
        left -= extent.length
        if left < 0:
            break
        yield extent
    if left:
        raise Damaged(f"node {root}: its extents do not add up to the data of {entry.name!r}")


def _may_end(chunk: ChunkId) -> bool:
    return bool(_U32.unpack(chunk.raw[-4:])[0] < THRESHOLD)


def _make_leaf(extents: Sequence[Extent], keys: DomainKeys, emit: Emit) -> ChildInfo:
    table = sorted({extent.chunk.raw for extent in extents})
    index = {raw: position for position, raw in enumerate(table)}
    node = pb.Node()
    for extent in extents:
        node.extents.add(chunk=index[extent.chunk.raw], offset=extent.offset, length=extent.length)
    sealable = make_node(node, [ChunkId(raw) for raw in table], keys)
    emit(sealable)
    return ChildInfo(sealable.chunk, b"", len(extents), sum(e.length for e in extents))


def _walk(wanted: Sequence[ChunkId], level: int | None, load: Load) -> Iterator[Extent]:
    """What lies below nodes that are all of one level; None: a root, of any."""
    for start in range(0, len(wanted), READ_AHEAD):
        window = wanted[start : start + READ_AHEAD]
        for chunk, node in zip(window, load(window), strict=True):
            found = node.message
            if level is not None and found.level != level:
                raise Damaged(
                    f"node {chunk}: it is of level {found.level}, its parent says {level}"
                )
            if node.is_leaf and found.extents:
                yield from _resolve(found.extents, node.references)
            elif found.children and not found.children[0].first_key:
                below = [node.references[child.node] for child in found.children]
                yield from _walk(below, found.level - 1, load)
            else:
                raise Damaged(f"node {chunk}: it holds no extents")


def _resolve(extents: Iterable[pb.Extent], references: Sequence[ChunkId]) -> Iterator[Extent]:
    for extent in extents:
        yield Extent(references[extent.chunk], extent.offset, extent.length)
