"""Entries by number, by name and by directory are the same entries, and no count is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from backit.engine import walk
from backit.errors import Damaged
from backitfs.view import NotLoaded, Tree
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
from tests.backitfs.hands import Hand

if TYPE_CHECKING:
    from backit.ids import ChunkId


def grown(files: Files) -> tuple[Tree, Hand, Forest, ChunkId]:
    forest = Forest()
    root = forest.grow(files).chunk
    hand = Hand(forest.load)
    return Tree(root, hand.nodes), hand, forest, root


def listed(tree: Tree, hand: Hand, directory: bytes) -> list[tuple[int, bytes]]:
    """Everything in a directory, page by page."""
    found: list[tuple[int, bytes]] = []
    at = hand.ask(tree.first_of, directory)
    while page := list(hand.ask(tree.page, directory, at)):
        found += [(item.ordinal, item.entry.name) for item in page]
        at = page[-1].ordinal + 1
    return found


def many(count: int, seed: int = 1) -> Files:
    """Enough entries for a tree of several levels."""
    draw = draws(seed)
    folders = [b"".join(b"d%d\0" % draw.randrange(9) for _ in range(n % 4)) for n in range(60)]
    return {(draw.choice(folders), b"f%07d" % draw.randrange(10**7)): 1 for _ in range(count)}


@given(files=FILES)
def test_ordinals_count_the_entries_in_key_order(files: Files) -> None:
    tree, hand, _forest, _root = grown(files)
    keys = sorted(files, key=sort_key)
    assert hand.ask(tree.count) == len(keys)
    for ordinal, key in enumerate(keys):
        item = hand.ask(tree.item, ordinal)
        assert (item.ordinal, item.directory, item.entry.name) == (ordinal, *key)


@given(files=FILES, directory=DIRECTORIES, name=NAMES)
def test_a_name_is_found_with_the_ordinal_it_has(
    files: Files, directory: bytes, name: bytes
) -> None:
    tree, hand, _forest, _root = grown(files)
    keys = sorted(files, key=sort_key)
    for key in [*keys, (directory, name)]:
        found = hand.ask(tree.find, *key)
        assert (found and found.ordinal) == (keys.index(key) if key in files else None)


@given(files=FILES, directory=DIRECTORIES)
def test_pages_are_the_directory(files: Files, directory: bytes) -> None:
    tree, hand, _forest, _root = grown(files)
    keys = sorted(files, key=sort_key)
    expected = [(at, name) for at, (where, name) in enumerate(keys) if where == directory]
    assert listed(tree, hand, directory) == expected


def test_a_tree_of_several_levels_is_read_as_a_walk_reads_it() -> None:
    files = many(20_000)
    tree, hand, forest, root = grown(files)
    walked = list(walk.walk(root, forest.load))
    for directory in sorted({found.directory for found in walked}):
        expected = [
            (at, found.entry.name)
            for at, found in enumerate(walked)
            if found.directory == directory
        ]
        assert listed(tree, hand, directory) == expected
    draw = draws(2)
    for ordinal in draw.sample(range(len(walked)), 500):
        item = hand.ask(tree.item, ordinal)
        assert item.path == walked[ordinal].path
        found = hand.ask(tree.find, item.directory, item.entry.name)
        assert found is not None
        assert found.ordinal == ordinal


def test_a_listing_may_begin_anywhere() -> None:
    tree, hand, _forest, _root = grown({(b"", b"%06d" % n): 1 for n in range(3000)})
    for start in (0, 1, 24, 25, 399, 1500, 2998, 2999):
        names = [item.entry.name for item in hand.ask(tree.page, b"", start)]
        assert names[0] == b"%06d" % start
    assert list(hand.ask(tree.page, b"", 3000)) == []


def test_an_entry_needs_one_node_of_each_level() -> None:
    tree, hand, _forest, _root = grown(many(20_000))
    hand.ask(tree.item, 12_345)
    levels = [hand.opened[each].node.message.level for each in hand.wanted]
    assert levels == list(range(levels[0], -1, -1))


def test_a_missing_leaf_is_named_with_those_behind_it() -> None:
    tree, hand, forest, root = grown({(b"", b"%06d" % n): 1 for n in range(3000)})
    leaves = [each for each, _leaf in walk.leaves(root, forest.load)]
    hand.ask(tree.count)
    with pytest.raises(NotLoaded) as missing:
        tree.item(0)
    assert [missing.value.wanted, *missing.value.following] == leaves[: len(leaves)][:65]


def test_a_leaf_that_was_used_lately_is_found_without_going_down_to_it() -> None:
    files = many(20_000)
    tree, hand, _forest, root = grown(files)
    keys = sorted(files, key=sort_key)
    far, near = len(keys) - 1, 0
    first, last = hand.ask(tree.item, near), hand.ask(tree.item, far)
    assert first.leaf is not last.leaf
    del hand.opened[root]
    for _ in range(3):
        assert tree.item(near) == first
        assert tree.find(*keys[far]) == last
    hand.opened.clear()
    with pytest.raises(NotLoaded) as missing:
        tree.item(near)
    assert missing.value.wanted == root, "it was not kept, only its place"


def test_an_empty_tree_has_nothing() -> None:
    tree, hand, _forest, _root = grown({})
    assert listed(tree, hand, b"") == []
    assert hand.ask(tree.find, b"", b"a") is None
    with pytest.raises(Damaged):
        hand.ask(tree.item, 0)


def test_a_count_that_lies_is_refused() -> None:
    forest = Forest()
    info = forest.grow({(b"", b"%06d" % n): 1 for n in range(3000)})
    message, references = forest.decoded(info.chunk).message, forest.decoded(info.chunk).references
    message.children[1].count += 1
    root = forest.add(message, references)
    hand = Hand(forest.load)
    tree = Tree(root, hand.nodes)
    with pytest.raises(Damaged, match="its parent says"):
        hand.ask(tree.item, message.children[0].count)


def test_an_ordinal_that_is_not_there_is_refused() -> None:
    tree, hand, _forest, _root = grown({(b"", b"a"): 1})
    for wrong in (1, 2, 10**9):
        with pytest.raises(Damaged, match="no entry"):
            hand.ask(tree.item, wrong)


def test_what_is_not_in_the_tree_is_asked_for_by_its_id() -> None:
    hand = Hand(Forest().load)
    with pytest.raises(NotLoaded) as missing:
        Tree(chunk(5), hand.nodes).count()
    assert missing.value.wanted == chunk(5)
