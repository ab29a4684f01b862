"""Where a file's bytes lie: from an offset to pieces of chunks, and to holes.

Pure, like view. Extents stand in the entry, or in a tree of which only the nodes on the way to the
offset are needed, so a file of any size costs little memory. Pieces are computed by bisection:
never by walking a list of extents from the start.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from backit.errors import Damaged
from backit.format.node import data_size
from backitfs.view import NotLoaded, following

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backit.format.v1 import tree_pb2 as pb
    from backit.ids import ChunkId
    from backitfs.view import Item, Nodes, Opened


def layout_of(item: Item, nodes: Nodes) -> OnePiece | FileLayout:
    """How to find the bytes of a regular file."""
    extents = item.entry.extents
    # Holes would make the file longer than its only extent.
    if len(extents) == 1 and extents[0].length == item.entry.size:
        return OnePiece(item.leaf.references[extents[0].chunk], extents[0])
    return FileLayout(item, nodes)


class Piece(NamedTuple):
    """A run of a file's bytes: in a chunk, or, without one, zeros."""

    chunk: ChunkId | None
    offset: int
    length: int


class _Run(NamedTuple):
    """Extents that stand together, and where each begins in the file's data."""

    extents: Sequence[pb.Extent]
    starts: Sequence[int]
    end: int
    references: Sequence[ChunkId]


class OnePiece:
    """A file that is one run of one chunk, as nearly all small ones are."""

    __slots__ = ("_chunk", "_offset", "size")

    def __init__(self, chunk: ChunkId, extent: pb.Extent) -> None:
        self.size = extent.length
        self._chunk = chunk
        self._offset = extent.offset

    def pieces(self, offset: int, size: int) -> list[Piece]:
        """As FileLayout.pieces."""
        length = min(size, self.size - offset)
        return [Piece(self._chunk, self._offset + offset, length)] if length > 0 else []


class FileLayout:
    """Any regular file."""

    def __init__(self, item: Item, nodes: Nodes) -> None:
        entry = item.entry
        self.size = entry.size
        self._name = entry.name
        self._nodes = nodes
        self._data = data_size(entry)
        self._tree = item.leaf.references[entry.extent_tree - 1] if entry.extent_tree else None
        self._run = _run(entry.extents, 0, item.leaf.references)
        self._hole_starts = [hole.offset for hole in entry.holes]
        self._hole_ends = [hole.offset + hole.length for hole in entry.holes]
        # Bytes of holes before each hole, and before the end.
        self._holes_before = list(accumulate((h.length for h in entry.holes), initial=0))

    def pieces(self, offset: int, size: int) -> list[Piece]:
        """What this range of the file consists of, up to the file's end.

        Raises NotLoaded, or Damaged.
        """
        end = min(offset + size, self.size)
        if not self._hole_starts:
            return list(self._data_pieces(offset, end)) if offset < end else []
        found: list[Piece] = []
        while offset < end:
            hole = bisect_right(self._hole_starts, offset) - 1
            if hole >= 0 and offset < self._hole_ends[hole]:
                stop = min(self._hole_ends[hole], end)
                found.append(Piece(None, 0, stop - offset))
            else:
                after = hole + 1
                stop = min(self._hole_starts[after], end) if after < len(self._hole_starts) else end
                before = self._holes_before[after]
                found.extend(self._data_pieces(offset - before, stop - before))
            offset = stop
        return found

    def _data_pieces(self, at: int, end: int) -> Iterator[Piece]:
        """The same of the file's data, in which holes take no room."""
        while at < end:
            run = self._run_at(at)
            index = bisect_right(run.starts, at) - 1
            while at < end and index < len(run.extents):
                extent = run.extents[index]
                skip = at - run.starts[index]
                length = min(extent.length - skip, end - at)
                yield Piece(run.references[extent.chunk], extent.offset + skip, length)
                at += length
                index += 1

    def _run_at(self, at: int) -> _Run:
        """The extents around a place in the data; those of the last time are kept."""
        run = self._run
        if run.extents and run.starts[0] <= at < run.end:
            return run
        if self._tree is None:
            raise Damaged(f"{self._name!r}: its extents do not add up to its data")
        self._run = self._descend(self._tree, at)
        return self._run

    def _descend(self, root: ChunkId, at: int) -> _Run:
        chunk, start = root, 0
        level: int | None = None
        expected = self._data
        parent, place = None, 0
        while True:
            opened = self._nodes(chunk)
            if opened is None:
                raise NotLoaded(chunk, following(parent, place) if parent else ())
            _check(opened, chunk, level, expected)
            message, references = opened.node.message, opened.node.references
            if not message.level:
                return _run(message.extents, start, references)
            parent, place = opened, opened.place_of(at - start)
            child = message.children[place]
            start += opened.starts[place]
            chunk, level, expected = references[child.node], message.level - 1, child.size


def _run(extents: Sequence[pb.Extent], start: int, references: Sequence[ChunkId]) -> _Run:
    starts = list(accumulate((extent.length for extent in extents), initial=start))
    end = starts.pop()
    return _Run(extents, starts, end, references)


def _check(opened: Opened, chunk: ChunkId, level: int | None, expected: int) -> None:
    """Raises Damaged unless the node is what its parent, or the entry, says of it."""
    message = opened.node.message
    if not message.extents and not (message.children and not opened.keys):
        raise Damaged(f"node {chunk}: it holds no extents")
    if level is not None and message.level != level:
        raise Damaged(f"node {chunk}: it is of level {message.level}, its parent says {level}")
    if opened.total != expected:
        raise Damaged(f"node {chunk}: it holds {opened.total} bytes, not {expected}")
