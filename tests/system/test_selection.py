"""What is left out of a backup is what was asked for, and nothing else."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import Box, Person
from tests.system import trees
from tests.system.packs import pack_files
from tests.system.sameness import unchanged

CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"


@pytest.fixture
def crowd(source: Path) -> Path:
    """Files whose names say what they are."""
    for path in ("a.o", "a.c", "sub/b.o", "sub/b.c", "sub/deep/a.c", "build/x.c", "keep/build.txt"):
        file = source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    return source


def saved(anna: Person, source: Path) -> set[str]:
    """The files of the latest snapshot, by their path in the source."""
    entries = anna.ctl("--json", "ls", "--recursive", f"latest:{source}").json["entries"]
    files = (Path(each["path"]) for each in entries if each["type"] == "file")
    return {str(each.relative_to(source)) for each in files}


def test_excluded_names_are_left_out_at_any_depth(anna: Person, crowd: Path) -> None:
    anna.backup(crowd, "--exclude", "*.o", "--exclude", "build/")
    assert saved(anna, crowd) == {"a.c", "sub/b.c", "sub/deep/a.c", "keep/build.txt"}


def test_a_pattern_with_a_slash_is_a_path_and_a_later_one_takes_back(
    anna: Person, crowd: Path
) -> None:
    anna.backup(crowd, "--exclude", f"{crowd}/sub/*", "--exclude", f"!{crowd}/sub/b.c")
    assert saved(anna, crowd) == {"a.o", "a.c", "sub/b.c", "build/x.c", "keep/build.txt"}


def test_patterns_come_from_files_too(anna: Person, crowd: Path, tmp_path: Path) -> None:
    patterns = tmp_path / "patterns"
    patterns.write_text("# objects\n*.o\n\nkeep\n")
    anna.backup(crowd, "--exclude-from", patterns, "--exclude", "deep")
    assert saved(anna, crowd) == {"a.c", "sub/b.c", "build/x.c"}


def test_a_missing_file_of_patterns_stops_everything(
    anna: Person, crowd: Path, tmp_path: Path
) -> None:
    before = len(anna.snapshots())
    anna.ctl("backup", crowd, "--exclude-from", tmp_path / "nothing", expect=(1, 2))
    assert len(anna.snapshots()) == before


def test_caches_that_say_so_are_left_out(anna: Person, crowd: Path) -> None:
    (crowd / "sub" / "CACHEDIR.TAG").write_bytes(CACHE_TAG + b"\n# made by a test")
    (crowd / "build" / "CACHEDIR.TAG").write_bytes(b"Signature: of something else")
    anna.backup(crowd)
    found = saved(anna, crowd)
    assert {each for each in found if each.startswith("sub/")} <= {"sub/CACHEDIR.TAG"}
    assert {"build/x.c", "build/CACHEDIR.TAG"} <= found


def test_what_is_no_longer_excluded_is_saved_the_next_time(anna: Person, crowd: Path) -> None:
    anna.backup(crowd, "--exclude", "sub")
    assert "sub/b.c" not in saved(anna, crowd)
    anna.backup(crowd)
    assert "sub/b.c" in saved(anna, crowd)
    anna.backup(crowd, "--exclude", "sub")
    assert "sub/b.c" not in saved(anna, crowd)


@pytest.fixture
def mounted(source: Path) -> Iterator[Path]:
    """A source with another file system in it."""
    trees.plant(source, "mounted", files=3, large=0)
    place = source / "elsewhere"
    place.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place), check=True)
    try:
        (place / "on it").write_bytes(b"data")
        yield source
    finally:
        subprocess.run(("umount", place), check=True)


@pytest.mark.root
def test_one_file_system_stops_at_mount_points(anna: Person, mounted: Path) -> None:
    anna.backup(mounted, "--one-file-system")
    assert "elsewhere/on it" not in saved(anna, mounted)
    listed = anna.ctl("--json", "ls", f"latest:{mounted}").json["entries"]
    assert str(mounted / "elsewhere") in {each["path"] for each in listed}
    anna.backup(mounted)
    assert "elsewhere/on it" in saved(anna, mounted)


def test_snapshots_are_found_by_their_tags(newcomer: Person, source: Path) -> None:
    trees.plant(source, "tags", files=3, large=0)
    newcomer.backup(source, "--tag", "weekly", "--tag", "überall")
    newcomer.backup(source)
    (found,) = newcomer.ctl("--json", "snapshots", "--tag", "überall").json["snapshots"]
    assert found["tags"] == ["weekly", "überall"]
    assert newcomer.ctl("--json", "snapshots", "--tag", "week").json["snapshots"] == []


def test_a_dry_run_counts_and_sends_nothing(box: Box, newcomer: Person, source: Path) -> None:
    trees.plant(source, "dry")
    before = pack_files(box.state)
    with unchanged(source):
        planned = newcomer.backup(source, "--dry-run")
    assert pack_files(box.state) == before
    assert newcomer.snapshots() == []
    done = newcomer.backup(source)
    for field in ("entries", "files", "bytes", "changed_files"):
        assert planned[field] == done[field], field
    assert planned["snapshot"] is None
    (source / "large").touch()
    assert newcomer.backup(source, "--dry-run")["changed_files"] == 1
