"""What was backed up comes back as it was, and is not sent twice."""

import random
import shutil
from pathlib import Path

import pytest

from tests.programs import Box, Person
from tests.system import trees
from tests.system.sameness import assert_same, contents
from tests.system.trees import KIB, MIB

# Folders above the source belong to others, who may touch them: that rewrites a leaf of the tree.
A_LEAF = 32 * KIB


@pytest.fixture(params=["unix", "tls"])
def address(request: pytest.FixtureRequest, box: Box) -> str:
    return box.unix if request.param == "unix" else box.tcp


def test_a_tree_with_everything_comes_back(
    address: str, user: str, source: Path, tmp_path: Path
) -> None:
    trees.plant_everything(source, 1)
    anna = Person(tmp_path / "home")
    anna.joins(address, user)
    summary = anna.backup(source)
    assert summary["failed"] == 0
    anna.restore(f"latest:{source}", tmp_path / "restored")
    assert_same(source, tmp_path / "restored")


def test_a_second_backup_stores_nothing(anna: Person, source: Path) -> None:
    trees.plant_everything(source, 2)
    first = anna.backup(source)
    assert first["stored_bytes"] > 3 * MIB
    second = anna.backup(source)
    assert (second["changed_files"], second["new_bytes"]) == (0, 0)
    assert second["stored_bytes"] < A_LEAF
    assert (second["files"], second["bytes"]) == (first["files"], first["bytes"])


def test_small_files_beside_a_sparse_one_are_not_read_again(anna: Person, source: Path) -> None:
    (source / "small").write_bytes(b"small, beside a sparse file")
    with (source / "sparse").open("wb") as file:
        file.truncate(4 * MIB)
        file.write(b"the only block of this test that holds data")
    anna.backup(source)
    assert anna.backup(source)["changed_files"] == 0


def test_a_touched_file_stores_nothing(anna: Person, source: Path) -> None:
    trees.plant(source, 3)
    anna.backup(source)
    (source / "large").touch()
    second = anna.backup(source)
    assert (second["changed_files"], second["new_bytes"]) == (1, 0)
    assert second["stored_bytes"] < A_LEAF


def test_a_moved_and_a_copied_tree_store_next_to_nothing(anna: Person, source: Path) -> None:
    (source / "there").mkdir()
    trees.plant(source / "there", 4, files=300)
    first = anna.backup(source)
    (source / "there").rename(source / "elsewhere")
    moved = anna.backup(source)
    assert moved["changed_files"] >= 300
    assert moved["new_bytes"] == 0
    shutil.copytree(source / "elsewhere", source / "again")
    copied = anna.backup(source)
    assert copied["new_bytes"] == 0
    for each in (moved, copied):
        assert each["stored_bytes"] < first["stored_bytes"] / 20


def test_a_changed_file_stores_about_its_size(anna: Person, source: Path) -> None:
    trees.plant(source, 5)
    anna.backup(source)
    size = 300 * KIB
    (source / "changed").write_bytes(random.Random(5).randbytes(size))
    second = anna.backup(source)
    assert second["changed_files"] == 1
    assert size <= second["stored_bytes"] < 1.1 * size + A_LEAF


def test_a_change_inside_a_large_file_stores_what_surrounds_it(anna: Person, source: Path) -> None:
    trees.plant(source, 6, files=3, large=40 * MIB)
    anna.backup(source)
    with (source / "large").open("r+b") as file:
        file.seek(17 * MIB)
        file.write(b"changed")
    second = anna.backup(source)
    # A chunk has at most 4 MiB, and what was written may lie across a border.
    assert 0 < second["stored_bytes"] < 8 * MIB + A_LEAF


def test_deleted_files_vanish_from_the_next_snapshot_only(
    anna: Person, source: Path, tmp_path: Path
) -> None:
    trees.plant(source, 7)
    before = contents(source)
    first = anna.backup(source)["snapshot"]
    shutil.rmtree(source / "folder 1")
    (source / "large").unlink()
    second = anna.backup(source)["snapshot"]
    anna.restore(f"{second}:{source}", tmp_path / "after")
    assert_same(source, tmp_path / "after")
    anna.restore(f"{first}:{source}", tmp_path / "before")
    assert contents(tmp_path / "before") == before


def test_several_sources_make_one_snapshot(newcomer: Person, source: Path, tmp_path: Path) -> None:
    for name in ("one", "two/three", "left out"):
        (source / name).mkdir(parents=True)
        trees.plant(source / name, name, files=10, large=0)
    (source / "single").write_bytes(b"a file can be a source, too")
    newcomer.backup(source / "one", source / "two" / "three", source / "single")
    (snapshot,) = newcomer.snapshots()
    assert len(snapshot["sources"]) == 3
    newcomer.restore("latest", tmp_path / "restored")
    restored = tmp_path / "restored" / source.relative_to("/")
    assert sorted(path.name for path in restored.iterdir()) == ["one", "single", "two"]
    assert_same(source / "one", restored / "one")
    assert_same(source / "two" / "three", restored / "two" / "three")
    assert (restored / "single").read_bytes() == b"a file can be a source, too"


def test_each_set_of_sources_is_a_series_of_its_own(newcomer: Person, source: Path) -> None:
    for name in ("one", "two"):
        (source / name).mkdir()
        trees.plant(source / name, name, files=5, large=0)
        newcomer.backup(source / name)
        newcomer.backup(source / name)
    found = newcomer.snapshots()
    assert [each["number"] for each in found] == [1, 2, 1, 2]
    assert len({each["series"] for each in found}) == 2


def test_two_people_store_the_same_file_twice(box: Box, source: Path, tmp_path: Path) -> None:
    trees.plant(source, 8)
    stored: list[int] = []
    for name in ("first", "second"):
        person = Person(tmp_path / name)
        person.joins(box.unix, f"of two, the {name}")
        stored.append(person.backup(source)["stored_bytes"])
    assert min(stored) > 3 * MIB
