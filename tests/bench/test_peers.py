"""What is timed of each program is the same work."""

from pathlib import Path

import pytest

from tests.bench.measure import measure
from tests.bench.peers import synced
from tests.bench.processes import BenchError, Command


def command(folder: Path, *argv: str) -> Command:
    return Command(argv, {"PATH": "/usr/bin:/bin"}, folder, folder / "log")


def test_a_restore_is_on_disk_before_its_time_ends(tmp_path: Path) -> None:
    target = tmp_path / "its target"
    target.mkdir()
    measure(synced(command(tmp_path, "touch", f"{target}/a file"), target))
    assert (target / "a file").exists()
    with pytest.raises(BenchError, match="sync"):
        measure(synced(command(tmp_path, "true"), tmp_path / "that is not there"))


def test_a_restore_that_fails_is_not_covered_by_the_sync(tmp_path: Path) -> None:
    with pytest.raises(BenchError):
        measure(synced(command(tmp_path, "false"), tmp_path))
