"""Promises of reading one file: what was there is what is saved, whatever happens meanwhile.

Real files; where one has to change at an exact moment, the system call that reads it does that.
"""

from __future__ import annotations

import os
import random
import socket
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from backit.client import handles, metadata
from backit.client import reader as reader_module
from backit.client.cache import Box, SeenCache
from backit.client.contents import Contents, LargeFile, Placement
from backit.client.reader import Reader, describe
from backit.crypto import primitives
from backit.engine.chunker import Chunker
from backit.engine.extents import extents_of, is_listed, list_hash
from backit.engine.leaf import GrowingLeaf, NewEntry
from backit.engine.merge import is_unchanged
from backit.engine.plan import Layout
from backit.engine.tree import TreeBuilder
from backit.errors import Invalid
from backit.format.magic import DIRECTORY_LIMIT, ENTRY_LIMIT, KIB, LARGE_FILE, MIB
from backit.format.node import Node, data_size, encode_time, entries
from backit.format.v1 import tree_pb2 as pb
from tests.backit.client.paper import Paper
from tests.backit.client.shelf import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Reading(NamedTuple):
    """What a reader returns."""

    entry: pb.Entry
    where: Placement | LargeFile | None


@dataclass
class Desk:
    """A folder with files, and a reader of them."""

    folder: Path
    fd: int
    paper: Paper = field(default_factory=Paper)
    reports: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])

    def __post_init__(self) -> None:
        seen = SeenCache(self.folder / "none", Box(bytes(32)))
        self.contents = Contents(self.paper, seen, ())
        self.reader = Reader(self.contents, self.paper, KEYS, self._report)

    def _report(self, name: bytes, why: str) -> None:
        self.reports.append((name, why))

    def write(self, data: bytes, name: str = "f") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def look(self, name: str = "f") -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def read(
        self, name: str = "f", found: os.stat_result | None = None, parent_hash: bytes = b""
    ) -> Reading:
        found = found or self.look(name)
        new = self.reader.read(b"", self.fd, name.encode(), found, parent_hash)
        assert not new.is_plain or not (new.message.attributes or new.message.holes)
        return Reading(new.message, new.content)  # type: ignore[arg-type]

    def saved(self, reading: Reading) -> bytes:
        """The file as a reader of the snapshot gets it, its leaf decoded as from the appliance."""
        self.contents.close()
        new = NewEntry(b"", reading.entry, content=reading.where)
        builder = TreeBuilder(KEYS, self.paper.node)
        builder.add(new)
        builder.finish()
        leaf = self.paper.sound_nodes()[-1]
        ((_directory, entry),) = entries(leaf)
        return self._bytes(entry, leaf)

    def _bytes(self, entry: pb.Entry, leaf: Node) -> bytes:
        held = self.paper.shelf.chunks_held
        content = bytearray(entry.size)
        layout = Layout(entry.size, [(hole.offset, hole.length) for hole in entry.holes])
        at = 0
        for extent in extents_of(entry, leaf, self.paper.shelf.load):
            run = held[extent.chunk][extent.offset : extent.offset + extent.length]
            for offset, start, length in layout.places(at, len(run)):
                content[offset : offset + length] = run[start : start + length]
            at += len(run)
        data = b"".join(
            bytes(content[offset : offset + length]) for offset, length in layout.stretches()
        )
        if data and is_listed(entry):
            extents = extents_of(entry, leaf, self.paper.shelf.load)
            assert entry.content_hash == list_hash(KEYS, *extents)
        else:
            assert entry.content_hash == (
                primitives.keyed_digest(KEYS.content_key, data) if data else b""
            )
        return bytes(content)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield Desk(tmp_path, fd)
    os.close(fd)


def some_bytes(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


SIZES = [0, 1, 4095, 4096, LARGE_FILE - 1, LARGE_FILE, MIB, 8 * MIB, 8 * MIB + 1, 21 * MIB]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_saved_as_it_is(desk: Desk, size: int) -> None:
    data = some_bytes(size)
    desk.write(data)
    reading = desk.read()
    assert reading.entry.size == size
    assert isinstance(reading.where, LargeFile) == (size >= LARGE_FILE)
    assert desk.saved(reading) == data
    assert desk.reports == []


def test_a_large_file_is_cut_as_if_it_were_read_in_one_piece(desk: Desk) -> None:
    data = some_bytes(30 * MIB)
    desk.write(data)
    desk.read()
    whole = Chunker(KEYS).cut(memoryview(data), is_last=True)
    assert desk.paper.chunks == [bytes(chunk) for chunk in whole]


def test_zeros_that_are_no_hole_are_data(desk: Desk) -> None:
    desk.write(bytes(100_000))
    reading = desk.read()
    assert not reading.entry.holes
    assert desk.saved(reading) == bytes(100_000)
    assert desk.paper.chunks == [bytes(100_000)]


def write_sparse(path: Path, size: int, pieces: Sequence[tuple[int, bytes]]) -> bytes:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    return path.read_bytes()


LAYOUTS: dict[str, tuple[int, list[tuple[int, int]]]] = {
    "nothing but a hole": (MIB, []),
    "data first": (MIB, [(0, 8192)]),
    "data last": (MIB, [(MIB - 4096, 4096)]),
    "data between": (MIB, [(400 * KIB, 8192)]),
    "data around": (MIB, [(0, 4096), (MIB - 4096, 4096)]),
    "many": (4 * MIB, [(at * 64 * KIB, 4096) for at in range(64)]),
    "large": (64 * MIB, [(0, 3 * MIB), (20 * MIB, 6 * MIB), (50 * MIB, 4096)]),
    "odd ends": (MIB + 5, [(0, 4096), (512 * KIB, 4099)]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_sparse_file_is_saved_with_its_holes(desk: Desk, name: str) -> None:
    size, places = LAYOUTS[name]
    pieces = [(at, some_bytes(length, at)) for at, length in places]
    content = write_sparse(desk.folder / "f", size, pieces)
    reading = desk.read()
    assert desk.saved(reading) == content
    assert reading.entry.size == size
    assert sum(hole.length for hole in reading.entry.holes) > 0
    assert data_size(reading.entry) < size
    assert sum(map(len, desk.paper.chunks)) == data_size(reading.entry)


@pytest.mark.parametrize("seed", range(10))
def test_any_layout_of_holes_comes_back(desk: Desk, seed: int) -> None:
    numbers = random.Random(seed)
    size = numbers.randrange(1, 300) * 4096 + numbers.randrange(4096)
    pieces = [
        (numbers.randrange(size), numbers.randbytes(numbers.randrange(1, 20_000)))
        for _ in range(numbers.randrange(8))
    ]
    content = write_sparse(desk.folder / "f", size, pieces)
    assert desk.saved(desk.read()) == content


class _Reads:
    """Stands between a reader and the files it reads."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._pread, self._preadv = os.pread, os.preadv
        patch.setattr(os, "pread", self.pread)
        patch.setattr(os, "preadv", self.preadv)

    def allowed(self, offset: int, length: int) -> int:
        """How much of it this call gives."""
        del offset
        return length

    def after(self) -> None:
        """What happens behind a read."""

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        data = self._pread(fd, self.allowed(offset, length), offset)
        self.after()
        return data

    def preadv(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        room = buffers[0][: self.allowed(offset, len(buffers[0]))]
        got = self._preadv(fd, [room], offset)
        self.after()
        return got


class _Meddling(_Reads):
    """Does something right behind the reads with these numbers."""

    def __init__(
        self, patch: pytest.MonkeyPatch, act: Callable[[], object], at: Sequence[int]
    ) -> None:
        super().__init__(patch)
        self._act = act
        self._at = at
        self._calls = 0

    def after(self) -> None:
        self._calls += 1
        if self._calls in self._at:
            self._act()


class _Ending(_Reads):
    """The file ends at an offset for whoever reads before that, and goes on behind it."""

    def __init__(self, patch: pytest.MonkeyPatch, end: int, resumes: int) -> None:
        super().__init__(patch)
        self._end = end
        self._resumes = resumes

    def allowed(self, offset: int, length: int) -> int:
        before = offset < self._resumes
        return max(0, min(length, self._end - offset)) if before else length


class _Stingy(_Reads):
    """Each call gives only a little."""

    def allowed(self, offset: int, length: int) -> int:
        return min(length, 7000 + offset // 100)


def meddle(patch: pytest.MonkeyPatch, act: Callable[[], object], *at: int) -> None:
    _Meddling(patch, act, at)


CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "shrinks": lambda path: os.truncate(path, path.stat().st_size // 2),
    "is rewritten": lambda path: path.write_bytes(path.read_bytes()[::-1]),
    "is emptied": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [10_000, 9 * MIB])
def test_a_file_that_changes_once_is_read_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, size: int, change: str
) -> None:
    path = desk.write(some_bytes(size))
    with monkeypatch.context() as patch:
        meddle(patch, lambda: CHANGES[change](path), 1)
        reading = desk.read()
    assert desk.saved(reading) == path.read_bytes()
    assert not reading.entry.inconsistent
    assert desk.reports == []


@pytest.mark.parametrize("size", [10_000, 9 * MIB])
def test_a_file_that_does_not_hold_still_is_marked_and_reported(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = desk.write(some_bytes(size))
    with monkeypatch.context() as patch:
        meddle(patch, lambda: path.write_bytes(path.read_bytes() + b"x"), *range(1, 100))
        reading = desk.read()
    assert reading.entry.inconsistent
    assert desk.reports == [(b"f", "it changed while it was being read, twice")]
    saved = desk.saved(reading)
    assert path.read_bytes().startswith(saved[:size])
    assert not is_unchanged(reading.entry, desk.look()), "the next run reads it again"


@pytest.mark.parametrize("large", [False, True])
def test_a_sparse_file_cut_off_and_grown_again_meanwhile_stays_readable(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    """The second stretch was read although the first had ended early: the leaf lied."""
    stretch = MIB if large else 8192
    pieces = [(0, some_bytes(stretch, 1)), (4 * MIB, some_bytes(stretch, 2))]
    path = desk.folder / "f"
    content = write_sparse(path, 8 * MIB, pieces)
    with monkeypatch.context() as patch:
        _Ending(patch, stretch // 2, 4 * MIB)
        reading = desk.read()
    assert desk.saved(reading) == content[: stretch // 2]


def test_a_file_system_that_gives_less_than_asked_for_cuts_nothing_off(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = some_bytes(50_000), some_bytes(3 * MIB)
    desk.write(small, "small")
    desk.write(large, "large")
    with monkeypatch.context() as patch:
        _Stingy(patch)
        readings = [desk.read("small"), desk.read("large")]
    assert [desk.saved(reading) for reading in readings] == [small, large]


def test_content_that_the_parent_has_is_not_placed_again(desk: Desk) -> None:
    data = some_bytes(1000)
    desk.write(data)
    reading = desk.read(parent_hash=primitives.keyed_digest(KEYS.content_key, data))
    assert reading.where is None
    assert reading.entry.content_hash
    assert desk.paper.chunks == []


@pytest.mark.parametrize("size", [3, 5_000, LARGE_FILE + 1])
def test_a_file_that_changed_since_the_scan_is_saved_as_it_is_now(desk: Desk, size: int) -> None:
    path = desk.write(b"before")
    found = desk.look()
    path.unlink()
    desk.write(some_bytes(size))
    reading = desk.read(found=found)
    assert not reading.entry.inconsistent
    assert reading.entry.inode == desk.look().st_ino
    assert desk.saved(reading) == some_bytes(size)
    assert desk.reports == []


def test_a_pipe_in_place_of_a_file_is_not_waited_for(desk: Desk) -> None:
    path = desk.write(b"x")
    found = desk.look()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Invalid, match="replaced by something else"):
        desk.read(found=found)


def test_a_directory_in_place_of_a_file_is_not_saved_as_one(desk: Desk) -> None:
    path = desk.write(b"x")
    found = desk.look()
    path.unlink()
    path.mkdir()
    with pytest.raises(Invalid, match="replaced by something else"):
        desk.read(found=found)


def test_a_link_in_place_of_a_file_is_not_followed(desk: Desk) -> None:
    path = desk.write(b"x")
    found = desk.look()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        desk.read(found=found)
    assert desk.paper.chunks == []


def test_a_file_that_has_gone_is_told_from_one_that_cannot_be_read(desk: Desk) -> None:
    path = desk.write(b"x")
    found = desk.look()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        desk.read(found=found)


def open_handles() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_no_handle_is_left_open(desk: Desk, kind: str) -> None:
    path = desk.folder / "f"
    if kind == "file":
        path.write_bytes(b"x")
    elif kind == "link":
        path.symlink_to("target")
    else:
        os.mkfifo(path)
    before = open_handles()
    desk.read()
    path.unlink()
    path.mkdir()
    desk.read()
    assert open_handles() == before


def test_links_pipes_and_directories_are_described(desk: Desk) -> None:
    (desk.folder / "link").symlink_to("where/ever")
    os.mkfifo(desk.folder / "pipe", 0o640)
    (desk.folder / "folder").mkdir()
    link, pipe, folder = (desk.read(name) for name in ("link", "pipe", "folder"))
    assert (link.entry.type, link.entry.target) == (pb.FILE_TYPE_SYMLINK, b"where/ever")
    assert (pipe.entry.type, pipe.entry.mode) == (pb.FILE_TYPE_FIFO, 0o640)
    assert folder.entry.type == pb.FILE_TYPE_DIRECTORY
    assert not folder.entry.links
    assert [each.where for each in (link, pipe, folder)] == [None] * 3


@pytest.mark.root
def test_devices_keep_their_numbers(desk: Desk) -> None:
    os.mknod(desk.folder / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    entry = desk.read("null").entry
    assert (entry.type, entry.device_major, entry.device_minor) == (pb.FILE_TYPE_CHARACTER, 1, 3)


def test_a_socket_cannot_be_saved(desk: Desk) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(".", os.O_RDONLY)
        os.fchdir(desk.fd)
        listener.bind("socket")
        os.fchdir(here)
        os.close(here)
        with pytest.raises(Invalid, match="type"):
            describe(b"socket", desk.look("socket"))


def test_names_of_one_file_say_so(desk: Desk) -> None:
    path = desk.write(b"x")
    (desk.folder / "again").hardlink_to(path)
    entry = desk.read().entry
    assert (entry.links, entry.link_device) == (2, path.stat().st_dev)


def with_attributes(patch: pytest.MonkeyPatch, attributes: Sequence[tuple[bytes, bytes]]) -> None:
    def read(_fd: int) -> tuple[tuple[bytes, bytes], ...]:
        return tuple(attributes)

    patch.setattr(metadata, "read_attributes", read)


def test_attributes_are_saved(desk: Desk) -> None:
    os.setxattr(desk.write(b"x"), b"user.note", b"hello")
    entry = desk.read().entry
    assert [(each.name, each.value) for each in entry.attributes] == [(b"user.note", b"hello")]


def test_only_attributes_that_do_not_fit_are_left_out_and_reported(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [
        (b"user.a", b"small"),
        (b"user.b", bytes(700 * KIB)),
        (b"user.c", bytes(700 * KIB)),
        (b"user.d", b"also small"),
    ]
    with_attributes(monkeypatch, many)
    desk.write(b"content")
    reading = desk.read()
    assert [each.name for each in reading.entry.attributes] == [b"user.a", b"user.b", b"user.d"]
    assert desk.reports == [(b"f", "attribute b'user.c' does not fit and is not saved")]
    assert desk.saved(reading) == b"content"
    assert not is_unchanged(reading.entry, desk.look()), "the next run reports it again"


def test_an_entry_with_many_holes_and_attributes_still_fits(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attributes(monkeypatch, [(b"user.%05d" % n, bytes(80)) for n in range(9_000)])

    def ranges(_fd: int, size: int) -> list[tuple[int, int]]:
        return [(at, 1) for at in range(0, size, 8192)][: metadata.HOLES_MAX - 1]

    monkeypatch.setattr(metadata, "data_ranges", ranges)
    write_sparse(desk.folder / "f", metadata.HOLES_MAX * 8192, [])
    reading = desk.read()
    assert len(reading.entry.holes) == metadata.HOLES_MAX - 1
    assert not isinstance(reading.where, LargeFile)
    assert reading.where is not None
    desk.contents.close()
    new = NewEntry(b"c\0" * (DIRECTORY_LIMIT // 2), reading.entry, content=reading.where)
    leaf = GrowingLeaf()
    leaf.add(new)
    assert 2 * MIB < leaf.held <= ENTRY_LIMIT
    builder = TreeBuilder(KEYS, desk.paper.node)
    builder.add(new)
    builder.finish()
    assert len(desk.paper.sound_nodes()) == 1


FAILING = ["read_attributes", "read_flags"]


@pytest.mark.parametrize("what", FAILING)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_read_beside_the_content_costs_nothing_else(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, what: str, kind: str
) -> None:
    desk.write(b"content", "file")
    (desk.folder / "folder").mkdir()

    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(metadata, what, fail)
    reading = desk.read(kind)
    assert [name for name, _why in desk.reports] == [kind.encode()]
    assert desk.reports[0][1].endswith("cannot be read: input/output error")
    assert desk.saved(reading) == (b"content" if kind == "file" else b"")
    assert not is_unchanged(reading.entry, desk.look(kind)), "the next run tries again"


def test_a_directory_that_cannot_be_opened_is_saved_for_what_is_in_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.folder / "folder").mkdir(mode=0o700)

    def refuse(_parent: int, _name: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(handles, "open_directory", refuse)
    entry = desk.read("folder").entry
    assert (entry.type, entry.mode) == (pb.FILE_TYPE_DIRECTORY, 0o700)
    assert desk.reports == [(b"folder", "it cannot be opened: permission denied")]


def settled(path: Path) -> None:
    """Wait until the file's last change is older than a tick of the file system's clock."""
    limit = path.lstat().st_ctime_ns + reader_module.TICK_NS
    while time.time_ns() <= limit:
        os.sched_yield()


def test_a_file_that_has_just_changed_is_looked_at_again_by_the_next_run(desk: Desk) -> None:
    path = desk.write(b"x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 5_000_000)
        assert not is_unchanged(desk.read().entry, desk.look())
    settled(path)
    assert is_unchanged(desk.read().entry, desk.look())


def test_a_file_from_a_far_future_is_not_read_again_and_again(desk: Desk) -> None:
    path = desk.write(b"x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns - 10**18)
        assert is_unchanged(desk.read().entry, desk.look())


def test_a_time_that_cannot_be_stored_is_moved_and_reported(desk: Desk) -> None:
    desk.write(b"x")
    found = desk.look()
    times = {"st_mtime_ns": -(10**19), "st_ctime_ns": found.st_ctime_ns}
    far = os.stat_result(tuple(found), {**times, "st_blocks": 8, "st_rdev": 0})
    assert encode_time(far.st_mtime_ns) == 0
    desk.read(found=far)
    assert desk.reports == [(b"f", "its time of change does not lie between 1900 and 2484")]
