"""Promises of the seen index beyond what fits into memory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from backit.client import archive as archive_module
from backit.client import cache as cache_module
from backit.client.archive import FILE, SeenArchive
from backit.client.cache import Box, SeenCache
from backit.crypto import primitives

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

BOX = Box(bytes(32))


def row(number: int) -> tuple[bytes, bytes]:
    place = cache_module.PLACE.pack(primitives.digest(b"chunk %d" % number), number, number + 1)
    return primitives.digest(b"content %d" % number)[:16], place


def archive(folder: Path, *numbers: int) -> SeenArchive:
    found = SeenArchive(folder, BOX)
    if numbers:
        found.put([row(number) for number in numbers])
    return found


def test_rows_come_back_in_another_run(tmp_path: Path) -> None:
    archive(tmp_path, *range(100)).close()
    with closing(archive(tmp_path)) as again:
        assert [again.get(row(n)[0]) for n in range(100)] == [row(n)[1] for n in range(100)]
        assert again.get(row(100)[0]) is None


def test_a_later_row_supersedes_an_earlier_one(tmp_path: Path) -> None:
    with closing(archive(tmp_path, 1, 2)) as found:
        found.put([(row(1)[0], row(7)[1])])
        assert found.get(row(1)[0]) == row(7)[1]


def test_an_empty_archive_makes_no_file(tmp_path: Path) -> None:
    with closing(archive(tmp_path)) as found:
        assert found.get(bytes(16)) is None
    assert list(tmp_path.iterdir()) == []


def test_the_file_shows_neither_hashes_nor_chunks(tmp_path: Path) -> None:
    archive(tmp_path, *range(50)).close()
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for number in range(50):
        content, place = row(number)
        assert content not in data
        assert place[:32] not in data


def test_damage_only_loses_rows(tmp_path: Path) -> None:
    archive(tmp_path, *range(200)).close()
    whole = (tmp_path / FILE).read_bytes()
    for at in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        (tmp_path / FILE).write_bytes(damaged)
        with closing(archive(tmp_path)) as again:
            found = [again.get(row(n)[0]) for n in range(200)]
        assert all(place in (None, row(n)[1]) for n, place in enumerate(found))
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with closing(archive(tmp_path)) as again:
        assert again.get(row(1)[0]) is None
        again.put([row(1)])  # finds that out, and begins anew
        again.put([row(2)])
        assert again.get(row(2)[0]) == row(2)[1]


def test_a_row_under_the_name_of_another_is_none(tmp_path: Path) -> None:
    archive(tmp_path, 1, 2).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        ((first, _), (second, _)) = database.execute("SELECT name, row FROM seen").fetchall()
        query = "UPDATE seen SET row = (SELECT row FROM seen WHERE name = ?) WHERE name = ?"
        database.execute(query, (first, second))
    with closing(archive(tmp_path)) as again:
        assert [again.get(row(n)[0]) for n in (1, 2)].count(None) == 1


def test_it_begins_anew_before_it_grows_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "ROWS_MAX", 100)
    with closing(archive(tmp_path, *range(80))) as found:
        found.put([row(n) for n in range(80, 160)])
        assert [found.get(row(n)[0]) is None for n in (1, 159)] == [True, False]


def test_the_seen_index_forgets_nothing_with_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SEEN_MAX", 100)
    monkeypatch.setattr(cache_module, "SPILL_ROWS", 30)
    with closing(archive(tmp_path)) as older:
        seen = SeenCache(tmp_path, BOX, older)
        for number in range(500):
            content, place = row(number)
            seen.put(content, cache_module.PLACE.unpack(place))
        assert len(list(seen.reaches())) < 130, "in memory"
        seen.save()
    with closing(archive(tmp_path)) as older:
        again = SeenCache(tmp_path, BOX, older)
        for number in range(500):
            content, place = row(number)
            assert again.get(content) == cache_module.PLACE.unpack(place)
        again.forget()
        assert all(again.get(row(number)[0]) is None for number in range(500))
