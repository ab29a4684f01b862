"""A tree's shape depends on its entries alone, and grows without being held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto.primitives import Suite
from backit.engine import tree as tree_module
from backit.engine.leaf import LEAF_MAX, Extent, NewEntry, detach
from backit.engine.levels import ChildInfo, Sealable
from backit.engine.merge import ParentCursor
from backit.engine.tree import Leaf, TreeBuilder
from backit.errors import Invalid
from backit.format import message, record
from backit.format.compression import Compressor
from backit.format.magic import DIRECTORY_LIMIT, ENTRY_LIMIT, MIB
from backit.format.node import entries, entry_key
from backit.format.record import Seal
from backit.format.v1 import tree_pb2 as pb
from backit.ids import SessionId
from tests.backit.engine.forests import (
    FILES,
    KEYS,
    Files,
    Forest,
    Key,
    chunk,
    draws,
    file,
    new,
    sort_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backit.engine.leaf import Where

PIPE = pb.FILE_TYPE_FIFO


def many(count: int, seed: int = 1) -> Files:
    """Files in directories of every depth."""
    draw = draws(seed)
    return {
        (b"".join(b"%d\0" % draw.randrange(4) for _ in range(draw.randrange(5))), b"%d" % number):
        draw.randrange(1000)
        for number in range(count)
    }  # fmt: skip


def edited(files: Files, changes: Iterable[tuple[int, int]]) -> Files:
    """Some removed, some changed, some new; numbers say which."""
    found = dict(files)
    keys = sorted(files)
    for place, content in changes:
        key = keys[place % len(keys)] if keys else (b"", b"first")
        if content < 3:
            found.pop(key, None)
        elif content < 6:
            found[key] = content
        else:
            found[key[0], b"%d-%d" % (place, content)] = content
    return found


def grow_from(forest: Forest, root: ChildInfo, files: Files) -> tuple[ChildInfo, int]:
    """The same files, but what the old tree has is kept; returns the leaves kept whole as well."""
    kept: list[ChildInfo] = []

    def on_leaf(info: ChildInfo, leaf: Sealable | Leaf) -> None:
        if isinstance(leaf, Leaf):
            kept.append(info)

    builder = TreeBuilder(KEYS, forest.emit, on_leaf=on_leaf)
    cursor = ParentCursor(forest.parent(root.chunk))
    for key in sorted(files, key=sort_key):
        old = cursor.find(*key)
        if old is not None and old[1][old[2]][1].size == files[key]:
            builder.keep(*old)
        else:
            builder.add(new(key, files[key]))
    return builder.finish(), len(kept)


@given(files=FILES)
def test_a_walk_gives_what_went_in(files: Files) -> None:
    forest = Forest()
    root = forest.grow(files)
    assert forest.files(root.chunk) == sorted(files.items(), key=lambda item: sort_key(item[0]))
    assert (root.count, root.size) == (len(files), sum(files.values()))


CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 9)), max_size=12)


@given(count=st.integers(0, 1500), changes=CHANGES)
def test_what_is_kept_and_what_is_made_anew_give_the_same_root(
    count: int, changes: list[tuple[int, int]]
) -> None:
    forest = Forest()
    before = many(count)
    old = forest.grow(before)
    after = edited(before, changes)
    fresh = Forest().grow(after)
    kept, _leaves = grow_from(forest, old, after)
    assert kept == fresh
    assert forest.files(kept.chunk) == sorted(after.items(), key=lambda item: sort_key(item[0]))


@given(count=st.integers(0, 800), gaps=st.sets(st.integers(0, 800), max_size=300))
def test_removing_runs_of_files_gives_the_same_root(count: int, gaps: set[int]) -> None:
    forest = Forest()
    before = many(count)
    old = forest.grow(before)
    listed = sorted(before, key=sort_key)
    after = {key: before[key] for number, key in enumerate(listed) if number not in gaps}
    assert grow_from(forest, old, after)[0] == Forest().grow(after)


def test_an_unchanged_tree_is_taken_over_without_a_new_node() -> None:
    forest = Forest()
    files = many(5000)
    old = forest.grow(files)
    leaves = list(forest.parent(old.chunk))
    before = dict(forest.nodes)
    again, kept = grow_from(forest, old, files)
    assert again == old
    assert forest.nodes == before
    assert kept == len(leaves) - 1  # the last may have ended for want of entries


def test_a_small_change_rewrites_few_nodes() -> None:
    forest = Forest()
    files = many(8000)
    old = forest.grow(files)
    known = len(forest.nodes)
    assert known > 60
    for number in range(3):
        key = sorted(files)[2500 * number]
        files = {**files, key: 999, (key[0], key[1] + b"+"): 1}
        old, _leaves = grow_from(forest, old, files)
        assert len(forest.nodes) - known <= 8
        known = len(forest.nodes)


def test_nodes_are_handed_out_as_they_are_finished_and_children_first() -> None:
    """So memory does not grow with the tree."""
    known: set[bytes] = set()
    waiting = 0

    def emit(made: Sealable) -> None:
        nonlocal waiting
        found = message.decode(pb.Node, made.plaintext)
        if found.level:
            assert {reference.raw for reference in made.references} <= known
        else:
            waiting -= sum(len(part.entries) for part in found.parts)
        known.add(made.chunk.raw)

    builder = TreeBuilder(KEYS, emit)
    for number in range(30_000):
        builder.add(new((b"wide\0", b"%06d" % number), 0))
        waiting += 1
        assert waiting < LEAF_MAX
    assert builder.finish().chunk.raw in known
    assert waiting == 0


def test_the_tree_of_nothing_is_an_empty_leaf() -> None:
    forest = Forest()
    root = forest.grow({})
    assert root == ChildInfo(root.chunk, b"", 0, 0)
    assert forest.nodes[root.chunk].plaintext == b""
    assert forest.files(root.chunk) == []


def test_one_node_is_a_whole_tree() -> None:
    forest = Forest()
    forest.grow({(b"", b"%d" % number): 0 for number in range(20)})
    assert len(forest.nodes) == 1


@pytest.mark.parametrize(
    "second", [(b"a\0", b"b"), (b"a\0", b"a"), (b"", b"z"), (b"\x01\0", b"z")], ids=str
)
def test_entries_out_of_order_are_refused(second: Key) -> None:
    builder = TreeBuilder(KEYS, Forest().emit)
    builder.add(new((b"a\0", b"b"), 0))
    with pytest.raises(Invalid, match="comes after b'/a/b'"):
        builder.add(new(second, 0))


def test_a_kept_leaf_out_of_order_is_refused() -> None:
    forest = Forest()
    root = forest.grow(many(300))
    first, second, *_rest = forest.parent(root.chunk)
    builder = TreeBuilder(KEYS, forest.emit)
    for leaf in (second, first):
        flat = list(entries(leaf.node))
        if leaf is first:
            with pytest.raises(Invalid, match="comes after"):
                builder.keep(leaf, flat, 0)
            return
        for index in range(len(flat)):
            builder.keep(leaf, flat, index)


def heavy(**fields: object) -> pb.Entry:
    return pb.Entry(name=b"heavy", type=PIPE, **fields)  # type: ignore[arg-type]


TOO_MUCH = {
    "attributes": NewEntry(
        b"", heavy(attributes=[pb.Attribute(name=b"user.a", value=bytes(ENTRY_LIMIT))])
    ),
    "holes": NewEntry(b"", heavy(holes=[pb.Hole(offset=1, length=1)] * (ENTRY_LIMIT // 24))),
    "extents": NewEntry(b"", heavy(), [Extent(chunk(1), 0, 1)] * 65),
    "directory": NewEntry(b"x\0" * (DIRECTORY_LIMIT // 2 + 1), heavy()),
}


@pytest.mark.parametrize("entry", TOO_MUCH.values(), ids=TOO_MUCH)
def test_an_entry_that_fits_nowhere_is_refused(entry: NewEntry) -> None:
    with pytest.raises(Invalid, match="an entry of"):
        TreeBuilder(KEYS, Forest().emit).add(entry)


def largest_entries() -> Iterable[NewEntry]:
    """Entries, each at one of the limits of what may be added, in an order that adds up."""
    directory = b""
    yield NewEntry(b"", pb.Entry(name=b"a" * 255, type=PIPE))
    holes = [pb.Hole(offset=number << 46, length=2**46 - 1) for number in range(65_000)]
    sparse = pb.Entry(
        name=b"sparse", type=pb.FILE_TYPE_REGULAR, size=65_000 << 46, content_hash=bytes(32)
    )
    sparse.holes.extend(holes)
    values = [pb.Attribute(name=b"user.%06d" % each, value=b"") for each in range(65_000)]
    for number in range(2):
        directory += b"x" * 254 + b"\0"
        yield NewEntry(directory, pb.Entry(name=b"%02d" % number, type=PIPE, attributes=values))
        yield NewEntry(directory, sparse, (), chunk(number))
    while len(directory) + 512 < DIRECTORY_LIMIT:
        directory += b"x" * 254 + b"\0" + b"y" * 254 + b"\0"
        if len(directory) > DIRECTORY_LIMIT - 20_000:
            yield NewEntry(directory, pb.Entry(name=b"a", type=PIPE))


def test_every_node_fits_into_a_chunk_and_is_read_again() -> None:
    forest = Forest()
    builder = TreeBuilder(KEYS, forest.emit)
    count = 0
    for entry in largest_entries():
        builder.add(entry)
        count += 1
    root = builder.finish()
    assert root.count == count
    seal = Seal(Suite.AEGIS256, KEYS.domain, 1, SessionId(bytes(16)), bytes(32))
    compressor = Compressor()
    longest = max(forest.nodes.values(), key=lambda made: len(made.plaintext))
    assert len(longest.plaintext) > MIB
    record.seal_record(
        seal,
        longest.chunk,
        longest.plaintext,
        nonce=bytes(32),
        compressor=compressor,
        references=longest.references,
    )
    assert len(forest.files(root.chunk)) == count


def test_owners_are_named_once_a_leaf_and_only_if_they_have_a_name() -> None:
    forest = Forest()
    names = {0: "root", 1000: "anna"}
    builder = TreeBuilder(
        KEYS,
        forest.emit,
        user_name=lambda uid: names.get(uid, ""),
        group_name=lambda gid: f"group{gid}",
    )
    for number, uid in enumerate((1000, 0, 7, 1000)):
        builder.add(NewEntry(b"", pb.Entry(name=b"%d" % number, type=PIPE, uid=uid, gid=5)))
    found = forest.decoded(builder.finish().chunk).message
    assert [(owner.id, owner.name) for owner in found.users] == [(0, "root"), (1000, "anna")]
    assert [(owner.id, owner.name) for owner in found.groups] == [(5, "group5")]


def test_what_is_detached_from_a_leaf_can_be_added_again() -> None:
    forest = Forest()
    entry = pb.Entry(name=b"a", type=pb.FILE_TYPE_REGULAR, size=8, content_hash=bytes(32))
    extents = (Extent(chunk(9), 0, 5), Extent(chunk(3), 1, 1), Extent(chunk(9), 7, 2))
    large = pb.Entry(name=b"b", type=pb.FILE_TYPE_REGULAR, size=9, content_hash=bytes(32))
    builder = TreeBuilder(KEYS, forest.emit)
    builder.add(NewEntry(b"d\0", entry, extents))
    builder.add(NewEntry(b"d\0", large, (), chunk(5)))
    leaf = forest.decoded(builder.finish().chunk)
    assert leaf.references == (chunk(3), chunk(5), chunk(9))
    found = [detach(leaf, directory, each) for directory, each in entries(leaf)]
    assert found == [NewEntry(b"d\0", entry, extents), NewEntry(b"d\0", large, (), chunk(5))]


@dataclass(eq=False)
class Late:
    """Content whose chunk gets its name late; `waited` counts who could not wait."""

    content: int
    is_named: bool = False
    waited: int = 0
    count: int = 1
    burden: int = 0

    def where(self, *, wait: bool) -> Where | None:
        if not (self.is_named or wait):
            return None
        self.waited += not self.is_named
        return (Extent(chunk(self.content), 5, self.content),), None, b""


def late(key: Key, content: Late) -> NewEntry:
    return NewEntry(key[0], file(key[1], content.content), content=content)


def test_entries_whose_chunks_have_no_names_yet_hold_back_nodes_and_nothing_else() -> None:
    forest, leaves = Forest(), list[ChildInfo]()
    files = {key: content or 1 for key, content in many(1000).items()}
    first = Late(files[min(files, key=sort_key)])
    builder = TreeBuilder(KEYS, forest.emit, on_leaf=lambda info, _leaf: leaves.append(info))
    for number, key in enumerate(sorted(files, key=sort_key)):
        builder.add(new(key, files[key]) if number else late(key, first))
    assert (forest.nodes, leaves) == ({}, [])
    first.is_named = True
    root = builder.finish()
    assert root == Forest().grow(files)
    assert first.waited == 0
    assert len(leaves) > 5


@pytest.mark.parametrize("what", ["entries", "bytes"])
def test_what_waits_for_names_is_bounded(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "entries":
        monkeypatch.setattr(tree_module, "WAITING_MAX", 500)
    else:
        monkeypatch.setattr(tree_module, "HELD_MAX", 50_000)
    forest = Forest()
    content = Late(7)
    hurried: list[int] = []
    builder = TreeBuilder(KEYS, forest.emit, hurry=lambda: hurried.append(len(forest.nodes)))
    for number in range(2000):
        key = (b"", b"%06d" % number)
        builder.add(new(key, 3) if number else late(key, content))
        assert number < 1000 or hurried == [0], "before anything was waited for, once"
    assert content.waited == 1
    assert builder.finish().count == 2000


def test_promises_that_weigh_much_are_waited_for_before_the_leaf_ends() -> None:
    forest = Forest()
    builder = TreeBuilder(KEYS, forest.emit)
    heavy_ones = [Late(7, burden=tree_module.HELD_MAX // 4) for _ in range(6)]
    for number, content in enumerate(heavy_ones):
        builder.add(late((b"", b"%d" % number), content))
    assert [content.waited for content in heavy_ones] == [1, 1, 1, 1, 0, 0]
    assert forest.nodes == {}


def test_the_boundary_belongs_to_the_domain() -> None:
    """Who does not know the domain cannot tell from node sizes what the names are."""
    other = type(KEYS)(KEYS.domain, bytes(32))
    shapes: list[list[bytes]] = []
    for keys in (KEYS, other):
        forest = Forest()
        builder = TreeBuilder(keys, forest.emit)
        for number in range(2000):
            builder.add(new((b"", b"%06d" % number), 0))
        root = builder.finish()
        shapes.append([info.info.first_key for info in forest.parent(root.chunk)])
    assert shapes[0][0] == shapes[1][0] == entry_key(b"", b"000000")
    assert len(set(shapes[0]) & set(shapes[1])) < 5
