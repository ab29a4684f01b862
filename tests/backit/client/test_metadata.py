"""What a file is beside its bytes is read as it is, by handle, without touching it."""

import array
import errno
import fcntl
import itertools
import os
import random
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backit.client import handles, metadata
from backit.format.node import FLAGS_MASK


def open_path(path: Path) -> int:
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        return handles.open_for_reading(parent, os.fsencode(path.name))
    finally:
        os.close(parent)


def test_attributes_come_sorted_with_names_and_values_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    wanted = {b"user.b": b"", b"user.a": bytes(range(256)), b"user.\xff\xfe": b"odd"}
    for name, value in wanted.items():
        os.setxattr(path, name, value)
    fd = open_path(path)
    assert metadata.read_attributes(fd) == tuple(sorted(wanted.items()))
    os.close(fd)


def test_a_file_without_attributes_has_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = open_path(tmp_path / "file")
    assert metadata.read_attributes(fd) == ()
    assert metadata.read_flags(fd) & ~FLAGS_MASK == 0
    os.close(fd)


def test_a_file_system_without_attributes_or_flags_is_no_error() -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    assert metadata.read_attributes(fd) == ()
    assert metadata.read_flags(fd) == 0
    os.close(fd)


@pytest.mark.root
def test_attributes_of_a_link_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.setxattr(tmp_path / "link", "trusted.note", b"mine", follow_symlinks=False)
    os.setxattr(tmp_path / "file", "trusted.note", b"not mine")
    at = os.open(tmp_path, os.O_RDONLY)
    assert metadata.read_attributes_at(at, b"link") == ((b"trusted.note", b"mine"),)
    os.close(at)


def test_a_pipe_in_a_files_place_is_opened_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    fd = open_path(tmp_path / "pipe")
    assert stat.S_ISFIFO(os.fstat(fd).st_mode)
    os.close(fd)


def test_a_link_in_a_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic links") as caught:
        open_path(tmp_path / "link")
    assert caught.value.errno == errno.ELOOP


def test_reading_leaves_the_access_time_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(0, 10**18))
    fd = open_path(path)
    assert os.read(fd, 100) == b"content"
    os.close(fd)
    assert path.stat().st_atime_ns == 0


LEASE = """
import fcntl, signal, sys
fd = open(sys.argv[1], "rb+")
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
def leave(*_args):
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    sys.exit()
signal.signal(signal.SIGIO, leave)
print("holding", flush=True)
while True:
    signal.pause()
"""


def test_a_file_that_somebody_leases_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with subprocess.Popen([sys.executable, "-c", LEASE, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert select.select([holder.stdout], [], [], 30)[0]
        assert holder.stdout.readline() == b"holding\n"
        fd = open_path(path)
        assert os.read(fd, 100) == b"content"
        os.close(fd)
        assert holder.wait(30) == 0


def written(path: Path, size: int, runs: list[tuple[int, int]]) -> int:
    """A file of this size with data only where `runs` (offset, length) say."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.ftruncate(fd, size)
    for offset, length in runs:
        os.pwrite(fd, b"x" * length, offset)
    return fd


@pytest.mark.parametrize(
    ("size", "runs"),
    [
        (0, []),
        (1, [(0, 1)]),
        (1 << 20, []),
        (1 << 20, [(0, 4096)]),
        (1 << 20, [(1 << 19, 4096), ((1 << 20) - 4096, 4096)]),
        ((1 << 20) + 7, [(1 << 20, 7)]),
        (1 << 40, [(1 << 39, 4096)]),
    ],
)
def test_ranges_cover_the_data_and_leave_out_holes(
    tmp_path: Path, size: int, runs: list[tuple[int, int]]
) -> None:
    fd = written(tmp_path / "file", size, runs)
    assert metadata.data_ranges(fd, size) == runs
    os.close(fd)


def test_a_file_system_that_knows_no_holes_is_all_data() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError, match="seek"):
        metadata.data_ranges(read, 10)
    os.close(read)
    os.close(write)
    fd = os.open("/proc/self/maps", os.O_RDONLY)
    assert metadata.data_ranges(fd, 10) == [(0, 10)]
    os.close(fd)


@given(data=some.data())
def test_of_too_many_holes_the_smallest_are_taken_for_data(data: some.DataObject) -> None:
    rng = random.Random(data.draw(some.integers(0, 1000)))
    most = data.draw(some.integers(3, 12))
    at = 0
    ranges: list[tuple[int, int]] = []
    for _ in range(data.draw(some.integers(most + 1, 40))):
        at += rng.choice((1, 2, 3, 10, 50))
        length = rng.randrange(1, 9)
        ranges.append((at, length))
        at += length
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "HOLES_MAX", most)
        joined = metadata.without_small_holes(ranges)
    assert len(joined) == most - 1
    assert joined[0][0] == ranges[0][0]
    assert sum(joined[-1]) == sum(ranges[-1])
    covered = {at for offset, length in joined for at in range(offset, offset + length)}
    assert all(at in covered for offset, length in ranges for at in range(offset, offset + length))
    gaps = [b[0] - sum(a) for a, b in itertools.pairwise(ranges)]
    kept = [b[0] - sum(a) for a, b in itertools.pairwise(joined)]
    assert sorted(kept) == sorted(gaps)[-len(kept) :]


@pytest.mark.root
def test_flags_are_masked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    fd = open_path(path)
    word = array.array("I", [0, 0])
    try:
        fcntl.ioctl(fd, 0x40086602, array.array("I", [0x40 | 0x80 | 0x80000, 0]))
    except OSError:
        pytest.skip("no inode flags here")
    fcntl.ioctl(fd, 0x80086601, word)
    assert word[0] & ~FLAGS_MASK, "the file system has flags of its own"
    assert metadata.read_flags(fd) == 0x40 | 0x80
    os.close(fd)
