"""What a restore writes goes to disk while it goes on, and failures of that are not forgotten."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from backit.client import flusher
from backit.client.flusher import EVERY_BYTES, Flusher
from tests.patience import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


class Disk:
    """Stands where the C library does: counts, and fails when it is told to."""

    def __init__(self) -> None:
        self.synced: list[int] = []
        self.codes: list[int] = []

    def syncfs(self, directory: int) -> int:
        self.synced.append(directory)
        if not self.codes:
            return 0
        ctypes.set_errno(self.codes.pop())
        return -1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(flusher, "_libc", found)
    return found


def test_little_is_flushed_at_the_end_only(disk: Disk, place: int) -> None:
    flusher = Flusher()
    with flusher.flushing(place):
        flusher.count(EVERY_BYTES - 1)
        assert disk.synced == []
    assert disk.synced == [place]


def test_much_is_flushed_meanwhile(disk: Disk, place: int) -> None:
    flusher = Flusher()
    with flusher.flushing(place):
        for _each in range(4):
            flusher.count(EVERY_BYTES // 4)
        until(lambda: len(disk.synced) == 1, "it is flushed")
    assert disk.synced == [place, place]


def test_a_failure_that_the_kernel_told_of_once_is_raised_at_the_end(
    disk: Disk, place: int
) -> None:
    disk.codes = [errno.EIO]
    flusher = Flusher()
    with pytest.raises(OSError, match="Input/output error"), flusher.flushing(place):
        flusher.count(EVERY_BYTES)
        until(lambda: not disk.codes, "it has failed")
    assert len(disk.synced) == 2


def test_what_fails_is_not_flushed(disk: Disk, place: int) -> None:
    with pytest.raises(ValueError, match="else"), Flusher().flushing(place):
        raise ValueError("something else")
    assert disk.synced == []
    assert "flush" not in {thread.name for thread in threading.enumerate()}


def test_a_real_file_system_is_flushed(place: int) -> None:
    with Flusher().flushing(place):
        pass
    with pytest.raises(OSError, match="Bad file descriptor"), Flusher().flushing(-1):
        pass
