"""A snapshot's tree as a file system needs it: entries by number, by name, directory by directory.

Pure: no FUSE, network, clock or threads. An entry's *ordinal* is its place among all entries of the
snapshot in key order; inner nodes say how many entries lie below each child, so an ordinal is found
in O(log n) and nothing has to be remembered for it. Nodes come from `Nodes`, which knows those at
hand; what is missing is said by raising NotLoaded, and whoever asked brings it and asks again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from backit.engine.walk import Subtree
from backit.errors import Damaged
from backit.format.node import entry_key, first_key, last_key

if TYPE_CHECKING:
    from backit.format.node import Node
    from backit.format.v1 import tree_pb2 as pb
    from backit.ids import ChunkId

# How many of the nodes behind a missing one are named with it: a walk will want them next.
FOLLOWING = 64
# Leaves that are found again without going down to them: a walk goes back and forth between those
# of a directory, of what is in it, and of what it is in.
RECENT = 8


class NotLoaded(Exception):
    """A node is not at hand; `following` are the siblings that come after it."""

    def __init__(self, wanted: ChunkId, following: Sequence[ChunkId] = ()) -> None:
        super().__init__(str(wanted))
        self.wanted = wanted
        self.following = following


@dataclass(frozen=True, slots=True)
class Opened:
    """A node, and what a descent asks of it, computed once.

    `starts` is what lies before each child, part or extent: entries, or bytes in a tree of extents;
    `total` is the sum. `keys` are first keys of children or directories of parts.
    """

    node: Node
    starts: Sequence[int]
    total: int
    keys: Sequence[bytes]
    first: bytes
    last: bytes

    @classmethod
    def of(cls, node: Node) -> Opened:
        message = node.message
        keys: list[bytes] = []
        if message.parts:
            weights = [len(part.entries) for part in message.parts]
            keys = [part.directory for part in message.parts]
        elif message.children and message.children[0].first_key:
            weights = [child.count for child in message.children]
            keys = [child.first_key for child in message.children]
        elif message.children:
            weights = [child.size for child in message.children]
        else:
            weights = [extent.length for extent in message.extents]
        starts = list(accumulate(weights, initial=0))
        total = starts.pop()
        return cls(node, starts, total, keys, first_key(node), last_key(node))

    def place_of(self, position: int) -> int:
        """Which child, part or extent holds this position (below `total`)."""
        return bisect_right(self.starts, position) - 1


# Gives a node that is at hand, or None.
Nodes = Callable[["ChunkId"], Opened | None]


class Item(NamedTuple):
    """An entry, its place in the snapshot, and the leaf that its indexes refer to."""

    ordinal: int
    directory: bytes
    entry: pb.Entry
    leaf: Node

    @property
    def inside(self) -> bytes:
        """The directory that this entry is, as its children name it."""
        return self.directory + self.entry.name + b"\0"

    @property
    def path(self) -> bytes:
        return b"/" + self.directory.replace(b"\0", b"/") + self.entry.name


class _Leaf(NamedTuple):
    """A leaf, and the ordinal of its first entry."""

    opened: Opened
    base: int

    def item(self, ordinal: int) -> Item:
        index = ordinal - self.base
        part = self.opened.place_of(index)
        found = self.opened.node.message.parts[part]
        entry = found.entries[index - self.opened.starts[part]]
        return Item(ordinal, found.directory, entry, self.opened.node)


class _Place(NamedTuple):
    """Where a leaf that was found stands in the tree. It does not keep the leaf at hand."""

    chunk: ChunkId
    base: int
    total: int
    first: bytes
    last: bytes


class Tree:
    """The entries of one snapshot. Every question may raise NotLoaded, or Damaged."""

    def __init__(self, root: ChunkId, nodes: Nodes) -> None:
        self._root = root
        self._nodes = nodes
        # Of the last answers, the last one first.
        self._recent: list[_Place] = []
        self._count: int | None = None

    def item(self, ordinal: int) -> Item:
        """The entry with this number. Raises Damaged if there is none."""
        return self._holding(ordinal).item(ordinal)

    def find(self, directory: bytes, name: bytes) -> Item | None:
        """The entry of this name in a directory."""
        key = entry_key(directory, name)
        leaf = self._at(key)
        parts, part = leaf.opened.keys, bisect_left(leaf.opened.keys, directory)
        if part == len(parts) or parts[part] != directory:
            return None
        entries = leaf.opened.node.message.parts[part].entries
        at = bisect_left(entries, name, key=_name)
        if at == len(entries) or entries[at].name != name:
            return None
        ordinal = leaf.base + leaf.opened.starts[part] + at
        return Item(ordinal, directory, entries[at], leaf.opened.node)

    def first_of(self, directory: bytes) -> int:
        """The ordinal at which a directory's entries begin, if it has any."""
        leaf = self._at(entry_key(directory, b""))
        part = bisect_left(leaf.opened.keys, directory)
        starts = leaf.opened.starts
        return leaf.base + (starts[part] if part < len(starts) else leaf.opened.total)

    def page(self, directory: bytes, ordinal: int) -> Iterable[Item]:
        """A directory's entries from this ordinal on, as far as one leaf goes; none at its end."""
        if ordinal >= self.count():
            return ()
        leaf = self._holding(ordinal)
        part = leaf.opened.place_of(ordinal - leaf.base)
        if leaf.opened.keys[part] != directory:
            return ()
        node, base = leaf.opened.node, leaf.base + leaf.opened.starts[part]
        entries = node.message.parts[part].entries
        return (
            Item(base + index, directory, entries[index], node)
            for index in range(ordinal - base, len(entries))
        )

    def after(self, ordinal: int) -> Iterable[Item]:
        """The entries behind this one in its leaf, whatever directory they are in."""
        leaf = self._holding(ordinal)
        return (leaf.item(each) for each in range(ordinal + 1, leaf.base + leaf.opened.total))

    def count(self) -> int:
        """How many entries there are."""
        if self._count is None:
            self._count = self._open(Subtree(self._root), None, None, 0).total
        return self._count

    def _holding(self, ordinal: int) -> _Leaf:
        """The leaf with this entry."""
        known = (each for each in self._recent if 0 <= ordinal - each.base < each.total)
        leaf = self._again(known) or self._leaf(lambda node, base: node.place_of(ordinal - base))
        if not 0 <= ordinal - leaf.base < leaf.opened.total:
            raise Damaged(f"node {self._root}: it has no entry {ordinal}")
        return leaf

    def _at(self, key: bytes) -> _Leaf:
        """The leaf in which this key stands, if it stands anywhere."""
        known = (each for each in self._recent if each.first <= key <= each.last)
        return self._again(known) or self._leaf(
            lambda node, _base: max(bisect_right(node.keys, key) - 1, 0)
        )

    def _leaf(self, choose: Callable[[Opened, int], int]) -> _Leaf:
        """Go down from the root, at each inner node to the child that is chosen."""
        subtree, expected, base = Subtree(self._root), None, 0
        parent, at = None, 0
        while True:
            opened = self._open(subtree, expected, parent, at)
            message = opened.node.message
            if not message.level:
                self._remember(_Place(subtree.chunk, base, opened.total, opened.first, opened.last))
                return _Leaf(opened, base)
            parent, at = opened, choose(opened, base)
            child = message.children[at]
            end = opened.keys[at + 1] if at + 1 < len(opened.keys) else subtree.end
            chunk = opened.node.references[child.node]
            subtree = Subtree(chunk, message.level - 1, child.first_key, end)
            expected, base = child.count, base + opened.starts[at]

    def _again(self, known: Iterator[_Place]) -> _Leaf | None:
        """The leaf of a former answer, the first of these, if it is still at hand."""
        place = next(known, None)
        opened = None if place is None else self._nodes(place.chunk)
        if place is None or opened is None:
            return None
        if place is not self._recent[0]:
            self._remember(place)
        return _Leaf(opened, place.base)

    def _remember(self, place: _Place) -> None:
        if place in self._recent:
            self._recent.remove(place)
        self._recent.insert(0, place)
        del self._recent[RECENT:]

    def _open(
        self, subtree: Subtree, expected: int | None, parent: Opened | None, at: int
    ) -> Opened:
        """The node, once it is what its parent says of it: ordinals rest on the counts."""
        opened = self._nodes(subtree.chunk)
        if opened is None:
            raise NotLoaded(subtree.chunk, following(parent, at) if parent else ())
        subtree.check(opened.node)
        if expected is not None and opened.total != expected:
            raise Damaged(
                f"node {subtree.chunk}: it has {opened.total} entries, its parent says {expected}"
            )
        return opened


def following(parent: Opened, at: int) -> Sequence[ChunkId]:
    """The nodes that come after a child."""
    children = parent.node.message.children[at + 1 : at + 1 + FOLLOWING]
    return [parent.node.references[child.node] for child in children]


def _name(entry: pb.Entry) -> bytes:
    return entry.name
