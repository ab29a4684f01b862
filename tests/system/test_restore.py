"""A restore brings back what was asked for, where it was asked for, and spoils nothing there."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import Person
from tests.system import trees
from tests.system.sameness import assert_same, contents, unchanged
from tests.system.trees import MIB

HOUR = 3_600 * 10**9


@dataclass(frozen=True)
class Saved:
    """A source and its only snapshot."""

    source: Path
    place: str


@pytest.fixture(scope="module")
def saved(anna: Person, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    source = tmp_path_factory.mktemp("source")
    trees.plant(source, "restore", files=30, large=6 * MIB)
    (source / "single").write_bytes(b"a file of its own")
    (source / "single").chmod(0o640)
    (source / "link").symlink_to("single")
    return Saved(source, f"{anna.backup(source)['snapshot']}:{source}")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def test_a_folder_fills_the_target(anna: Person, saved: Saved, target: Path) -> None:
    summary = anna.restore(f"{saved.place}/folder 1", target).summary
    assert_same(saved.source / "folder 1", target)
    assert summary["written_bytes"] == sum(map(len, contents(target).values()))
    assert (summary["failed"], summary["kept"], summary["warned"]) == (0, 0, 0)


def test_a_file_goes_into_the_target(anna: Person, saved: Saved, target: Path) -> None:
    for name in ("single", "link"):
        anna.restore(f"{saved.place}/{name}", target)
    assert sorted(path.name for path in target.iterdir()) == ["link", "single"]
    for name in ("single", "link"):
        then, now = (saved.source / name).lstat(), (target / name).lstat()
        assert (now.st_mode, now.st_mtime_ns) == (then.st_mode, then.st_mtime_ns)
    assert (target / "single").read_bytes() == b"a file of its own"


def test_a_whole_snapshot_lies_below_the_target(anna: Person, saved: Saved, target: Path) -> None:
    anna.restore(saved.place.partition(":")[0], target)
    assert_same(saved.source, target / saved.source.relative_to("/"))


def test_a_dry_run_writes_nothing(anna: Person, saved: Saved, target: Path) -> None:
    planned = anna.restore(saved.place, target, "--dry-run").summary
    assert not target.exists()
    done = anna.restore(saved.place, target).summary
    assert planned["actions"] == done["actions"]
    (target / "single").unlink()
    with unchanged(target):
        anna.restore(saved.place, target, "--dry-run")


def test_only_what_differs_is_written(anna: Person, saved: Saved, target: Path) -> None:
    anna.restore(saved.place, target)
    large = (target / "large").stat().st_ino
    assert anna.restore(saved.place, target).summary["written_bytes"] == 0
    shutil.rmtree(target / "folder 2")
    (target / "single").chmod(0o600)
    again = anna.restore(saved.place, target).summary
    assert_same(saved.source, target)
    assert again["written_bytes"] == sum(map(len, contents(saved.source / "folder 2").values()))
    assert (target / "large").stat().st_ino == large


def test_what_else_is_in_the_target_stays(anna: Person, saved: Saved, target: Path) -> None:
    (target / "folder 1").mkdir(parents=True)
    target.chmod(0o771)
    for mine in (target / "mine", target / "folder 1" / "mine"):
        mine.write_bytes(b"not from the snapshot")
    anna.restore(saved.place, target)
    found = contents(target)
    assert found.pop("mine") == found.pop("folder 1/mine") == b"not from the snapshot"
    assert found == contents(saved.source)
    assert target.stat().st_mode & 0o777 == 0o771


def change(file: Path, *, hours: int) -> None:
    """Give a file other content, and a time that is so much later than it had."""
    moment = file.stat().st_mtime_ns + hours * HOUR
    file.write_bytes(b"changed by somebody")
    os.utime(file, ns=(moment, moment))


@pytest.mark.parametrize(
    ("overwrite", "kept"),
    [("never", {"newer", "older"}), ("older", {"newer"}), ("always", set[str]())],
)
def test_files_that_differ_are_kept_or_replaced_as_told(
    anna: Person, saved: Saved, target: Path, overwrite: str, kept: set[str]
) -> None:
    anna.restore(saved.place, target)
    changed = {"newer": target / "single", "older": target / "large"}
    change(changed["newer"], hours=1)
    change(changed["older"], hours=-1)
    options = () if overwrite == "older" else ("--overwrite", overwrite)
    output = anna.restore(saved.place, target, *options, expect=3 if kept else 0)
    assert {each["path"] for each in output.named("kept")} == {str(changed[age]) for age in kept}
    assert output.summary["kept"] == len(kept)
    for age, file in changed.items():
        is_mine = file.read_bytes() == b"changed by somebody"
        assert is_mine == (age in kept), age


def test_changed_content_with_the_same_size_and_time_is_found_when_asked_to_verify(
    anna: Person, saved: Saved, target: Path
) -> None:
    anna.restore(saved.place, target)
    file = target / "large"
    then = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"flipped")
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))
    anna.restore(saved.place, target, "--verify", "--overwrite", "always")
    assert_same(saved.source, target)


@pytest.mark.parametrize("name", ["folder 1", "single"])
def test_a_link_in_the_target_leads_nobody_out_of_it(
    anna: Person, saved: Saved, target: Path, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    target.mkdir(saved.source.stat().st_mode & 0o777)
    (target / name).symlink_to(outside if name == "folder 1" else outside / "file")
    with unchanged(outside):
        anna.restore(saved.place, target, "--overwrite", "always", expect=(0, 3))
    anna.restore(saved.place, target, "--overwrite", "always")
    assert_same(saved.source, target)


def test_something_in_the_way_of_the_target_is_left_alone(
    anna: Person, saved: Saved, target: Path
) -> None:
    target.write_bytes(b"a file")
    anna.ctl("restore", saved.place, "--to", target, expect=2)
    assert target.read_bytes() == b"a file"


def test_a_restore_of_what_is_not_there_makes_nothing(
    anna: Person, saved: Saved, target: Path
) -> None:
    output = anna.restore(f"{saved.place}/nowhere", target, expect=1)
    assert "nowhere" in output.errors
    assert not target.exists()
