"""Trees in memory: a store of nodes, files to grow them from, and ways to look at them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from backit.crypto.keys import DomainKeys
from backit.engine import walk
from backit.engine.leaf import Extent, NewEntry
from backit.engine.levels import ChildInfo, Sealable, make_node
from backit.engine.tree import Leaf, TreeBuilder
from backit.format import node
from backit.format.magic import Kind
from backit.format.record import Plain
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId, DomainId

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backit.format.node import Node

KEYS = DomainKeys(DomainId(b"d" * 16), b"s" * 32)
# (directory as keys have it, name) -> what is in the file
Key = tuple[bytes, bytes]
Files = dict[Key, int]

# Bytes whose order is not that of paths joined with "/".
NAMES = st.sampled_from([b"\x01", b"-", b"a", b"a-", b"a0", b"b", b"\xff"])
DIRECTORIES = st.lists(NAMES, max_size=3).map(lambda names: b"".join(n + b"\0" for n in names))
FILES = st.dictionaries(st.tuples(DIRECTORIES, NAMES), st.integers(0, 9), max_size=60)


def draws(seed: int) -> random.Random:
    """The same draws for the same seed."""
    return random.Random(seed)


def sort_key(key: Key) -> bytes:
    return node.entry_key(*key)


def chunk(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "little"))


def file(name: bytes, content: int) -> pb.Entry:
    """A regular file; `content` decides all of it, and 0 is an empty one."""
    return pb.Entry(
        name=name,
        type=pb.FILE_TYPE_REGULAR,
        mode=0o644,
        mtime=node.encode_time(content),
        ctime=node.encode_time(content),
        size=content,
        inode=7,
        content_hash=bytes([content % 256]) * 32 if content else b"",
    )


def new(key: Key, content: int) -> NewEntry:
    extents = [Extent(chunk(content), 5, content)] if content else []
    return NewEntry(key[0], file(key[1], content), extents)


@dataclass(slots=True)
class Forest:
    """Nodes by their id, and what has been asked for."""

    nodes: dict[ChunkId, Sealable] = field(default_factory=dict[ChunkId, Sealable])
    loaded: list[ChunkId] = field(default_factory=list[ChunkId])

    def emit(self, sealable: Sealable) -> None:
        self.nodes[sealable.chunk] = sealable

    def load(self, ids: Sequence[ChunkId]) -> Iterator[Node]:
        for each in ids:
            self.loaded.append(each)
            yield self.decoded(each)

    def decoded(self, wanted: ChunkId) -> Node:
        found = self.nodes[wanted]
        return node.decode(Plain(Kind.NODE, found.references, found.plaintext), wanted)

    def grow(self, files: Mapping[Key, int]) -> ChildInfo:
        builder = TreeBuilder(KEYS, self.emit)
        for key in sorted(files, key=sort_key):
            builder.add(new(key, files[key]))
        return builder.finish()

    def add(self, message: pb.Node, references: Iterable[ChunkId] = ()) -> ChunkId:
        """Any node, sound or not."""
        made = make_node(message, sorted(references), KEYS)
        self.emit(made)
        return made.chunk

    def parent(self, root: ChunkId) -> Iterator[Leaf]:
        """The leaves of a tree as the next backup gets them."""
        found = list(walk.leaves(root, self.load))
        for position, (each, leaf) in enumerate(found):
            listed = [entry for _directory, entry in node.entries(leaf)]
            size = sum(node.data_size(entry) for entry in listed)
            info = ChildInfo(each, node.first_key(leaf), len(listed), size)
            yield Leaf(info, leaf, is_last=position == len(found) - 1)

    def files(self, root: ChunkId, directory: bytes = b"") -> list[tuple[Key, int]]:
        """Everything below, as a walk gives it."""
        return [
            ((found.directory, found.entry.name), found.entry.size)
            for found in walk.walk(root, self.load, directory)
        ]
