"""Where a large file lies is found again, in order, and adds up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto import primitives
from backit.engine.extents import ExtentsBuilder, extents_of
from backit.engine.leaf import Extent, NewEntry
from backit.engine.tree import TreeBuilder
from backit.errors import Damaged
from backit.format.magic import INLINE_EXTENTS_LIMIT, MIB
from backit.format.node import Node, entries
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId
from tests.backit.engine.forests import KEYS, Forest, chunk, draws

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_of(count: int, seed: int = 1, kinds: int = 2**200) -> list[Extent]:
    draw = draws(seed)
    return [
        Extent(
            ChunkId(primitives.digest(draw.randrange(kinds).to_bytes(32, "little"))),
            draw.randrange(100),
            draw.randrange(1, MIB),
        )
        for _ in range(count)
    ]


def build(forest: Forest, extents: Sequence[Extent]) -> tuple[Sequence[Extent], ChunkId | None]:
    builder = ExtentsBuilder(KEYS, forest.emit)
    for extent in extents:
        builder.add(extent)
    return builder.finish()


def entry_of(
    forest: Forest, inline: Sequence[Extent], root: ChunkId | None, size: int
) -> tuple[pb.Entry, Node]:
    """The entry of such a file, and its leaf."""
    entry = pb.Entry(
        name=b"large",
        type=pb.FILE_TYPE_REGULAR,
        size=size,
        content_hash=bytes(32) if size else b"",
    )
    builder = TreeBuilder(KEYS, forest.emit)
    builder.add(NewEntry(b"", entry, inline, root))
    leaf = forest.decoded(builder.finish().chunk)
    return next(each for _directory, each in entries(leaf)), leaf


@pytest.mark.parametrize("count", [0, 1, INLINE_EXTENTS_LIMIT, INLINE_EXTENTS_LIMIT + 1, 2000])
@pytest.mark.parametrize("kinds", [1, 2**200], ids=["same", "different"])
def test_extents_come_back_in_order(count: int, kinds: int) -> None:
    forest = Forest()
    extents = run_of(count, kinds=kinds)
    inline, root = build(forest, extents)
    assert (root is None) == (count <= INLINE_EXTENTS_LIMIT)
    assert bool(inline) == (0 < count <= INLINE_EXTENTS_LIMIT)
    entry, leaf = entry_of(forest, inline, root, sum(extent.length for extent in extents))
    assert list(extents_of(entry, leaf, forest.load)) == extents


@given(count=st.integers(65, 700), place=st.integers(0, 700), seed=st.integers(0, 1000))
def test_an_insertion_leaves_most_nodes_as_they_are(count: int, place: int, seed: int) -> None:
    forest = Forest()
    extents = run_of(count, seed)
    build(forest, extents)
    known = set(forest.nodes)
    extents.insert(place % count, Extent(chunk(place), 0, 1))
    build(forest, extents)
    fresh = len(set(forest.nodes) - known)
    assert fresh <= max(4, len(known) // 2 + 2)


def test_an_insertion_into_a_very_large_file_costs_a_few_nodes() -> None:
    forest = Forest()
    extents = run_of(10_000)
    build(forest, extents)
    known = set(forest.nodes)
    build(forest, [*extents[:5000], Extent(chunk(1), 0, 1), *extents[5000:]])
    assert len(set(forest.nodes) - known) <= 5


def inner(forest: Forest, level: int, below: Sequence[ChunkId], key: bytes = b"") -> ChunkId:
    table = sorted(set(below))
    children = [
        pb.Child(node=table.index(each), first_key=key and key + bytes([place]))
        for place, each in enumerate(below)
    ]
    return forest.add(pb.Node(level=level, children=children), table)


def test_a_tree_that_does_not_add_up_is_damaged() -> None:
    forest = Forest()
    extents = run_of(200)
    total = sum(extent.length for extent in extents)
    _inline, root = build(forest, extents)
    for size, fits in ((total + 1, 200), (total - 1, 199), (1, 0)):
        entry, leaf = entry_of(forest, (), root, size)
        found: list[Extent] = []
        with pytest.raises(Damaged, match="do not add up to the data of b'large'"):
            found.extend(extents_of(entry, leaf, forest.load))
        assert found == extents[:fits]


@pytest.mark.parametrize("wrong", ["level", "entries", "empty", "keys"])
def test_anything_else_in_an_extent_tree_is_damaged(wrong: str) -> None:
    forest = Forest()
    data = forest.add(pb.Node(extents=[pb.Extent(length=1)]), [chunk(1)])
    names = pb.DirectoryPart(entries=[pb.Entry(name=b"a", type=pb.FILE_TYPE_FIFO)])
    root = {
        "level": inner(forest, 2, [data]),
        "entries": inner(forest, 1, [data, forest.add(pb.Node(parts=[names]))]),
        "empty": inner(forest, 1, [data, forest.add(pb.Node())]),
        "keys": inner(forest, 1, [data, data], b"k"),
    }[wrong]
    entry, leaf = entry_of(forest, (), root, 1000)
    with pytest.raises(Damaged, match=r"of level 0, its parent says 1|it holds no extents"):
        list(extents_of(entry, leaf, forest.load))


def test_a_tree_that_repeats_itself_ends_with_the_file() -> None:
    """Fifteen levels of 1,000 times the same child would never end otherwise."""
    forest = Forest()
    found = forest.add(pb.Node(extents=[pb.Extent(length=1)] * 1024), [chunk(1)])
    for level in range(1, 16):
        found = inner(forest, level, [found] * 1000)
    entry, leaf = entry_of(forest, (), found, 5000)
    with pytest.raises(Damaged, match="do not add up"):
        list(extents_of(entry, leaf, forest.load))
    assert len(forest.loaded) < 500
