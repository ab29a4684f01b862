r"""Search trees of entries: how they are read (FORMAT.md section 6). How they grow is tree.py's.

A decoded node is sound in itself; that it is what its parent says of it is checked here, on the
way down: so what a walk gives is in key order, and what a lookup finds is what a walk would have
found, whoever made the tree. Directories are given as they stand in leaves: "c1\0c2\0".

Nothing here knows where nodes are stored: wanted ones come from `load`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.errors import Damaged
from backit.format.node import Node, entry_key, first_key, last_key
from backit.ids import ChunkId

if TYPE_CHECKING:
    from backit.format.v1 import tree_pb2 as pb

# How many children a walk asks for at once.
READ_AHEAD = 64

# Gives the decoded nodes of these ids, in this order; may fetch them together.
Load = Callable[[Sequence[ChunkId]], Iterator[Node]]


@dataclass(frozen=True, slots=True)
class Found:
    """An entry met on a walk, with the leaf that its indexes refer to."""

    directory: bytes
    entry: pb.Entry
    leaf: Node

    @property
    def path(self) -> bytes:
        """Absolute path, components separated by "/"."""
        return b"/" + self.directory.replace(b"\0", b"/") + self.entry.name

    @property
    def inside(self) -> bytes:
        """The directory that this entry is, as its children name it."""
        return self.directory + self.entry.name + b"\0"


@dataclass(frozen=True, slots=True)
class Subtree:
    """A node that is still closed, and what is known of it: level, first key, and the key after it.

    Of a root nothing is known but that it is one.
    """

    chunk: ChunkId
    level: int | None = None
    first_key: bytes = b""
    end: bytes | None = None

    def check(self, node: Node) -> None:
        """Raises Damaged unless the node, now opened, is what is known of it."""
        if (why := self._lie(node)) is not None:
            raise Damaged(f"node {self.chunk}: {why}")

    def _lie(self, node: Node) -> str | None:
        first = first_key(node)
        if node.message.extents or (node.message.children and not first):
            return "a node of extents where entries should be"
        if self.level is None:
            return "a root with a single child" if len(node.message.children) == 1 else None
        if node.message.level != self.level:
            return f"it is of level {node.message.level}, its parent says {self.level}"
        if first != self.first_key:
            return "its first key is not the one that its parent says"
        if self.end is not None and last_key(node) >= self.end:
            return "it holds keys that belong behind it"
        return None

    def below(self, node: Node, low: bytes = b"", high: bytes | None = None) -> list[Subtree]:
        """The children that may hold keys from `low` (inclusive) to `high` (exclusive)."""
        children, level = node.message.children, node.message.level - 1
        start = max(bisect_right(children, low, key=_key) - 1, 0)
        stop = len(children) if high is None else bisect_left(children, high, key=_key)
        wanted = children[start:stop]
        ends = [*(child.first_key for child in children[start + 1 : stop + 1]), self.end]
        return [
            Subtree(node.references[child.node], level, child.first_key, end)
            for child, end in zip(wanted, ends, strict=False)
        ]


def leaves(
    root: ChunkId, load: Load, low: bytes = b"", high: bytes | None = None
) -> Iterator[tuple[ChunkId, Node]]:
    """The leaves that may hold keys from `low` (inclusive) to `high` (exclusive), in order.

    Raises Damaged for a tree that is not in order.
    """
    yield from _leaves([Subtree(root)], load, low, high)


def _leaves(
    wanted: Sequence[Subtree], load: Load, low: bytes, high: bytes | None
) -> Iterator[tuple[ChunkId, Node]]:
    for start in range(0, len(wanted), READ_AHEAD):
        window = wanted[start : start + READ_AHEAD]
        nodes = load([subtree.chunk for subtree in window])
        for subtree, node in zip(window, nodes, strict=True):
            subtree.check(node)
            if node.is_leaf:
                yield subtree.chunk, node
            else:
                yield from _leaves(subtree.below(node, low, high), load, low, high)


def walk(root: ChunkId, load: Load, directory: bytes = b"") -> Iterator[Found]:
    """Everything below a directory, in key order; the whole tree by default."""
    high = directory[:-1] + b"\1" if directory else None
    for _chunk, leaf in leaves(root, load, directory, high):
        for part in leaf.message.parts:
            below = part.directory
            if below.startswith(directory):
                for entry in part.entries:
                    yield Found(below, entry, leaf)


def listing(root: ChunkId, load: Load, directory: bytes = b"") -> Iterator[Found]:
    """The entries of one directory, by name."""
    for _chunk, leaf in leaves(root, load, directory + b"\0", directory + b"\1"):
        for part in leaf.message.parts:
            if part.directory == directory:
                for entry in part.entries:
                    yield Found(directory, entry, leaf)


def lookup(root: ChunkId, load: Load, components: Sequence[bytes]) -> Found | None:
    """The entry at a path, or None. The root itself has no entry."""
    if not components:
        return None
    name = components[-1]
    directory = b"".join(component + b"\0" for component in components[:-1])
    key = entry_key(directory, name)
    for _chunk, leaf in leaves(root, load, key, key + b"\0"):
        parts = leaf.message.parts
        at = bisect_left(parts, directory, key=_directory)
        if at < len(parts) and parts[at].directory == directory:
            entries = parts[at].entries
            place = bisect_left(entries, name, key=_name)
            if place < len(entries) and entries[place].name == name:
                return Found(directory, entries[place], leaf)
    return None


def _key(child: pb.Child) -> bytes:
    return child.first_key


def _directory(part: pb.DirectoryPart) -> bytes:
    return part.directory


def _name(entry: pb.Entry) -> bytes:
    return entry.name
