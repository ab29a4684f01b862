"""Writing files: whole or not at all, whatever fails, and on file systems that can do less."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from backit.errors import Damaged, Internal, NoSpace
from backitd.store.files import Disk, Draft, create_all, make_folders, sweep
from tests.backitd.store.failing_disks import FailingDisk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class NamedDisk(Disk):
    """A file system without nameless files."""

    def draft(self, folder: Path) -> Draft:
        if self.anonymous:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return super().draft(folder)


def named(folder: Path) -> Disk:
    disk = NamedDisk()
    disk.probe(folder)
    return disk


def nameless(folder: Path) -> Disk:
    disk = Disk()
    disk.probe(folder)
    return disk


@pytest.mark.parametrize("make", [named, nameless])
def test_files_are_created_whole_with_their_time(
    tmp_path: Path, make: Callable[[Path], Disk]
) -> None:
    files = [(tmp_path / "one", b"1" * 100000), (tmp_path / "two", b"")]
    create_all(make(tmp_path), files, 1234567890)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    for path, content in files:
        assert path.read_bytes() == content
        assert int(path.stat().st_mtime) == 1234567890
        assert path.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("make", [named, nameless])
def test_an_existing_name_is_fine_with_the_same_content_only(
    tmp_path: Path, make: Callable[[Path], Disk]
) -> None:
    disk = make(tmp_path)
    create_all(disk, [(tmp_path / "one", b"1")], 1)
    create_all(disk, [(tmp_path / "one", b"1"), (tmp_path / "two", b"2")], 1)
    with pytest.raises(Damaged):
        create_all(disk, [(tmp_path / "three", b"3"), (tmp_path / "one", b"other")], 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert (tmp_path / "one").read_bytes() == b"1"


def test_drafts_without_nameless_files_are_found_out_and_swept(tmp_path: Path) -> None:
    disk = named(tmp_path)
    assert not disk.anonymous
    disk.close(disk.draft(tmp_path).fd)  # as if killed
    (tmp_path / "kept").write_text("kept")
    assert len(list(tmp_path.iterdir())) == 2
    sweep(disk, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_file_system_without_links_is_found_out_at_once(tmp_path: Path) -> None:
    disk = FailingDisk()
    disk.fail("link", 1, errno.EPERM)
    with pytest.raises(PermissionError):
        disk.probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.logs_warnings
@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, Internal)],
)
@pytest.mark.parametrize("operation", ["draft", "write", "stamp", "sync", "link", "sync_folder"])
@pytest.mark.parametrize("nth", [1, 2])
def test_whatever_fails_nothing_is_left(
    tmp_path: Path, operation: str, nth: int, number: int, expected: type[Exception]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = [(tmp_path / "a/one", b"1"), (tmp_path / "b/two", b"2")]
    disk = FailingDisk()
    before = len(os.listdir("/proc/self/fd"))
    disk.fail(operation, nth, number)
    with pytest.raises(expected):
        create_all(disk, files, 1)
    assert disk.failed
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(os.listdir("/proc/self/fd")) == before
    create_all(disk, files, 1)
    assert (tmp_path / "b/two").read_bytes() == b"2"


def test_folders_are_made_once(tmp_path: Path) -> None:
    for _ in range(2):
        assert make_folders(Disk(), tmp_path, ["a", "b"]) == tmp_path / "a/b"
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


@pytest.mark.logs_warnings
@pytest.mark.parametrize("operation", ["make_folder", "sync_folder"])
def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, operation: str) -> None:
    disk = FailingDisk()
    disk.fail(operation, 2, errno.ENOSPC)
    with pytest.raises(NoSpace):
        make_folders(disk, tmp_path, ["a", "b"])


def test_many_buffers_are_written_in_order(tmp_path: Path) -> None:
    """More than one system call takes, and more than a pipe does at once."""
    disk = Disk()
    buffers = [bytes([n % 251]) * (n % 7) for n in range(5000)]
    draft = disk.draft(tmp_path)
    assert disk.write(draft.fd, buffers) == sum(map(len, buffers))
    assert disk.read(draft.fd, 0, 100000) == b"".join(buffers)
    assert disk.read(draft.fd, 10, 20) == b"".join(buffers)[10:30]
    disk.discard(draft)


def test_writes_that_are_cut_short_are_continued() -> None:
    """A pipe takes what fits."""
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    buffers = [b"a" * 30000, b"", b"b" * 50000, b"c" * 70000]
    received = bytearray()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            Disk().write(writing, buffers)
        finally:
            os._exit(0)
    os.close(writing)
    while part := os.read(reading, 4096):
        received += part
    os.close(reading)
    os.waitpid(pid, 0)
    assert bytes(received) == b"".join(buffers)


def test_blocks_that_are_reserved_do_not_show(tmp_path: Path) -> None:
    disk = Disk()
    draft = disk.draft(tmp_path)
    disk.allocate(draft.fd, 0, 1 << 20)
    assert disk.size(draft.fd) == 0
    disk.discard(draft)
