"""Promises of wear: bundles that are mostly dead are named, the most worn first, not too many."""

from __future__ import annotations

import random

import pytest

from backit.engine import wear as wear_module
from backit.engine.wear import ALIVE_MIN, BUDGET_MIN, Wear, died_since, is_due
from backit.format.magic import LARGE_FILE, MIB
from backit.format.node import Node
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId

# A file: its chunk, where it starts in it, and its length.
File = tuple[ChunkId, int, int]


def chunk(number: int) -> ChunkId:
    return ChunkId(bytes([number]) * 32)


def leaf(*files: File) -> Node:
    references = tuple(sorted({each for each, _at, _length in files}))
    entries = [
        pb.Entry(
            name=b"%d" % number,
            size=length,
            extents=[pb.Extent(chunk=references.index(each), offset=at, length=length)],
        )
        for number, (each, at, length) in enumerate(files)
    ]
    return Node(pb.Node(parts=[pb.DirectoryPart(entries=entries)]), references)


def test_a_bundle_is_worn_when_less_than_a_third_of_it_lives() -> None:
    wear = Wear()
    wear.count(leaf((chunk(1), 0, 33), (chunk(2), 0, 34), (chunk(3), 99, 1)))
    for number in (1, 2):
        wear.reaches(chunk(number), 100)
    assert wear.worn(0) == [chunk(3), chunk(1)]


def test_a_bundle_of_which_nothing_is_known_but_the_living_is_not_worn() -> None:
    wear = Wear()
    wear.count(leaf((chunk(1), 0, 10), (chunk(1), 10, 5)))
    assert wear.worn(0) == []


def test_a_bundle_is_as_long_as_the_farthest_file_ever_seen_in_it() -> None:
    wear = Wear()
    wear.count(leaf((chunk(1), 500, 10)))
    wear.reaches(chunk(1), 20)
    assert wear.worn(0) == [chunk(1)]
    wear.count(leaf((chunk(1), 0, 400)))
    assert wear.worn(0) == []


def test_bundles_without_living_files_do_not_matter() -> None:
    wear = Wear()
    wear.reaches(chunk(1), 1000)
    wear.count(leaf((chunk(2), 0, 10)))
    assert wear.worn(0) == []


def test_large_and_split_files_are_not_in_bundles() -> None:
    wear = Wear()
    wear.count(leaf((chunk(1), 5 * MIB, LARGE_FILE)))
    two = leaf((chunk(2), 1000, 10))
    two.message.parts[0].entries[0].extents.add(chunk=0, offset=0, length=1)
    wear.count(two)
    wear.count(Node(pb.Node(parts=[pb.DirectoryPart(entries=[pb.Entry(name=b"empty")])]), ()))
    assert wear.worn(0) == []


def test_what_a_large_sparse_file_holds_lives_in_a_bundle() -> None:
    wear = Wear()
    sparse = leaf((chunk(1), 0, 4096), (chunk(1), 4096, 10))
    sparse.message.parts[0].entries[0].size = 8 * LARGE_FILE
    wear.count(sparse)
    wear.reaches(chunk(1), 4106)
    assert wear.worn(0) == []


def test_leaves_add_up() -> None:
    wear = Wear()
    for start in range(0, 100, 10):
        wear.count(leaf((chunk(1), start, 10)))
    wear.reaches(chunk(1), 250)
    assert wear.worn(0) == []
    wear.reaches(chunk(1), 350)
    assert wear.worn(0) == [chunk(1)]


@pytest.mark.parametrize(("stored", "budget"), [(0, BUDGET_MIN), (100 * BUDGET_MIN, None)])
def test_no_more_is_moved_than_a_run_may_spend(stored: int, budget: int | None) -> None:
    wear = Wear()
    alive = LARGE_FILE - 1
    for number in range(200):
        wear.count(leaf((chunk(number), 10 * alive, alive)))
    worn = wear.worn(stored)
    assert len(worn) == (200 if budget is None else budget // alive)


def test_a_tenth_of_what_was_stored_may_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wear_module, "BUDGET_MIN", 0)
    wear = Wear()
    for number in range(100):
        wear.count(leaf((chunk(number), 5000, 100)))
    assert len(wear.worn(25_000)) == 25


@pytest.mark.parametrize("seed", range(5))
def test_the_most_worn_come_first(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    numbers = random.Random(seed)
    shares = {chunk(number): numbers.randrange(1, 1000) for number in range(100)}
    wear = Wear()
    for each, alive in shares.items():
        wear.count(leaf((each, 1000 - alive, alive)))
    worn = wear.worn(0)
    assert worn == sorted(worn, key=lambda each: (shares[each], each))
    assert set(worn) == {each for each, alive in shares.items() if alive < 1000 * ALIVE_MIN}
    monkeypatch.setattr(wear_module, "BUDGET_MIN", 500)
    few = wear.worn(0)
    assert few == worn[: len(few)]
    assert sum(shares[each] for each in few) <= 500


@pytest.mark.parametrize(
    ("before", "after", "changed", "died"),
    [
        (1000, 1000, 0, 0),  # nothing happened
        (1000, 1300, 300, 0),  # files came
        (1000, 700, 0, 300),  # files went
        (1000, 1100, 500, 400),  # a file of 400 became one of 500
        (1000, 900, 1000, 1000),  # more was read than there is: it shrank meanwhile
        (0, 500, 0, 0),  # a tree of which no size is known
    ],
)
def test_what_is_neither_there_nor_new_has_died(
    before: int, after: int, changed: int, died: int
) -> None:
    assert died_since(before, after, changed) == died


def test_counting_is_due_when_a_hundredth_has_died() -> None:
    assert not is_due(10, 1000)
    assert is_due(11, 1000)
    assert not is_due(0, 0)
    assert is_due(1, 0), "all of it has died"
