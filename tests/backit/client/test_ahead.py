"""Promises of reading ahead: the same batches in the same order, their files asked for in time, and
nothing at all while everything is in the cache.
"""

from __future__ import annotations

import os
import subprocess
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backit.client import ahead
from backit.client.ahead import read_ahead
from backit.client.excludes import Excludes
from backit.client.scan import Batch, Scanner
from backit.format.magic import KIB
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = 40
Seen = list[tuple[bytes, list[bytes]]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders with two files each, a link and an empty file; all on the disk."""
    for number in range(FOLDERS):
        folder = tmp_path / f"{number:02}"
        folder.mkdir()
        for name in ("one", "two"):
            (folder / name).write_bytes(b"%d" % number * 10 * KIB)
        (folder / "link").symlink_to("one")
        (folder / "empty").touch()
    os.sync()
    return tmp_path


def complain(*about: object) -> None:
    pytest.fail(f"nobody expected this: {about}")


def scan(tree: Path) -> Iterator[Batch]:
    return Scanner(
        (bytes(tree),),
        excludes=Excludes(),
        one_file_system=False,
        report=complain,
    ).batches()


def seen(batches: Iterator[Batch]) -> Seen:
    """Every batch, and proof that its handle is that of its directory."""
    found: Seen = []
    for batch in batches:
        names = [name for name, _status in batch.entries]
        for name, status in batch.entries:
            assert os.stat(name, dir_fd=batch.fd, follow_symlinks=False).st_ino == status.st_ino
        found.append((batch.directory, names))
    return found


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("disk", ["never", "always", "at times"])
@pytest.mark.parametrize("most", [0, 3, 1000])
def test_the_batches_stay_what_they_were(
    tree: Path, disk: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "BATCHES_MAX", most)
    monkeypatch.setattr(ahead, "QUIET", 4)
    blocks = count()
    counters = {
        "never": lambda: 0,
        "always": lambda: next(blocks),
        "at times": lambda: next(blocks) // 7,
    }
    before = handles()
    assert seen(read_ahead(scan(tree), counter=counters[disk])) == seen(scan(tree))
    assert handles() == before


def test_whoever_stops_in_the_middle_leaves_no_handle_open(tree: Path) -> None:
    before = handles()
    blocks = count()
    batches = read_ahead(scan(tree), counter=lambda: next(blocks))
    next(batches)
    next(batches)
    assert handles() > before + 10, "it is ahead"
    batches.close()  # type: ignore[attr-defined]
    assert handles() == before


def test_without_a_handle_to_spare_it_goes_on_step_by_step(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = count()
    batches = read_ahead(scan(tree), counter=lambda: next(blocks))
    found = [next(batches)]
    names = [(found[0].directory, [name for name, _status in found[0].entries])]

    def refuse(_fd: int) -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "dup", refuse)
    assert names + seen(batches) == seen(scan(tree))


def test_it_holds_no_more_than_it_may(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "BYTES_MAX", 200 * KIB)
    taken = 0

    def counted() -> Iterator[Batch]:
        nonlocal taken
        for batch in scan(tree):
            taken += 1
            yield batch

    blocks = count()
    for number, _batch in enumerate(read_ahead(counted(), counter=lambda: next(blocks)), 1):
        # Each folder holds 20 KiB or more; those on the way to the tree hold no files.
        assert taken - number <= 200 // 20 + len(tree.parts)


@pytest.fixture
def forgotten(tree: Path) -> Path:
    """The tree with its files out of the page cache. Skips where the disk is memory."""
    for file in tree.glob("*/*"):
        fd = os.open(file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    if is_cached(tree / "00" / "one"):
        pytest.skip("this file system keeps files in memory")
    return tree


def is_cached(file: Path) -> bool:
    """Whether any of it is in the page cache. Looking must not have it read: a read that does not
    wait would.
    """
    asked = ("fincore", "--noheadings", "--raw", "--output", "PAGES", file)
    return int(subprocess.run(asked, check=True, capture_output=True).stdout) > 0


def test_once_two_reads_have_waited_files_are_there_before_their_turn(forgotten: Path) -> None:
    batches = read_ahead(scan(forgotten))
    waited = 0
    for batch in batches:
        if any(name == b"one" for name, _status in batch.entries):
            fd = os.open(b"one", os.O_RDONLY, dir_fd=batch.fd)
            before = ahead.blocks_read()
            os.pread(fd, 1, 0)
            os.close(fd)
            assert ahead.blocks_read() > before, "a read from the disk is counted"
            waited += 1
            if waited == 2:
                break
    next(batches)
    until(lambda: is_cached(forgotten / "30" / "two"), "files that nobody has read yet are there")
    batches.close()  # type: ignore[attr-defined]


def test_old_files_are_not_asked_for(forgotten: Path) -> None:
    """They have not changed since the last backup: nobody is going to read them."""
    newest = max(file.lstat().st_ctime_ns for file in forgotten.rglob("*"))
    changed = forgotten / "20" / "two"
    os.utime(changed)
    if changed.lstat().st_ctime_ns <= newest:
        pytest.skip("this file system's clock is too coarse")
    blocks = count()
    batches = read_ahead(scan(forgotten), since=newest + 1, counter=lambda: next(blocks))
    next(batches)
    next(batches)
    until(lambda: is_cached(changed), "what has changed is there")
    assert not is_cached(forgotten / "20" / "one")
    batches.close()  # type: ignore[attr-defined]


def test_where_everything_is_in_the_cache_nothing_is_asked_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fadvise", complain)
    assert seen(read_ahead(scan(tree), counter=lambda: 5)) == seen(scan(tree))


def test_where_a_few_files_are_not_in_the_cache_nothing_is_asked_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fadvise", complain)
    every_sixth = count(6)
    batches = read_ahead(scan(tree), counter=lambda: next(every_sixth) // 6)
    assert seen(batches) == seen(scan(tree))


def test_files_are_asked_for_until_it_has_been_quiet_for_long(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "QUIET", 6)
    asked: list[bytes] = []

    def note(fd: int, *_range: int) -> None:
        asked.append(Path(f"/proc/self/fd/{fd}").readlink().name.encode())

    monkeypatch.setattr(os, "posix_fadvise", note)
    waits = len(tree.parts) + 10
    read = iter([*range(waits), *[waits] * 1000])
    assert seen(read_ahead(scan(tree), counter=lambda: next(read))) == seen(scan(tree))
    assert 10 < len(asked) < FOLDERS
