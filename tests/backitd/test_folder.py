"""Promises of small files: whole, durable, for the owner alone."""

import stat
from pathlib import Path

import pytest

from backit.errors import Damaged
from backitd.folder import SmallFiles
from tests.backitd.clocks import FakeClock, FakeRandom


@pytest.fixture
def files(tmp_path: Path) -> SmallFiles:
    return SmallFiles(tmp_path / "small", FakeClock())


def test_a_secret_is_made_once(files: SmallFiles) -> None:
    random = FakeRandom()
    first = files.lasting_secret("key", random)
    assert len(first) == 32
    assert files.lasting_secret("key", random) == first
    assert stat.S_IMODE((files.folder / "key").stat().st_mode) & 0o077 == 0


def test_a_name_keeps_its_content(files: SmallFiles) -> None:
    files.create("a", b"one")
    files.create("a", b"one")
    with pytest.raises(Damaged):
        files.create("a", b"two")


def test_a_file_is_replaced_even_over_what_a_killed_run_left(files: SmallFiles) -> None:
    files.create("a.new", b"half")
    files.replace("a", b"one")
    files.replace("a", b"two")
    assert [(path.name, path.read_bytes()) for path in files.folder.iterdir()] == [("a", b"two")]


def test_removing_twice_is_fine(files: SmallFiles) -> None:
    files.create("a", b"one")
    files.remove("a")
    files.remove("a")
    assert list(files.folder.iterdir()) == []
