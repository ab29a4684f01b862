"""Promises of where contents go: bundles that changes hardly disturb, and nothing stored twice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from backit.client import cache as cache_module
from backit.client import contents as contents_module
from backit.client.cache import Box, SeenCache
from backit.client.contents import Contents, LargeFile, Placement
from backit.crypto import primitives
from backit.engine.bundle import BUNDLE_MAX, BUNDLE_MIN
from backit.engine.extents import extents_of, list_hash
from backit.engine.leaf import Extent
from backit.errors import Unavailable
from backit.format.magic import INLINE_EXTENTS_LIMIT, KIB
from backit.format.node import Node
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId
from tests.backit.client.paper import Paper
from tests.backit.client.shelf import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def seen(tmp_path: Path) -> SeenCache:
    return SeenCache(tmp_path, Box(bytes(32)))


def some_files(seed: int, count: int, most: int = 60 * KIB) -> list[bytes]:
    numbers = random.Random(seed)
    return [numbers.randbytes(numbers.randrange(1, most)) for _ in range(count)]


def hash_of(data: bytes) -> bytes:
    return primitives.keyed_digest(KEYS.content_key, data)


def place(contents: Contents, data: bytes) -> Placement:
    return contents.small(data, hash_of(data))


def read(paper: Paper, placement: Placement) -> bytes:
    extent = placement.extent()
    chunk = paper.shelf.chunks_held[extent.chunk]
    return chunk[extent.offset : extent.offset + extent.length]


def bundles_of(files: Sequence[bytes], folder: Path) -> list[bytes]:
    paper = Paper()
    contents = Contents(paper, SeenCache(folder, Box(bytes(32))), ())
    for data in files:
        place(contents, data)
    contents.close()
    return paper.chunks


@pytest.mark.parametrize("is_late", [False, True])
def test_every_file_is_found_where_it_was_placed(
    paper: Paper, seen: SeenCache, *, is_late: bool
) -> None:
    paper.is_late = is_late
    contents = Contents(paper, seen, ())
    files = some_files(1, 300)
    placed = [place(contents, data) for data in files]
    contents.close()
    assert [read(paper, placement) for placement in placed] == files


def test_a_placement_is_ready_when_its_bundle_has_a_name(paper: Paper, seen: SeenCache) -> None:
    paper.is_late = True
    contents = Contents(paper, seen, ())
    placement = place(contents, b"small")
    assert not placement.is_ready
    with pytest.raises(ValueError, match="not been placed"):
        placement.extent()
    contents.close()
    assert not placement.is_ready
    paper.keep_all()
    assert placement.is_ready


def test_bundles_are_neither_small_nor_too_large(tmp_path: Path) -> None:
    *bundles, _last = bundles_of(some_files(2, 600), tmp_path)
    assert len(bundles) > 8
    assert all(BUNDLE_MIN <= len(bundle) <= BUNDLE_MAX for bundle in bundles)


def _never(_held: int, _size: int, _content_hash: bytes) -> bool:
    return False


def test_files_that_would_overflow_a_bundle_begin_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "bundle_ends", _never)
    files = some_files(3, 40, 500 * KIB)
    bundles = bundles_of(files, tmp_path)
    assert b"".join(bundles) == b"".join(files)
    assert max(map(len, bundles)) <= BUNDLE_MAX


@pytest.mark.parametrize("seed", range(4))
def test_what_was_inserted_before_does_not_move_the_boundaries_behind(
    tmp_path: Path, seed: int
) -> None:
    files = some_files(seed, 600)
    before = bundles_of(files, tmp_path)
    after = bundles_of([b"a new file at the front", *files], tmp_path)
    same = set(before) & set(after)
    assert len(same) >= len(before) - 4
    assert after[-1] == before[-1]


def test_the_same_content_is_placed_once_in_a_run(paper: Paper, seen: SeenCache) -> None:
    contents = Contents(paper, seen, ())
    first, again = place(contents, b"same"), place(contents, b"same")
    assert again is first
    contents.close()
    assert place(contents, b"same") is first
    assert paper.chunks == [b"same"]


def test_a_file_seen_before_is_not_stored_again(paper: Paper, seen: SeenCache) -> None:
    first = Contents(paper, seen, ())
    files = some_files(4, 50)
    for data in files:
        place(first, data)
    first.close()
    first.remember()
    stored = len(paper.chunks)
    paper.alive = set(paper.shelf.chunks_held)
    second = Contents(paper, seen, ())
    placed = [place(second, data) for data in reversed(files)]
    second.close()
    assert [read(paper, placement) for placement in placed] == files[::-1]
    assert len(paper.chunks) == stored
    assert len(paper.asked) == len(set(paper.asked)), "each chunk is asked for once"


def remember_old(seen: SeenCache, paper: Paper, data: bytes, *, alive: bool) -> ChunkId:
    """An earlier run has put the data into a chunk of its own, behind 10 other bytes."""
    chunk = paper.shelf.put(bytes(10) + data)
    if alive:
        paper.alive.add(chunk)
    seen.put(hash_of(data)[:16], (chunk.raw, 10, len(data)))
    return chunk


def test_a_hit_counts_only_once_the_appliance_has_confirmed_it(
    paper: Paper, seen: SeenCache
) -> None:
    paper.is_late = True
    chunk = remember_old(seen, paper, b"old", alive=True)
    contents = Contents(paper, seen, ())
    placement = place(contents, b"old")
    assert not placement.is_ready
    paper.keep_all()
    place(contents, b"whatever comes next")
    assert placement.is_ready
    assert placement.extent().chunk == chunk
    assert read(paper, placement) == b"old"


@pytest.mark.parametrize("is_late", [False, True])
def test_a_file_whose_old_chunk_is_gone_is_bundled_again(
    paper: Paper, seen: SeenCache, *, is_late: bool
) -> None:
    paper.is_late = is_late
    remember_old(seen, paper, b"lost", alive=False)
    kept = remember_old(seen, paper, b"kept", alive=True)
    contents = Contents(paper, seen, ())
    placed = [place(contents, data) for data in (b"lost", b"kept", b"new")]
    contents.close()
    assert [read(paper, placement) for placement in placed] == [b"lost", b"kept", b"new"]
    assert placed[1].extent().chunk == kept
    assert sorted(b"".join(paper.chunks)) == sorted(b"lostnew")


def test_a_hit_of_another_length_is_none(paper: Paper, seen: SeenCache) -> None:
    chunk = remember_old(seen, paper, b"12345", alive=True)
    seen.put(hash_of(b"123")[:16], (chunk.raw, 10, 5))
    contents = Contents(paper, seen, ())
    placement = place(contents, b"123")
    contents.close()
    assert read(paper, placement) == b"123"


def test_held_files_are_bounded_in_bytes_and_released_in_order(
    paper: Paper, seen: SeenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "HELD_BYTES", 50_000)
    paper.is_late = True
    files = some_files(5, 100, 20_000)
    for data in files:
        remember_old(seen, paper, data, alive=False)
    contents = Contents(paper, seen, ())
    placed: list[Placement] = []
    for data in files:
        placed.append(place(contents, data))
        held = [each.length for each in placed if each.chunk is None and each.bundle is None]
        assert sum(held) <= 50_000 + 20_000
    contents.close()
    assert b"".join(paper.chunks) == b"".join(files)
    assert [read(paper, placement) for placement in placed] == files


def test_closing_in_the_middle_of_a_run_leaves_nothing_counted_as_held(
    paper: Paper, seen: SeenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "HELD_BYTES", 1000)
    paper.is_late = True
    for data in (b"a" * 900, b"b" * 900):
        remember_old(seen, paper, data, alive=True)
    contents = Contents(paper, seen, ())
    place(contents, b"a" * 900)
    contents.close()
    waits = paper.waits
    place(contents, b"b" * 900)
    place(contents, b"new")
    assert paper.waits == waits, "there is room to wait without holding anybody up"


def test_files_in_worn_bundles_are_placed_anew(paper: Paper, seen: SeenCache) -> None:
    worn = remember_old(seen, paper, b"moves", alive=True)
    stays = remember_old(seen, paper, b"stays", alive=True)
    contents = Contents(paper, seen, [worn])
    placed = [place(contents, data) for data in (b"moves", b"stays")]
    contents.close()
    contents.remember()
    assert [read(paper, placement) for placement in placed] == [b"moves", b"stays"]
    assert placed[1].extent().chunk == stays
    assert paper.chunks == [b"moves"]
    moved = seen.get(hash_of(b"moves")[:16])
    assert moved is not None
    assert ChunkId(moved[0]) == paper.shelf.put(b"moves")


def test_only_so_many_files_of_a_run_are_remembered_and_none_is_lost(
    paper: Paper, seen: SeenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "SEEN_MAX", 20)
    contents = Contents(paper, seen, ())
    files = some_files(6, 100)
    placed = [place(contents, data) for data in files]
    assert [place(contents, files[-number]) for number in (1, 10)] == [placed[-1], placed[-10]]
    again = place(contents, files[0])
    assert again is not placed[0]
    contents.close()
    assert [read(paper, placement) for placement in [*placed, again]] == [*files, files[0]]


def test_what_a_run_no_longer_remembers_is_in_the_seen_index(
    paper: Paper, seen: SeenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents_module, "SEEN_MAX", 20)
    contents = Contents(paper, seen, ())
    files = some_files(6, 100)
    hashes = [hash_of(data) for data in files]
    places = [contents.small(data, content) for data, content in zip(files, hashes, strict=True)]
    forgotten = hashes[0][:16]
    assert seen.get(forgotten) is not None, "at once, and not only at the end"
    contents.close()
    contents.remember()
    for content, placement in zip(hashes, places, strict=True):
        extent = placement.extent()
        assert seen.get(content[:16]) == (extent.chunk.raw, extent.offset, extent.length)


@pytest.mark.parametrize(("new", "old_left"), [(0, 20), (5, 15), (20, 0)])
def test_new_files_take_the_room_of_the_oldest(
    paper: Paper, seen: SeenCache, monkeypatch: pytest.MonkeyPatch, new: int, old_left: int
) -> None:
    monkeypatch.setattr(contents_module, "SEEN_MAX", 40)
    monkeypatch.setattr(cache_module, "SEEN_MAX", 20)
    monkeypatch.setattr(cache_module, "SPILL_ROWS", 1)
    old = some_files(8, 20, 100)
    chunks = [remember_old(seen, paper, data, alive=True) for data in old]
    contents = Contents(paper, seen, ())
    files = some_files(9, new, 100)
    for data in files:
        place(contents, data)
    contents.close()
    contents.remember()
    known = {chunk for chunk, _length in seen.reaches()}
    assert [chunk in known for chunk in chunks] == [n >= 20 - old_left for n in range(20)]
    assert all(seen.get(hash_of(data)[:16]) for data in files)


def test_what_kept_a_name_from_coming_is_told_to_whoever_waits(
    paper: Paper, seen: SeenCache
) -> None:
    contents = Contents(paper, seen, ())
    placement = place(contents, b"data")
    contents.close()
    paper.failure = Unavailable("gone")
    with pytest.raises(Unavailable):
        placement.extent()
    with pytest.raises(Unavailable):
        contents.remember()


def large(paper: Paper, pieces: Sequence[bytes]) -> LargeFile:
    found = LargeFile(paper, KEYS)
    for piece in pieces:
        found.add(memoryview(piece))
    return found


def data_of(paper: Paper, found: LargeFile, size: int) -> bytes:
    extents, tree, _hash = found.finish()
    entry = pb.Entry(name=b"f", size=size)
    if tree is not None:
        entry.extent_tree = 1
        leaf = Node(pb.Node(), (tree,))
        extents = list(extents_of(entry, leaf, paper.shelf.load))
    held = paper.shelf.chunks_held
    return b"".join(held[e.chunk][e.offset : e.offset + e.length] for e in extents)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("count", [0, 1, INLINE_EXTENTS_LIMIT, INLINE_EXTENTS_LIMIT + 1, 3000])
def test_the_chunks_of_a_large_file_come_in_file_order(
    paper: Paper, count: int, *, is_late: bool
) -> None:
    paper.is_late = is_late
    pieces = [b"%d " % number for number in range(count)]
    found = large(paper, pieces)
    content = b"".join(pieces)
    assert data_of(paper, found, len(content)) == content
    assert (found.finish()[1] is not None) == (count > INLINE_EXTENTS_LIMIT)
    assert found.count == len(found.finish()[0])
    listed = [Extent(paper.shelf.put(piece), 0, len(piece)) for piece in pieces]
    assert found.finish()[2] == list_hash(KEYS, *listed)
    assert len(paper.sound_nodes()) == len(paper.nodes)
    assert found.finish() is found.finish()


def test_a_large_file_waits_for_few_names_at_a_time(paper: Paper) -> None:
    paper.is_late = True
    found = LargeFile(paper, KEYS)
    for number in range(1000):
        found.add(memoryview(b"%d" % number))
        assert found.burden <= contents_module.LARGE_AHEAD * contents_module.PROMISE_BYTES
    assert found.where(wait=False) is None
    paper.keep_all()
    assert found.where(wait=False) is not None


def test_names_that_have_come_are_not_kept_as_promises(paper: Paper) -> None:
    found = large(paper, [b"%d" % number for number in range(50)])
    assert found.burden == 0


def test_a_large_file_without_its_chunks_fails(paper: Paper) -> None:
    paper.is_late = True
    found = large(paper, [b"x"])
    paper.failure = Unavailable("gone")
    with pytest.raises(Unavailable):
        found.finish()
