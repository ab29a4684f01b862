"""Names come back sorted, each once, however few of them memory may hold."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backit.client.spill import NameSorter


@given(names=some.lists(some.binary(min_size=1, max_size=255)), limit=some.integers(1, 9))
def test_names_come_back_sorted_and_once(names: list[bytes], limit: int) -> None:
    sorter = NameSorter(None, in_memory=limit)
    for name in names:
        sorter.add(name)
    assert list(sorter) == sorted(set(names))


def test_runs_longer_than_a_read_are_merged(tmp_path: Path) -> None:
    sorter = NameSorter(tmp_path, in_memory=3_000)
    names = [b"%0200d" % (number * 7919 % 10_007) for number in range(10_000)]
    for name in names:
        sorter.add(name)
    assert list(sorter) == sorted(names)


def test_nothing_is_left_on_disk_and_no_handle_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sorter = NameSorter(tmp_path, in_memory=2)
    for number in range(10):
        sorter.add(b"%d" % number)
    assert list(tmp_path.iterdir()) == [], "the file has no name even while it is used"
    names = iter(sorter)
    assert next(names) == b"0"
    del names
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_takes_no_files_is_an_error(tmp_path: Path) -> None:
    sorter = NameSorter(tmp_path / "missing", in_memory=1)
    with pytest.raises(FileNotFoundError):
        sorter.add(b"name")
