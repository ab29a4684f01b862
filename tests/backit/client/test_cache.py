"""Promises of a device's cache: it is believed when whole, and costs only time when it is not."""

from __future__ import annotations

import contextlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from backit.client import cache as cache_module
from backit.client.cache import (
    Box,
    CachedHead,
    SeenCache,
    SeriesCache,
    WatermarkCache,
    as_far_as_readable,
)
from backit.client.excludes import Excludes
from backit.client.scan import Scanner
from backit.crypto import primitives
from backit.engine.leaf import NewEntry
from backit.engine.levels import ChildInfo, Sealable
from backit.engine.tree import Leaf, TreeBuilder
from backit.errors import Damaged
from backit.format import node as nodes
from backit.format.magic import Kind
from backit.format.record import Plain
from backit.format.v1 import cache_pb2 as pb
from backit.format.v1 import tree_pb2
from backit.ids import ChunkId, SeriesId, SnapshotId
from tests.backit.client.shelf import KEYS

BOX = Box(bytes(32))
SERIES = SeriesId(b"s" * 16)
SNAPSHOT = SnapshotId(b"n" * 32)
WORN = ChunkId(b"w" * 32)

Grown = list[tuple[ChildInfo, Sealable]]


def grow(count: int, seed: int = 1) -> tuple[ChunkId, Grown]:
    """The root and the leaves of some tree."""
    numbers = random.Random(seed)
    leaves: Grown = []

    def on_leaf(info: ChildInfo, leaf: Sealable | Leaf) -> None:
        assert isinstance(leaf, Sealable)
        leaves.append((info, leaf))

    builder = TreeBuilder(KEYS, lambda _node: None, on_leaf=on_leaf)
    for number in range(count):
        entry = tree_pb2.Entry(
            name=b"f%05d" % number, type=tree_pb2.FILE_TYPE_DIRECTORY, inode=numbers.getrandbits(30)
        )
        builder.add(NewEntry(b"", entry))
    return builder.finish().chunk, leaves


ROOT, LEAVES = grow(500)


def expected(leaves: Grown) -> list[Leaf]:
    return [
        Leaf(info, decoded(leaf), is_last=number == len(leaves) - 1)
        for number, (info, leaf) in enumerate(leaves)
    ]


def decoded(leaf: Sealable) -> nodes.Node:
    return nodes.decode(Plain(Kind.NODE, leaf.references, leaf.plaintext), leaf.chunk)


def commit(cache: SeriesCache, root: ChunkId = ROOT, leaves: Grown = LEAVES) -> None:
    writer = cache.writer()
    for info, leaf in leaves:
        writer.add(info, leaf)
    cache.commit(CachedHead(SNAPSHOT, root, size=500, died=20), writer)


@pytest.fixture
def cache(tmp_path: Path) -> SeriesCache:
    return SeriesCache(tmp_path / "cache", BOX, SERIES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the series' files lie."""
    return tmp_path / "cache" / SERIES.hex


def read(cache: SeriesCache, root: ChunkId = ROOT) -> list[Leaf]:
    return list(as_far_as_readable(cache.leaves(root)))


def test_the_last_tree_is_remembered(cache: SeriesCache) -> None:
    assert len(LEAVES) > 3
    assert cache.head() is None
    commit(cache)
    assert cache.head() == CachedHead(SNAPSHOT, ROOT, size=500, died=20)
    assert read(cache) == expected(LEAVES)


def test_leaves_that_were_kept_are_written_as_they_were(cache: SeriesCache) -> None:
    writer = cache.writer()
    for leaf in expected(LEAVES):
        writer.add(leaf.info, leaf)
    cache.commit(CachedHead(SNAPSHOT, ROOT), writer)
    assert read(cache) == expected(LEAVES)


def test_what_comes_from_the_cache_goes_there_again_as_it_is(
    cache: SeriesCache, folder: Path
) -> None:
    commit(cache)
    before = (folder / ROOT.hex).read_bytes()
    writer = cache.writer()
    for leaf in read(cache):
        writer.add(leaf.info, leaf)
    cache.commit(CachedHead(SNAPSHOT, ROOT), writer)
    assert (folder / ROOT.hex).read_bytes() == before
    assert read(cache) == expected(LEAVES)


def test_nothing_is_remembered_before_the_commit(cache: SeriesCache) -> None:
    commit(cache)
    other, leaves = grow(100, seed=2)
    writer = cache.writer()
    for info, leaf in leaves:
        writer.add(info, leaf)
    assert cache.head() == CachedHead(SNAPSHOT, ROOT, size=500, died=20)
    writer.discard()
    assert read(cache) == expected(LEAVES)
    assert read(cache, other) == []


def test_a_new_tree_takes_the_place_of_the_old_one(cache: SeriesCache, folder: Path) -> None:
    commit(cache)
    other, leaves = grow(100, seed=2)
    commit(cache, other, leaves)
    assert read(cache, other) == expected(leaves)
    assert {each.name for each in folder.iterdir()} == {"head", other.hex}


def test_advice_is_kept_until_the_next_tree(cache: SeriesCache) -> None:
    cache.advise([WORN])
    assert cache.head() is None, "there is nothing that it could be about"
    commit(cache)
    cache.advise([WORN])
    assert cache.head() == CachedHead(SNAPSHOT, ROOT, size=500, died=0, worn=frozenset([WORN]))
    commit(cache)
    assert cache.head() == CachedHead(SNAPSHOT, ROOT, size=500, died=20)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def is_beginning(found: list[Leaf]) -> bool:
    """Whether these are the first leaves of the tree, unchanged; a last one may follow any."""
    infos = [leaf.info for leaf in found]
    contents = [leaf.node for leaf in found]
    true = expected(LEAVES)[: len(found)]
    ends = [leaf.is_last for leaf in found]
    return (
        infos == [leaf.info for leaf in true]
        and contents == [leaf.node for leaf in true]
        and not any(ends[:-1])
    )


def test_any_flipped_bit_of_a_tree_ends_it_there_and_makes_no_other(
    cache: SeriesCache, folder: Path
) -> None:
    commit(cache)
    file = folder / ROOT.hex
    whole = file.read_bytes()
    numbers = random.Random(1)
    # All of the first block's head, and some of everything.
    head = range(8 * (cache_module.HEAD_BYTES + 2))
    bits = [*head, *(numbers.randrange(8 * len(whole)) for _ in range(100))]
    for bit in bits:
        file.write_bytes(flipped(whole, bit))
        found = read(cache)
        assert is_beginning(found)
        assert len(found) < len(LEAVES), bit
        with pytest.raises(Damaged):
            list(cache.leaves(ROOT))


def test_a_tree_that_was_cut_off_anywhere_is_good_up_to_there(
    cache: SeriesCache, folder: Path
) -> None:
    commit(cache)
    file = folder / ROOT.hex
    whole = file.read_bytes()
    numbers = random.Random(1)
    for length in [0, 1, *(numbers.randrange(len(whole)) for _ in range(60))]:
        file.write_bytes(whole[:length])
        found = read(cache)
        assert is_beginning(found)
        assert len(found) < len(LEAVES)


def blocks(whole: bytes) -> list[bytes]:
    """The blocks of a file, still sealed."""
    found: list[bytes] = []
    while whole:
        length = cache_module.HEAD_BYTES + cache_module.LENGTH.unpack_from(whole)[0]
        found.append(whole[:length])
        whole = whole[length:]
    return found


def test_a_tree_cut_off_between_two_leaves_ends_with_a_last_one(
    cache: SeriesCache, folder: Path
) -> None:
    commit(cache)
    file = folder / ROOT.hex
    *rest, _last = blocks(file.read_bytes())
    file.write_bytes(b"".join(rest))
    found = read(cache)
    assert [leaf.is_last for leaf in found] == [False] * (len(rest) - 1) + [True]


def test_any_flipped_bit_of_the_head_forgets_it(cache: SeriesCache, folder: Path) -> None:
    commit(cache)
    cache.advise([WORN])
    whole = (folder / "head").read_bytes()
    for bit in range(8 * len(whole)):
        (folder / "head").write_bytes(flipped(whole, bit))
        assert cache.head() is None
    for length in range(len(whole)):
        (folder / "head").write_bytes(whole[:length])
        assert cache.head() is None
    (folder / "head").write_bytes(whole * 2)
    assert cache.head() is None


def test_a_head_without_its_tree_is_none(cache: SeriesCache, folder: Path) -> None:
    commit(cache)
    (folder / ROOT.hex).unlink()
    assert cache.head() is None
    assert read(cache) == []


def test_what_belongs_to_another_series_or_device_is_not_believed(
    cache: SeriesCache, folder: Path, tmp_path: Path
) -> None:
    commit(cache)
    others = [
        SeriesCache(tmp_path / "cache", BOX, SeriesId(b"o" * 16)),
        SeriesCache(tmp_path / "elsewhere", Box(b"k" * 32), SERIES),
    ]
    places = [tmp_path / "cache" / ("o" * 16).encode().hex(), tmp_path / "elsewhere" / SERIES.hex]
    for other, place in zip(others, places, strict=True):
        commit(other)
        (place / "head").write_bytes((folder / "head").read_bytes())
        (place / ROOT.hex).write_bytes((folder / ROOT.hex).read_bytes())
        assert other.head() is None
        assert read(other) == []


GARBAGE = [
    b"",
    b"\xff\xff\xff",
    pb.CachedLeaf(chunk=b"short").SerializeToString(),
    pb.CachedLeaf(chunk=bytes(32), references=b"odd").SerializeToString(),
    pb.CachedLeaf(chunk=bytes(32), plaintext=b"\xff\xff\xff").SerializeToString(),
    pb.CachedHead(snapshot_id=b"short", root=bytes(32)).SerializeToString(),
]


@pytest.mark.parametrize("plain", GARBAGE)
def test_what_another_version_has_sealed_is_as_good_as_nothing(
    cache: SeriesCache, folder: Path, tmp_path: Path, plain: bytes
) -> None:
    commit(cache)
    (folder / ROOT.hex).write_bytes(BOX.seal(SERIES, plain))
    assert read(cache) == []
    (folder / "head").write_bytes(BOX.seal(SERIES, plain))
    assert cache.head() is None
    nothing = SeriesId(bytes(16))
    for name in ("seen", "watermarks"):
        (tmp_path / name).write_bytes(BOX.seal(nothing, plain + b"x"))
    assert SeenCache(tmp_path, BOX).get(bytes(16)) is None
    assert list(WatermarkCache(tmp_path, BOX).load().series) == []


def test_a_block_too_long_to_be_one_is_not_read() -> None:
    head = cache_module.LENGTH.pack(cache_module.BLOCK_LIMIT + 1) + bytes(32)
    with pytest.raises(Damaged, match="too long"):
        list(BOX.blocks(SERIES, io.BytesIO(head + bytes(100))))


def test_nonces_are_never_used_twice() -> None:
    sealed = {BOX.seal(SERIES, b"same") for _ in range(100)}
    assert len({each[4:36] for each in sealed}) == 100


def test_a_disk_that_is_full_leaves_the_tree_before(cache: SeriesCache, folder: Path) -> None:
    commit(cache)
    other, leaves = grow(3000, seed=2)
    (folder / "growing").unlink(missing_ok=True)
    (folder / "growing").symlink_to("/dev/full")
    writer = cache.writer()
    for info, leaf in leaves:
        writer.add(info, leaf)
    with pytest.raises(OSError, match="No space left"):
        cache.commit(CachedHead(SNAPSHOT, other), writer)
    writer.discard()
    assert cache.head() == CachedHead(SNAPSHOT, ROOT, size=500, died=20)
    assert read(cache) == expected(LEAVES)


def test_a_backup_of_the_folder_leaves_the_cache_out(cache: SeriesCache, tmp_path: Path) -> None:
    commit(cache)
    SeenCache(tmp_path / "cache", BOX).save()
    scanner = Scanner(
        [bytes(tmp_path)],
        excludes=Excludes(),
        one_file_system=False,
        report=lambda path, why, _severity: pytest.fail(f"{path!r}: {why}"),
    )
    found = {
        b"/" + batch.directory.replace(b"\0", b"/") + name
        for batch in scanner.batches()
        for name, _status in batch.entries
    }
    below = {path for path in found if path.startswith(bytes(tmp_path) + b"/")}
    assert below == {bytes(tmp_path / "cache"), bytes(tmp_path / "cache" / "CACHEDIR.TAG")}


def row(number: int) -> tuple[bytes, tuple[bytes, int, int]]:
    return (
        primitives.digest(b"content %d" % number)[:16],
        (primitives.digest(b"chunk %d" % number), number, number + 1),
    )


def filled(folder: Path, numbers: range) -> SeenCache:
    seen = SeenCache(folder, BOX)
    for number in numbers:
        seen.put(*row(number))
    return seen


def test_the_seen_index_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "ROWS_A_BLOCK", 64)
    filled(tmp_path, range(1000)).save()
    again = SeenCache(tmp_path, BOX)
    assert all(again.get(row(number)[0]) == row(number)[1] for number in range(1000))
    assert again.get(row(1000)[0]) is None
    assert dict(again.reaches()) == {
        ChunkId(chunk): at + length for chunk, at, length in (row(n)[1] for n in range(1000))
    }


def test_the_seen_index_keeps_the_newest_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SEEN_MAX", 100)
    monkeypatch.setattr(cache_module, "ROWS_A_BLOCK", 64)
    seen = filled(tmp_path, range(300))
    seen.put(*row(5))
    seen.save()
    again = SeenCache(tmp_path, BOX)
    kept = [number for number in range(300) if again.get(row(number)[0]) is not None]
    assert kept == [5, *range(201, 300)]


def test_a_later_row_supersedes_an_earlier_one(tmp_path: Path) -> None:
    seen = filled(tmp_path, range(3))
    content, _place = row(1)
    seen.put(content, row(2)[1])
    seen.save()
    assert SeenCache(tmp_path, BOX).get(content) == row(2)[1]


def test_damage_to_the_seen_index_only_loses_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "ROWS_A_BLOCK", 64)
    filled(tmp_path, range(500)).save()
    whole = (tmp_path / "seen").read_bytes()
    numbers = random.Random(1)
    for _ in range(100):
        if numbers.random() < 0.5:
            damaged = flipped(whole, numbers.randrange(8 * len(whole)))
        else:
            damaged = whole[: numbers.randrange(len(whole))]
        (tmp_path / "seen").write_bytes(damaged)
        again = SeenCache(tmp_path, BOX)
        found = [again.get(row(number)[0]) for number in range(500)]
        known = [number for number, place in enumerate(found) if place is not None]
        assert all(found[number] == row(number)[1] for number in known)
        assert known == list(range(len(known)))
        assert len(known) < 500


def test_forgetting_relies_on_nothing_that_was_there(tmp_path: Path) -> None:
    filled(tmp_path, range(10)).save()
    again = SeenCache(tmp_path, BOX)
    again.forget()
    assert again.get(row(1)[0]) is None
    again.put(*row(20))
    again.save()
    assert [SeenCache(tmp_path, BOX).get(row(n)[0]) is None for n in (1, 20)] == [True, False]


def test_two_runs_that_save_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    """They used to write to one temporary file, and the second then had none to rename."""
    caches = [filled(tmp_path, range(start, start + 300)) for start in (0, 1000, 2000, 3000)]
    with ThreadPoolExecutor(len(caches)) as pool:
        for _ in range(10):
            for saved in [pool.submit(each.save) for each in caches]:
                saved.result()
            again = SeenCache(tmp_path, BOX)
            assert len(list(again.reaches())) == 300
    assert [each.name for each in tmp_path.iterdir()] == ["seen"]


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, range(10)).save()

    def refuse(_from: Path, _to: Path) -> Path:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, contextlib.suppress(OSError):
        patch.setattr(Path, "replace", refuse)
        filled(tmp_path, range(20)).save()
    assert [each.name for each in tmp_path.iterdir()] == ["seen"]
    assert len(list(SeenCache(tmp_path, BOX).reaches())) == 10


def marks(**counters: int) -> pb.Watermarks:
    rows = [pb.CachedSeries(series_id=name.encode(), counter=n) for name, n in counters.items()]
    return pb.Watermarks(series=rows)


def test_watermarks_come_back_and_never_fall(tmp_path: Path) -> None:
    cache = WatermarkCache(tmp_path, BOX)
    assert cache.load() == marks()
    cache.save(marks(a=3, b=5))
    cache.save(marks(a=2, c=1))
    assert cache.load() == marks(a=3, b=5, c=1)
    cache.save(marks(b=9))
    assert cache.load() == marks(a=3, b=9, c=1)


def test_damaged_watermarks_are_none(tmp_path: Path) -> None:
    cache = WatermarkCache(tmp_path, BOX)
    cache.save(marks(a=3))
    whole = (tmp_path / "watermarks").read_bytes()
    for bit in range(8 * len(whole)):
        (tmp_path / "watermarks").write_bytes(flipped(whole, bit))
        assert cache.load() == marks()


def test_leaves_are_in_key_order() -> None:
    keys = [info.first_key for info, _leaf in LEAVES]
    assert all(before < after for before, after in pairwise(keys))
