"""A difference is what comparing everything with everything finds, without reading everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.engine.diff import ChangeKind, changes, compare
from backit.errors import Damaged
from backit.format.v1 import tree_pb2 as pb
from tests.backit.engine.forests import FILES, Files, Forest, chunk, file, sort_key
from tests.backit.engine.test_tree import CHANGES, edited, many

if TYPE_CHECKING:
    from backit.engine.levels import ChildInfo

Found = list[tuple[ChangeKind, bytes]]


def naive(before: Files, after: Files) -> Found:
    found: Found = []
    for key in sorted({**before, **after}, key=sort_key):
        path = b"/" + key[0].replace(b"\0", b"/") + key[1]
        if key not in after:
            found.append((ChangeKind.REMOVED, path))
        elif key not in before:
            found.append((ChangeKind.ADDED, path))
        elif before[key] != after[key]:
            found.append((ChangeKind.MODIFIED, path))
    return found


def found_in(forest: Forest, old: ChildInfo, new: ChildInfo) -> Found:
    return [
        (change.kind, change.path)
        for change in changes(old.chunk, new.chunk, forest.load, forest.load)
    ]


@given(before=FILES, after=FILES)
def test_it_finds_what_comparing_everything_finds(before: Files, after: Files) -> None:
    forest = Forest()
    assert found_in(forest, forest.grow(before), forest.grow(after)) == naive(before, after)


@given(count=st.integers(0, 1500), edits=CHANGES)
def test_it_finds_it_in_trees_of_several_nodes(count: int, edits: list[tuple[int, int]]) -> None:
    before = many(count)
    after = edited(before, edits)
    forest = Forest()
    assert found_in(forest, forest.grow(before), forest.grow(after)) == naive(before, after)


@pytest.mark.parametrize("counts", [(0, 2000), (2000, 0), (10, 2000), (2000, 10), (2000, 6000)])
def test_trees_of_different_heights_are_compared(counts: tuple[int, int]) -> None:
    before, after = many(counts[0]), many(counts[1])
    forest = Forest()
    assert found_in(forest, forest.grow(before), forest.grow(after)) == naive(before, after)


def test_equal_trees_are_not_opened() -> None:
    forest = Forest()
    root = forest.grow(many(1000))
    assert found_in(forest, root, root) == []
    assert forest.loaded == []


def test_equal_subtrees_are_not_opened() -> None:
    forest = Forest()
    before = many(8000)
    key = sorted(before, key=sort_key)[4000]
    old, new = forest.grow(before), forest.grow({**before, key: before[key] + 1})
    assert len(found_in(forest, old, new)) == 1
    assert len(forest.loaded) <= 8


def test_of_a_tree_that_has_only_grown_no_more_than_its_end_is_opened() -> None:
    before = {(b"", b"%06d" % number): 1 for number in range(3000)}
    after = {**before, **{(b"", b"%06d" % number): 1 for number in range(3000, 20_000)}}
    forest, other = Forest(), Forest()
    old, new = forest.grow(before), other.grow(after)
    assert len(list(changes(old.chunk, new.chunk, forest.load, other.load))) == 17_000
    last = list(forest.parent(old.chunk))[-1].info.chunk
    assert forest.loaded[:2] == [old.chunk, last]


def test_before_and_after_come_along() -> None:
    forest = Forest()
    old = forest.grow({(b"", b"a"): 1, (b"", b"b"): 2})
    new = forest.grow({(b"", b"b"): 3, (b"", b"c"): 4})
    sizes = [
        (change.before and change.before.size, change.after and change.after.size)
        for change in changes(old.chunk, new.chunk, forest.load, forest.load)
    ]
    assert sizes == [(1, None), (2, 3), (None, 4)]


CONTENT: list[dict[str, object]] = [
    {"type": pb.FILE_TYPE_SYMLINK},
    {"size": 6},
    {"content_hash": bytes(32)},
    {"target": b"elsewhere"},
    {"device_major": 1},
    {"device_minor": 1},
    {"holes": [pb.Hole(offset=0, length=1)]},
]
METADATA: list[dict[str, object]] = [
    {"mode": 0o600},
    {"uid": 1},
    {"gid": 1},
    {"mtime": 1},
    {"flags": 0x10},
    {"links": 2},
    {"attributes": [pb.Attribute(name=b"user.a", value=b"1")]},
]
NOTHING: list[dict[str, object]] = [
    {},
    {"ctime": 1},
    {"inode": 1},
    {"link_device": 1},
    {"extent_tree": 1},
    {"extents": [pb.Extent(length=5)]},
]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        *((fields, ChangeKind.MODIFIED) for fields in CONTENT),
        *((fields, ChangeKind.METADATA) for fields in METADATA),
        *((fields, None) for fields in NOTHING),
    ],
    ids=str,
)
def test_how_two_entries_differ(fields: dict[str, object], kind: ChangeKind | None) -> None:
    before, after = file(b"a", 5), file(b"a", 5)
    for name in fields:
        after.ClearField(name)  # type: ignore[arg-type]
    after.MergeFrom(pb.Entry(**fields))  # type: ignore[arg-type]
    assert compare(before, after) is kind
    assert compare(after, before) is kind


def test_hashes_of_different_domains_say_nothing() -> None:
    before, after = file(b"a", 5), file(b"a", 5)
    after.content_hash = bytes(32)
    assert compare(before, after) is ChangeKind.MODIFIED
    assert compare(before, after, one_domain=False) is None
    after.mtime += 1
    assert compare(before, after, one_domain=False) is ChangeKind.MODIFIED


def test_trees_of_different_domains_are_compared_by_size_and_time() -> None:
    forest = Forest()
    before = {(b"", b"a"): 1, (b"", b"b"): 2}
    old, new = forest.grow(before), forest.grow({**before, (b"", b"b"): 3})
    found = changes(old.chunk, new.chunk, forest.load, forest.load, one_domain=False)
    assert [change.path for change in found] == [b"/b"]


def test_a_tree_that_lies_about_itself_is_damaged() -> None:
    forest = Forest()
    root = forest.grow(many(2000))
    lie = pb.Node()
    lie.CopyFrom(forest.decoded(root.chunk).message)
    lie.children[1].first_key += b"x"
    other = forest.add(lie, forest.nodes[root.chunk].references)
    with pytest.raises(Damaged, match="its first key"):
        list(changes(forest.grow({}).chunk, other, forest.load, forest.load))


def test_extents_in_place_of_entries_are_damaged() -> None:
    forest = Forest()
    extents = forest.add(pb.Node(extents=[pb.Extent(length=1)]), [chunk(1)])
    with pytest.raises(Damaged, match="a node of extents"):
        list(changes(forest.grow({}).chunk, extents, forest.load, forest.load))
