"""What is in the snapshots can be listed, searched, compared, counted, checked; by programs too."""

import base64
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import Box, Person
from tests.system import trees

pytestmark = pytest.mark.usefixtures("two")
NO_TEXT = b"caf\xe9 \n \x1b[31m"


@dataclass(frozen=True)
class Two:
    """Two snapshots of one source, and what the source holds."""

    source: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def two(anna: Person, tmp_path_factory: pytest.TempPathFactory) -> Two:
    source = tmp_path_factory.mktemp("source")
    trees.plant_everything(source, "reading")
    first = anna.backup(source)["snapshot"]
    (source / "new").write_bytes(b"new")
    (source / "large").write_bytes(b"other content")
    (source / "folder 0").chmod(0o700)
    shutil.rmtree(source / "folder 1")
    return Two(source, first, anna.backup(source)["snapshot"])


def test_a_listing_tells_what_stat_tells(anna: Person, two: Two) -> None:
    entries = anna.ctl("--json", "ls", f"latest:{two.source}").json["entries"]
    listed = {exact(each): each for each in entries}
    there = {os.fsencode(path): path.lstat() for path in two.source.iterdir()}
    assert set(listed) == set(there)
    for path, found in there.items():
        entry = listed[path]
        assert int(entry["mode"], 8) == stat.S_IMODE(found.st_mode)
        assert (entry["uid"], entry["gid"]) == (found.st_uid, found.st_gid)
        assert entry["mtime_ns"] == found.st_mtime_ns
        assert (entry["type"] == "directory") == stat.S_ISDIR(found.st_mode)
        if stat.S_ISREG(found.st_mode):
            assert entry["size"] == found.st_size


def exact(entry: dict[str, str]) -> bytes:
    """The bytes of a path that may be no text."""
    coded = entry.get("path_b64")
    return base64.b64decode(coded) if coded else entry["path"].encode()


def test_a_recursive_listing_has_everything(anna: Person, two: Two) -> None:
    entries = anna.ctl("--json", "ls", "-r", f"{two.second}:{two.source}").json["entries"]
    there = {os.fsencode(path) for path in two.source.rglob("*") if not path.is_socket()}
    assert {exact(each) for each in entries} == there


def test_a_listing_moves_no_cursor(anna: Person, two: Two) -> None:
    text = anna.ctl("ls", f"latest:{two.source}").text
    assert "\x1b" not in text
    assert len(text.splitlines()) == len(list(two.source.iterdir()))


def test_find_finds_names_and_paths(anna: Person, two: Two) -> None:
    found = anna.ctl("--json", "find", "file 000?").events
    here = [each for each in found if each["path"].startswith(str(two.source))]
    assert len(here) == len(list(two.source.rglob("file 000?"))) > 0
    everywhere = anna.ctl("--json", "find", "--all", f"{two.source}/folder 1/*/file*").events
    assert {each["snapshot"] for each in everywhere} == {two.first}
    odd = anna.ctl("--json", "find", os.fsdecode(b"caf\xe9*")).events
    assert os.fsencode(two.source) + b"/" + NO_TEXT in {exact(each) for each in odd}
    anna.ctl("find", "no such name", expect=1)


def test_diff_shows_what_changed(anna: Person, two: Two) -> None:
    output = anna.ctl("--json", "diff", two.first, two.second)
    changes = {each["path"]: each["change"] for each in output.named("change")}
    here = {Path(path): kind for path, kind in changes.items() if str(two.source) in path}
    assert here[two.source / "new"] == "added"
    assert here[two.source / "large"] == "modified"
    assert here[two.source / "folder 0"] == "metadata"
    assert here[two.source / "folder 1"] == "removed"
    unchanged = (path for path in two.source.rglob("*") if "folder 2" in str(path))
    assert not any(path in here for path in unchanged)
    assert output.summary["added"] == 1
    assert anna.ctl("--json", "diff", two.second, two.second).named("change") == []


def test_cat_writes_the_bytes_of_a_file(anna: Person, two: Two) -> None:
    assert anna.ctl("cat", f"{two.second}:{two.source}/large").text == "other content"
    with anna.popen("cat", f"{two.first}:{two.source}/large") as process:
        data, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert len(data) == 3 * trees.MIB
    anna.ctl("cat", f"latest:{two.source}", expect=2)


def test_snapshots_are_named_by_prefix_latest_and_device(anna: Person, two: Two) -> None:
    (newest,) = (each for each in anna.snapshots() if each["id"] == two.second)
    for name in (two.second[:8], two.second, "latest", f"latest@{newest['label']}"):
        assert anna.ctl("cat", f"{name}:{two.source}/large").text == "other content"
    assert newest["number"] == 2
    assert newest["previous"] == two.first
    assert [each["path"] for each in newest["sources"]] == [str(two.source)]


def test_stats_and_status_count(box: Box, anna: Person, two: Two) -> None:
    stats = anna.ctl("--json", "stats").json
    listed = anna.snapshots()
    assert stats["snapshots"] == len(listed)
    assert stats["saved_bytes"] == sum(each["bytes"] for each in listed)
    assert {each["id"] for each in listed} >= {two.first, two.second}
    packs = sum(path.stat().st_size for path in (box.state / "store" / "packs").glob("??/*"))
    assert 0.9 * packs <= stats["stored_bytes"] <= packs
    status = anna.ctl("--json", "status").json
    assert status["snapshots"] == len(listed)
    assert status["stored_bytes"] == stats["stored_bytes"]
    assert 0 < status["free_bytes"] < status["disk_bytes"]


def test_a_forgotten_snapshot_comes_back_from_the_trash(anna: Person, two: Two) -> None:
    (gone,) = anna.ctl("--json", "forget", two.first).json["snapshots"]
    assert gone["id"] == two.first
    assert two.first not in {each["id"] for each in anna.snapshots()}
    anna.ctl("ls", two.first, expect=1)
    trashed = anna.ctl("--json", "snapshots", "--trashed").json["snapshots"]
    assert {each["id"]: each["trashed"] for each in trashed} == {two.first: True, two.second: False}
    assert anna.ctl("--json", "check", "--read-data").summary["findings"] == 0
    anna.ctl("undelete", two.first)
    assert {each["id"] for each in anna.snapshots()} == {two.first, two.second}
    assert len(anna.ctl("cat", f"{two.first}:{two.source}/folder 1/1/file 0001").text) > 0
    anna.ctl("undelete", two.first, expect=2)


def test_check_opens_what_it_is_told_to_open(anna: Person) -> None:
    without = anna.ctl("--json", "check").summary
    assert without["findings"] == 0
    assert without["opened_bytes"] > 0, "a sample in any case"
    assert (without["snapshots"], without["chunks"] > 2) == (2, True)
    everything = anna.ctl("--json", "check", "--read-data").summary
    assert everything["opened_bytes"] > 3 * trees.MIB
    half = anna.ctl("--json", "check", "--read-data=50%").summary
    assert 0 < half["opened_bytes"] <= everything["opened_bytes"]
    assert "all whole" in anna.ctl("check").text
