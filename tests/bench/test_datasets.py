"""The data sets are what they claim to be, and a wrong restore is never taken for a right one."""

import os
import shutil
from pathlib import Path

import pytest

from tests.bench import datasets
from tests.bench.datasets import MIB, allocated, choose_small_files, remove, verify
from tests.bench.processes import BenchError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for number in range(8):
        folder = tree / f"folder-{number}"
        folder.mkdir(parents=True)
        (folder / "small").write_bytes(bytes([number]) * 1000)
        (folder / "link").symlink_to("small")
    return tree


def test_small_files_are_chosen_and_large_ones_left_out(tree: Path) -> None:
    (tree / "at-the-limit").write_bytes(bytes(MIB))
    (tree / "large").write_bytes(bytes(MIB + 1))
    chosen = set(_choose(tree, files=100, size=0))
    assert tree / "at-the-limit" in chosen
    assert tree / "large" not in chosen
    assert len(chosen) == 1 + 8 * 2


def test_the_choice_ends_once_there_is_enough_of_both_measures(tree: Path) -> None:
    assert len(_choose(tree, files=2, size=0)) == 2 * 2
    assert len(_choose(tree, files=2, size=4500)) == 5 * 2
    assert _choose(tree, files=2, size=0) == _choose(tree, files=4, size=0)[:4]


def test_what_is_being_made_is_never_chosen(tree: Path) -> None:
    assert len(_choose(tree, avoid=tree / "folder-3", files=100, size=0)) == 7 * 2


def test_a_folder_named_twice_is_taken_once(tree: Path) -> None:
    roots = (tree, tree / "folder-1", tree)
    chosen = list(choose_small_files(roots, avoid=Path("/none"), enough_files=100, enough_bytes=0))
    assert len(chosen) == len(set(chosen)) == 8 * 2


def test_random_data_has_the_size_asked_for(tmp_path: Path) -> None:
    made = datasets.make("random", tmp_path / "random", small=True)
    assert (made.files, made.size) == (1, 2 * datasets.GIB // 20)
    assert allocated(made.folder) >= made.size


def test_disk_space_counts_each_inode_once(tree: Path) -> None:
    before = allocated(tree)
    assert before >= 8 * 512
    os.link(tree / "folder-1/small", tree / "folder-1/again")
    assert allocated(tree) == before


@pytest.mark.parametrize("below", ["whole path", "name", "nothing"])
def test_a_true_copy_is_accepted_wherever_it_was_laid(
    tree: Path, tmp_path: Path, below: str
) -> None:
    target = tmp_path / "target"
    places = {"whole path": target / tree.relative_to("/"), "name": target / "tree"}
    shutil.copytree(tree, places.get(below, target), symlinks=True)
    verify(tree, target)


def test_a_changed_byte_is_refused(tree: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tree, tmp_path / "copy", symlinks=True)
    file = copy / "folder-5/small"
    found = file.stat()
    file.write_bytes(b"x" + file.read_bytes()[1:])
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(BenchError, match="folder-5/small"):
        verify(tree, copy)


def test_a_missing_and_a_surplus_file_are_refused(tree: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tree, tmp_path / "copy", symlinks=True)
    (copy / "folder-5/small").rename(copy / "folder-5/other")
    with pytest.raises(BenchError, match=r"(?s)deleting.*folder-5/other.*folder-5/small"):
        verify(tree, copy)


def test_nothing_at_all_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(BenchError, match="differs"):
        verify(tree, tmp_path / "target")


def test_a_tree_without_the_right_to_write_is_removed(tree: Path) -> None:
    (tree / "folder-1").chmod(0o500)
    remove(tree)
    assert not tree.exists()


def _choose(
    root: Path, *, files: int, size: int, avoid: Path = Path("/nothing/here")
) -> list[Path]:
    return list(choose_small_files((root,), avoid=avoid, enough_files=files, enough_bytes=size))
