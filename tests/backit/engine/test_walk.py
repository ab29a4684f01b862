"""A walk, a listing and a lookup give the same answers, and none believes a node's parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.engine import walk
from backit.errors import Damaged
from backit.format.v1 import tree_pb2 as pb
from tests.backit.engine.forests import (
    DIRECTORIES,
    FILES,
    NAMES,
    Files,
    Forest,
    chunk,
    draws,
    sort_key,
)

if TYPE_CHECKING:
    from backit.ids import ChunkId


def components(directory: bytes, name: bytes) -> list[bytes]:
    return [*directory.split(b"\0")[:-1], name]


@given(files=FILES, directory=DIRECTORIES)
def test_a_subtree_is_what_lies_below(files: Files, directory: bytes) -> None:
    forest = Forest()
    root = forest.grow(files).chunk
    expected = [item for item in forest.files(root) if item[0][0].startswith(directory)]
    assert forest.files(root, directory) == expected


@given(files=FILES, directory=DIRECTORIES)
def test_a_listing_is_what_lies_in_a_directory(files: Files, directory: bytes) -> None:
    forest = Forest()
    root = forest.grow(files).chunk
    found = [each.entry.name for each in walk.listing(root, forest.load, directory)]
    assert found == sorted(name for at, name in files if at == directory)


@given(files=FILES, directory=DIRECTORIES, name=NAMES)
def test_a_lookup_finds_what_is_there_and_nothing_else(
    files: Files, directory: bytes, name: bytes
) -> None:
    forest = Forest()
    root = forest.grow(files).chunk
    for key in [*files, (directory, name)]:
        found = walk.lookup(root, forest.load, components(*key))
        assert (None if found is None else found.entry.size) == files.get(key)


@pytest.fixture(scope="module")
def large() -> tuple[Forest, ChunkId, Files]:
    """A tree of three levels."""
    draw = draws(7)
    files = {
        (b"%02d\0%02d\0" % (draw.randrange(30), draw.randrange(30)), b"%d" % number): number
        for number in range(20_000)
    }
    forest = Forest()
    root = forest.grow(files).chunk
    assert forest.decoded(root).message.level == 2
    return forest, root, files


def test_a_lookup_reads_one_node_a_level(large: tuple[Forest, ChunkId, Files]) -> None:
    forest, root, files = large
    for key in draws(1).sample(sorted(files), 200):
        forest.loaded.clear()
        found = walk.lookup(root, forest.load, components(*key))
        assert found is not None
        assert found.path == b"/" + b"/".join(components(*key))
        assert found.inside == key[0] + key[1] + b"\0"
        assert len(forest.loaded) == 3
    assert walk.lookup(root, forest.load, [b"99", b"a"]) is None
    assert walk.lookup(root, forest.load, []) is None


def test_a_large_tree_gives_every_directory(large: tuple[Forest, ChunkId, Files]) -> None:
    forest, root, files = large
    assert [key for key, _size in forest.files(root)] == sorted(files, key=sort_key)
    for directory in (b"07\0", b"07\0" + b"11\0", b"29\0" + b"29\0", b"zz\0"):
        below = {key for key in files if key[0].startswith(directory)}
        assert {key for key, _size in forest.files(root, directory)} == below
        listed = {each.entry.name for each in walk.listing(root, forest.load, directory)}
        assert listed == {name for at, name in files if at == directory}


def test_a_listing_reads_only_what_it_needs(large: tuple[Forest, ChunkId, Files]) -> None:
    forest, root, _files = large
    forest.loaded.clear()
    assert list(walk.listing(root, forest.load, b"07\0" + b"11\0"))
    assert len(forest.loaded) <= 5


# --- hostile trees -------------------------------------------------------------------------------


def leaf(*names: bytes, directory: bytes = b"") -> pb.Node:
    entries = [pb.Entry(name=name, type=pb.FILE_TYPE_FIFO) for name in names]
    return pb.Node(parts=[pb.DirectoryPart(directory=directory, entries=entries)])


def inner(forest: Forest, level: int, *children: tuple[bytes, ChunkId]) -> ChunkId:
    table = sorted({child for _key, child in children})
    node = pb.Node(level=level)
    for key, child in children:
        node.children.add(node=table.index(child), first_key=key, count=1)
    return forest.add(node, table)


def two_leaves(forest: Forest) -> tuple[ChunkId, ChunkId]:
    return forest.add(leaf(b"a", b"b")), forest.add(leaf(b"c", b"d"))


def refused(forest: Forest, root: ChunkId, why: str) -> None:
    with pytest.raises(Damaged, match=why):
        list(walk.walk(root, forest.load))


def test_a_sound_tree_by_hand_is_walked() -> None:
    forest = Forest()
    first, second = two_leaves(forest)
    root = inner(forest, 1, (b"\0a", first), (b"\0c", second))
    assert [key[1] for key, _size in forest.files(root)] == [b"a", b"b", b"c", b"d"]


def test_a_first_key_that_is_a_lie_is_damaged() -> None:
    forest = Forest()
    first, second = two_leaves(forest)
    for key in (b"\0bb", b"\0cc", b"a\0\0c"):
        root = inner(forest, 1, (b"\0a", first), (key, second))
        refused(forest, root, f"node {second}: its first key")
        with pytest.raises(Damaged):
            walk.lookup(root, forest.load, [b"a", b"d"] if key[:1] == b"a" else [b"d"])


def test_a_leaf_that_reaches_into_the_next_is_damaged() -> None:
    forest = Forest()
    first, second = forest.add(leaf(b"a", b"c")), forest.add(leaf(b"b", b"d"))
    root = inner(forest, 1, (b"\0a", first), (b"\0b", second))
    refused(forest, root, f"node {first}: it holds keys that belong behind it")


def test_a_name_that_stands_in_two_leaves_is_damaged() -> None:
    forest = Forest()
    first, second = forest.add(leaf(b"a", b"b")), forest.add(leaf(b"b", b"c"))
    root = inner(forest, 1, (b"\0a", first), (b"\0b", second))
    refused(forest, root, "belong behind it")


def test_a_bound_reaches_down_through_the_levels() -> None:
    forest = Forest()
    first, second = forest.add(leaf(b"a", b"b")), forest.add(leaf(b"c", b"x"))
    third, fourth = forest.add(leaf(b"m")), forest.add(leaf(b"y"))
    left = inner(forest, 1, (b"\0a", first), (b"\0c", second))
    right = inner(forest, 1, (b"\0m", third), (b"\0y", fourth))
    root = inner(forest, 2, (b"\0a", left), (b"\0m", right))
    refused(forest, root, f"node {second}: it holds keys that belong behind it")


def test_the_same_leaf_twice_is_damaged() -> None:
    forest = Forest()
    first = forest.add(leaf(b"a"))
    refused(forest, inner(forest, 1, (b"\0a", first), (b"\0b", first)), "its first key")


@pytest.mark.parametrize("level", [2, 3, 15])
def test_a_level_that_is_a_lie_is_damaged(level: int) -> None:
    forest = Forest()
    first, second = two_leaves(forest)
    root = inner(forest, level, (b"\0a", first), (b"\0c", second))
    refused(forest, root, f"it is of level 0, its parent says {level - 1}")


def test_a_root_with_a_single_child_is_damaged() -> None:
    forest = Forest()
    first, _second = two_leaves(forest)
    refused(forest, inner(forest, 1, (b"\0a", first)), "a root with a single child")


def test_an_empty_leaf_below_a_root_is_damaged() -> None:
    forest = Forest()
    first, empty = forest.add(leaf(b"a")), forest.add(pb.Node())
    refused(forest, inner(forest, 1, (b"\0a", first), (b"\0c", empty)), "its first key")


def test_extents_where_entries_should_be_are_damaged() -> None:
    forest = Forest()
    data = pb.Node(extents=[pb.Extent(length=1)])
    extents = forest.add(data, [chunk(1)])
    first = forest.add(leaf(b"a"))
    above = inner(forest, 1, (b"", extents), (b"", first))
    refused(forest, extents, "a node of extents where entries should be")
    refused(forest, above, "a node of extents where entries should be")
    refused(forest, inner(forest, 1, (b"\0a", first), (b"\0c", extents)), "a node of extents")
    mixed = inner(forest, 2, (b"\0a", inner(forest, 1, (b"\0a", first))), (b"\0c", above))
    refused(forest, mixed, "a node of extents")


@given(keys=st.lists(NAMES, min_size=2, max_size=4), level=st.integers(1, 3))
def test_whatever_the_parents_say_a_walk_is_in_order_or_damaged(
    keys: list[bytes], level: int
) -> None:
    forest = Forest()
    below = [forest.add(leaf(key, key + b"z")) for key in keys]
    said = sorted(b"\0" + key for key in set(keys))
    root = inner(forest, level, *zip(said, below, strict=False))
    try:
        found = [key for key, _size in forest.files(root)]
    except Damaged:
        return
    assert found == sorted(set(found), key=sort_key)
