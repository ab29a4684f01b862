"""Snapshots, with the real programs: saved, listed, searched, compared, brought back, forgotten,
checked.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests import programs
from tests.programs import Person

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backitctl.conftest import MakePerson
    from tests.programs import Box, Output


def lines(answer: Output) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def summary(answer: Output) -> dict[str, Any]:
    (found,) = [each for each in lines(answer) if each["event"] == "summary"]
    return found


def plant(root: Path) -> Path:
    """A small tree with names of every kind."""
    (root / "inner").mkdir(parents=True)
    (root / "a.txt").write_text("first")
    (root / "a.txt").chmod(0o640)
    (root / "inner" / "b.txt").write_text("second")
    (root / "inner" / "link").symlink_to("b.txt")
    (root / os.fsdecode(b"ol\xe9")).write_text("latin-1")
    (root / "line\nbreak").write_text("odd")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree to save."""
    return plant(tmp_path / "tree")


@pytest.fixture
def saved(anna: Person, tree: Path, user: str) -> Person:
    """Somebody whose tree has been saved once, and who is logged in."""
    anna.ctl("backup", tree)
    anna.ctl("login", user)
    return anna


@dataclass(frozen=True)
class Archive:
    """A tree that was saved, and who saved it: for tests that change nothing."""

    person: Person
    tree: Path

    def ctl(self, *arguments: str | bytes | Path, expect: int = 0) -> Output:
        return self.person.ctl(*arguments, expect=expect)


@pytest.fixture(scope="module")
def archive(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Somebody whose tree has been saved once, and who is logged in."""
    folder = tmp_path_factory.mktemp("archive")
    found = Archive(Person(folder / "home"), plant(folder / "tree"))
    found.person.joins(box.unix, "archivist")
    found.ctl("backup", found.tree, "--tag", "weekly")
    found.ctl("login", "archivist")
    return found


def test_a_backup_says_what_it_did(anna: Person, tree: Path) -> None:
    answer = summary(anna.ctl("--json", "backup", tree))
    assert (answer["files"], answer["changed_files"], answer["failed"]) == (4, 4, 0)
    again = summary(anna.ctl("backup", "--json", tree))
    assert (again["files"], again["changed_files"]) == (4, 0)
    assert again["snapshot"] != answer["snapshot"]


def test_a_dry_run_saves_nothing(anna: Person, tree: Path) -> None:
    answer = summary(anna.ctl("--json", "backup", tree, "--dry-run"))
    assert (answer["files"], answer["snapshot"]) == (4, None)
    assert anna.snapshots() == []


def test_excluded_files_stay_out(anna: Person, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "patterns").write_text("inner/\n")
    options = ("--exclude", "a.*", "--exclude-from", tmp_path / "patterns")
    anna.ctl("backup", tree, *options)
    names = [each["path"] for each in anna.ctl("--json", "ls", f"latest:{tree}").json["entries"]]
    assert not [name for name in names if name.endswith(("a.txt", "inner"))]
    assert len(names) == 2


def test_a_whole_path_stays_out(anna: Person, tree: Path) -> None:
    anna.ctl("backup", tree.parent, "--exclude", f"{tree}/inner", "--exclude", "home/")
    names = [each["path"] for each in anna.ctl("--json", "ls", f"latest:{tree}").json["entries"]]
    assert f"{tree}/a.txt" in names
    assert f"{tree}/inner" not in names


def test_a_pipe_is_saved_without_being_read(anna: Person, tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    answer = summary(anna.ctl("--json", "backup", tree))
    assert (answer["failed"], answer["files"]) == (0, 4)


def test_paths_that_are_not_there_are_wrong_usage(anna: Person) -> None:
    anna.ctl("backup", "/does/not/exist", expect=2)
    anna.ctl("backup", expect=2)


def test_a_snapshot_knows_where_it_comes_from(archive: Archive) -> None:
    (found,) = archive.person.snapshots()
    assert found["sources"] == [{"path": str(archive.tree)}]
    assert (found["tags"], found["complete"], found["number"]) == (["weekly"], True, 1)
    assert archive.ctl("--json", "snapshots", "--tag", "other").json == {"snapshots": []}


def test_snapshots_are_named_by_the_beginning_of_their_id(archive: Archive) -> None:
    (found,) = archive.person.snapshots()
    for name in (found["id"], found["id"][:8], "latest", f"latest@{found['label']}"):
        assert archive.ctl("cat", f"{name}:{archive.tree}/a.txt").text == "first"


@pytest.mark.parametrize(
    ("name", "code"), [("0000000000", 1), ("12", 2), ("nonsense", 1), ("latest@nobody", 1)]
)
def test_an_unknown_snapshot_is_an_error(archive: Archive, name: str, code: int) -> None:
    answer = archive.ctl("--json", "ls", name, expect=code)
    assert json.loads(answer.errors)["error"]["message"]
    assert answer.text == ""


def test_names_that_are_no_text_are_shown_and_exact(archive: Archive) -> None:
    entries = archive.ctl("--json", "ls", f"latest:{archive.tree}").json["entries"]
    (odd,) = [each for each in entries if "path_b64" in each]
    assert odd["path"].endswith("ol\\xe9")
    assert "line\\nbreak" in archive.ctl("ls", f"latest:{archive.tree}").text
    path = os.fsencode(archive.tree) + b"/ol\xe9"
    assert archive.ctl("cat", b"latest:" + path).text == "latin-1"


def test_a_listing_goes_as_deep_as_asked(archive: Archive) -> None:
    top = archive.ctl("--json", "ls", f"latest:{archive.tree}").json["entries"]
    deep = archive.ctl("--json", "ls", "-r", f"latest:{archive.tree}").json["entries"]
    assert (len(top), len(deep)) == (4, 6)
    (one,) = archive.ctl("--json", "ls", f"latest:{archive.tree}/a.txt").json["entries"]
    assert (one["type"], one["size"], one["mode"]) == ("file", 5, "0640")
    archive.ctl("ls", f"latest:{archive.tree}/none", expect=1)
    archive.ctl("ls", "latest:/a/../b", expect=2)


def test_names_are_found(archive: Archive) -> None:
    found = lines(archive.ctl("--json", "find", "*.txt"))
    assert sorted(each["path"] for each in found) == [
        f"{archive.tree}/a.txt",
        f"{archive.tree}/inner/b.txt",
    ]
    assert len(lines(archive.ctl("--json", "find", f"{archive.tree}/inner/*", "--all"))) == 2
    archive.ctl("find", "nothing-is-called-this", expect=1)


def test_changes_are_told(saved: Person, tree: Path) -> None:
    first = saved.snapshots()[0]["id"]
    (tree / "a.txt").write_text("changed")
    (tree / "inner" / "b.txt").unlink()
    (tree / "new").write_text("new")
    saved.ctl("backup", tree)
    found = lines(saved.ctl("--json", "diff", first, "latest", "--content-only"))
    changes = {each["path"].removeprefix(f"{tree}/"): each["change"] for each in found[:-1]}
    assert changes == {"a.txt": "modified", "inner/b.txt": "removed", "new": "added"}
    assert found[-1]["modified"] == 1
    assert saved.ctl("diff", "latest", "latest").text == ""


def test_equal_trees_of_two_machines_do_not_differ(
    box: Box, saved: Person, person: MakePerson, user: str, tree: Path
) -> None:
    other = person("other")
    other.ctl("pair", box.unix, "--trust-first-use")
    other.ctl("login", user)
    other.ctl("device", "enrol", "--label", "second")
    other.ctl("backup", tree)
    first, second = (each["id"] for each in saved.snapshots())
    command = ("--json", "diff", "--content-only")
    assert lines(saved.ctl(*command, first, second))[:-1] == []
    (tree / "a.txt").write_text("a longer text")
    other.ctl("backup", tree)
    (change, _summary) = lines(saved.ctl(*command, first, "latest"))
    assert (change["path"], change["change"]) == (f"{tree}/a.txt", "modified")


def test_cat_writes_files_alone(archive: Archive) -> None:
    archive.ctl("cat", f"latest:{archive.tree}/inner", expect=2)
    archive.ctl("cat", f"latest:{archive.tree}/none", expect=1)
    archive.ctl("cat", "latest", expect=2)


def test_a_restore_brings_everything_back(archive: Archive, tmp_path: Path) -> None:
    archive.ctl("restore", f"latest:{archive.tree}", "--to", tmp_path / "out")
    assert (tmp_path / "out" / "inner" / "b.txt").read_text() == "second"
    assert (tmp_path / "out" / "inner" / "link").readlink().name == "b.txt"
    assert (tmp_path / "out" / os.fsdecode(b"ol\xe9")).read_text() == "latin-1"
    again = summary(
        archive.ctl("--json", "restore", f"latest:{archive.tree}", "--to", tmp_path / "out")
    )
    assert again["written_bytes"] == 0


def test_a_dry_restore_writes_nothing(archive: Archive, tmp_path: Path) -> None:
    archive.ctl("restore", f"latest:{archive.tree}", "--to", tmp_path / "out", "--dry-run")
    assert not (tmp_path / "out").exists()


def test_newer_files_are_kept_unless_told(archive: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out"
    archive.ctl("restore", f"latest:{archive.tree}", "--to", out)
    (out / "a.txt").write_text("mine")
    for mode in ("never", "older"):
        command = ("--json", "restore", f"latest:{archive.tree}", "--to", out, "--overwrite", mode)
        assert summary(archive.ctl(*command, expect=3))["kept"] == 1
        assert (out / "a.txt").read_text() == "mine"
    archive.ctl("restore", f"latest:{archive.tree}", "--to", out, "--overwrite", "always")
    assert (out / "a.txt").read_text() == "first"
    archive.ctl("restore", "latest", "--to", out, "--overwrite", "perhaps", expect=2)
    archive.ctl("restore", "latest", expect=2)


def test_what_was_forgotten_can_be_taken_back(saved: Person, tree: Path) -> None:
    (found,) = saved.snapshots()
    for _round in range(3):
        (moved,) = saved.ctl("--json", "forget", found["id"][:8]).json["snapshots"]
        assert (moved["id"], moved["trashed"]) == (found["id"], True)
        assert saved.snapshots() == []
        assert len(saved.ctl("--json", "snapshots", "--trashed").json["snapshots"]) == 1
        saved.ctl("undelete", found["id"][:8])
        assert saved.snapshots() == [found]
    assert saved.ctl("cat", f"latest:{tree}/a.txt").text == "first"
    saved.ctl("undelete", found["id"], expect=2)


def test_a_typing_error_forgets_nothing(archive: Archive) -> None:
    archive.ctl("forget", "latest", "0000000000", expect=1)
    assert len(archive.person.snapshots()) == 1


def test_numbers_add_up(saved: Person) -> None:
    stats = saved.ctl("--json", "stats").json
    assert (stats["snapshots"], stats["saved_files"], stats["devices"]) == (1, 4, 1)
    status = saved.ctl("--json", "status").json
    assert status["stored_bytes"] == stats["stored_bytes"] > 0
    assert status["quota_bytes"] is None
    assert status["last_snapshot"]


def test_an_untouched_account_is_whole(saved: Person, tree: Path) -> None:
    saved.ctl("backup", tree)
    answer = summary(saved.ctl("--json", "check", "--read-data"))
    assert (answer["findings"], answer["snapshots"]) == (0, 2)
    assert answer["opened_bytes"] > 0
    assert summary(saved.ctl("--json", "check"))["opened_bytes"] > 0, "a sample"
    saved.ctl("check", "--read-data=1%")
    saved.ctl("check", "--read-data=101", expect=2)
    saved.ctl("check", "--read-data=x", expect=2)


def packs(box: Box) -> list[Path]:
    return [each for each in (box.state / "store" / "packs").rglob("*") if each.is_file()]


@pytest.mark.parametrize("read_data", [False, True])
def test_damage_is_named_with_the_paths_that_suffer(
    tmp_path: Path, person: MakePerson, tree: Path, *, read_data: bool
) -> None:
    """Also damage to content that the appliance does not know of: a sample is opened anyway."""
    with programs.running(tmp_path / "box") as box:
        anna = person()
        anna.joins(box.unix)
        anna.ctl("backup", tree)
        for pack in packs(box):
            content = bytearray(pack.read_bytes())
            is_data = content[5] == 1
            if is_data == read_data:
                content[160] ^= 1  # in its only record
                pack.write_bytes(content)
        found = lines(anna.ctl("--json", "check", expect=1))
        (finding,) = [each for each in found if each["event"] == "finding"]
        assert finding["kind"] == ("data" if read_data else "node")
        paths = {each["path"] for each in finding["paths"]}
        assert paths == ({"/"} if not read_data else paths)
        if read_data:
            assert f"{tree}/a.txt" in paths
            anna.ctl("cat", f"latest:{tree}/a.txt", expect=1)
            target = tmp_path / "out"
            answer = anna.ctl("--json", "restore", f"latest:{tree}", "--to", target, expect=3)
            assert summary(answer)["failed"] == 4
            assert not (target / "a.txt").exists()
