"""A scan is compared with the last tree in one pass: nothing is missed that has changed."""

from __future__ import annotations

import os
import stat as st
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from backit.engine.file_types import file_type
from backit.engine.merge import ParentCursor, is_unchanged
from backit.format.node import encode_time
from backit.format.v1 import tree_pb2 as pb
from tests.backit.engine.forests import FILES, Files, Forest, Key, sort_key
from tests.backit.engine.test_tree import many

if TYPE_CHECKING:
    from pathlib import Path


def found_by_cursor(forest: Forest, old: Files, asked: list[Key]) -> dict[Key, int | None]:
    cursor = ParentCursor(forest.parent(forest.grow(old).chunk))
    answers: dict[Key, int | None] = {}
    for key in asked:
        found = cursor.find(*key)
        if found is None:
            answers[key] = None
            continue
        leaf, flat, index = found
        directory, entry = flat[index]
        assert (directory, entry.name) == key
        assert any(entry is each for part in leaf.node.message.parts for each in part.entries)
        answers[key] = entry.size
    return answers


@given(old=FILES, new=FILES)
def test_the_cursor_finds_what_is_there(old: Files, new: Files) -> None:
    asked = sorted(new, key=sort_key)
    assert found_by_cursor(Forest(), old, asked) == {key: old.get(key) for key in asked}


@pytest.mark.parametrize("step", [1, 2, 97, 2500])
def test_the_cursor_passes_over_whole_leaves(step: int) -> None:
    old = many(2500)
    asked = sorted({**old, **many(3000, seed=2)}, key=sort_key)[::step]
    assert found_by_cursor(Forest(), old, asked) == {key: old.get(key) for key in asked}


def test_an_empty_parent_has_nothing() -> None:
    assert ParentCursor([]).find(b"", b"a") is None
    assert found_by_cursor(Forest(), {}, [(b"", b"a")]) == {(b"", b"a"): None}


def stat_result(**changes: int) -> os.stat_result:
    fields = {
        "st_mode": st.S_IFREG | 0o644,
        "st_ino": 7,
        "st_dev": 1,
        "st_nlink": 1,
        "st_uid": 1000,
        "st_gid": 100,
        "st_size": 5,
        "st_atime_ns": 1,
        "st_mtime_ns": 1_700_000_000_123_456_789,
        "st_ctime_ns": 1_700_000_001_123_456_789,
    }
    fields |= changes
    order = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size")
    by_name = {key: value for key, value in fields.items() if key.endswith("_ns")}
    return os.stat_result([*(fields[key] for key in order), 0, 0, 0], by_name)


def entry_for(found: os.stat_result) -> pb.Entry:
    kind = file_type(found.st_mode)
    assert kind is not None
    return pb.Entry(
        name=b"a",
        type=kind,
        mode=found.st_mode & 0o7777,
        uid=found.st_uid,
        gid=found.st_gid,
        mtime=encode_time(found.st_mtime_ns),
        ctime=encode_time(found.st_ctime_ns),
        size=found.st_size if st.S_ISREG(found.st_mode) else 0,
        inode=found.st_ino,
        links=found.st_nlink if found.st_nlink > 1 and not st.S_ISDIR(found.st_mode) else 0,
    )


def test_the_same_file_is_unchanged() -> None:
    assert is_unchanged(entry_for(stat_result()), stat_result())


@pytest.mark.parametrize(
    "changes",
    [
        {"st_mode": st.S_IFREG | 0o600},
        {"st_mode": st.S_IFREG | 0o4644},
        {"st_mode": st.S_IFIFO | 0o644},
        {"st_mode": st.S_IFSOCK | 0o644},
        {"st_ino": 8},
        {"st_nlink": 2},
        {"st_uid": 0},
        {"st_gid": 0},
        {"st_size": 6},
        {"st_mtime_ns": 1_700_000_000_123_456_788},
        {"st_ctime_ns": 1_700_000_001_123_456_790},
    ],
    ids=str,
)
def test_any_change_is_seen(changes: dict[str, int]) -> None:
    assert not is_unchanged(entry_for(stat_result()), stat_result(**changes))
    assert not is_unchanged(entry_for(stat_result(st_nlink=3)), stat_result(**changes))


def test_a_file_that_was_saved_while_it_changed_is_never_unchanged() -> None:
    entry = entry_for(stat_result())
    entry.inconsistent = True
    assert not is_unchanged(entry, stat_result())


def test_access_times_and_device_numbers_do_not_count() -> None:
    entry = entry_for(stat_result())
    assert is_unchanged(entry, stat_result(st_atime_ns=2, st_dev=2))


def test_a_hard_link_is_unchanged_while_it_has_as_many_names() -> None:
    entry = entry_for(stat_result(st_nlink=3))
    assert is_unchanged(entry, stat_result(st_nlink=3))
    assert not is_unchanged(entry, stat_result(st_nlink=2))
    assert not is_unchanged(entry, stat_result(st_nlink=1))


def test_of_a_directory_neither_size_nor_links_count() -> None:
    mode = st.S_IFDIR | 0o755
    entry = entry_for(stat_result(st_mode=mode, st_nlink=4, st_size=4096))
    assert is_unchanged(entry, stat_result(st_mode=mode, st_nlink=9, st_size=8192))
    assert not is_unchanged(entry, stat_result(st_mode=mode, st_ctime_ns=1))


def test_a_real_file_is_unchanged_until_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    entry = entry_for(path.stat())
    assert is_unchanged(entry, path.stat())
    os.utime(path, ns=(1, 1))
    assert not is_unchanged(entry, path.stat())


def as_scanned(content: int) -> os.stat_result:
    """What lstat would say of a file of a forest."""
    return stat_result(
        st_uid=0, st_gid=0, st_size=content, st_mtime_ns=content, st_ctime_ns=content
    )


def runs_in(forest: Forest, old: Files, new: Files) -> set[Key]:
    """What is unchanged: found in runs, and what is in none by itself, as a backup does it."""
    cursor = ParentCursor(forest.parent(forest.grow(old).chunk))
    unchanged: set[Key] = set()
    for directory, keys in groupby(sorted(new, key=sort_key), key=itemgetter(0)):
        scanned = [(name, as_scanned(new[directory, name])) for _directory, name in keys]
        at = 0
        while at < len(scanned):
            run = cursor.unchanged(directory, scanned, at)
            if run is None:
                name, found = scanned[at]
                at += 1
                single = cursor.find(directory, name)
                if single is not None and is_unchanged(single[1][single[2]][1], found):
                    unchanged.add((directory, name))
                continue
            (_leaf, flat, index), count = run
            assert count > 0
            kept = [(at_directory, entry.name) for at_directory, entry in flat[index:][:count]]
            assert kept == [(directory, name) for name, _found in scanned[at:][:count]]
            unchanged.update(kept)
            at += count
    return unchanged


@given(old=FILES, new=FILES)
def test_runs_are_what_single_looks_would_find(old: Files, new: Files) -> None:
    expected = {key for key, content in new.items() if old.get(key) == content}
    assert runs_in(Forest(), old, new) == expected
    assert runs_in(Forest(), new, new) == set(new)


@pytest.mark.parametrize("step", [2, 7, 300])
def test_a_run_goes_on_in_the_next_leaf_and_behind_what_is_gone(step: int) -> None:
    files = many(2500)
    changed = {key: content + 1000 for key, content in sorted(files.items())[::step]}
    fewer = {key: content for key, content in files.items() if key not in changed}
    assert runs_in(Forest(), files, files) == set(files)
    assert runs_in(Forest(), files, files | changed) == set(fewer)
    assert runs_in(Forest(), files, fewer) == set(fewer)
    assert runs_in(Forest(), fewer, files) == set(fewer)
