"""The database files: pragmas, schemas that grow, readers beside a writer, errors of ours."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
from peewee import IntegerField, Model, SqliteDatabase

from backit.errors import Damaged, Internal, NoSpace, Unsupported
from backitd.store.catalog import Catalog
from backitd.store.databases import Database, Schema, connection
from backitd.store.index import ChunkIndex

if TYPE_CHECKING:
    from pathlib import Path


class Thing(Model):
    size = IntegerField()

    class Meta:
        table_name = "thing"


def add_colour(db: SqliteDatabase) -> None:
    connection(db).execute("ALTER TABLE thing ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")


def fail(db: SqliteDatabase) -> None:
    add_colour(db)
    connection(db).execute("ALTER TABLE nothing ADD COLUMN colour")


def open_things(path: Path, schema: Schema | None = None) -> Database:
    schema = schema or Schema([Thing], 1)
    pragmas = {"journal_mode": "wal", "synchronous": "normal"}
    return Database(path, schema, writer=pragmas, reader={"query_only": "on"})


def values(database: Database) -> list[int]:
    with database.reading() as db:
        rows = connection(db).execute("SELECT size FROM thing ORDER BY size").fetchall()
    return [size for (size,) in rows]


def add(database: Database, size: int) -> None:
    with database.writing() as db:
        connection(db).execute("INSERT INTO thing(size) VALUES (?)", (size,))


def add_and_fail(database: Database, size: int) -> None:
    with database.writing() as db:
        connection(db).execute("INSERT INTO thing(size) VALUES (?)", (size,))
        raise ZeroDivisionError


def fill(database: Database) -> None:
    with database.writing() as db:
        connection(db).execute("PRAGMA max_page_count = 4")
    for number in range(10000):
        add(database, number)


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    database = open_things(tmp_path / "things.db")
    add(database, 1)
    with pytest.raises(ZeroDivisionError):
        add_and_fail(database, 2)
    assert values(database) == [1]
    database.close()


def test_readers_see_what_is_committed_and_do_not_wait(tmp_path: Path) -> None:
    database = open_things(tmp_path / "things.db")
    add(database, 1)
    with database.writing() as db:
        connection(db).execute("INSERT INTO thing(size) VALUES (2)")
        assert values(database) == [1]
    assert values(database) == [1, 2]
    database.close()


def test_many_threads_write_one_after_another(tmp_path: Path) -> None:
    database = open_things(tmp_path / "things.db")

    def work(start: int) -> None:
        for number in range(20):
            add(database, start + number)
            values(database)

    threads = [threading.Thread(target=work, args=(n * 20,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert values(database) == list(range(100))
    database.close()


def test_a_closed_database_is_one_file(tmp_path: Path) -> None:
    database = open_things(tmp_path / "things.db")
    add(database, 1)
    values(database)
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["things.db"]
    assert values(open_things(tmp_path / "things.db")) == [1]


def test_an_older_schema_is_brought_up_step_by_step(tmp_path: Path) -> None:
    database = open_things(tmp_path / "things.db")
    add(database, 1)
    database.close()
    newer = open_things(tmp_path / "things.db", Schema([Thing], 2, {1: add_colour}))
    with newer.reading() as db:
        assert connection(db).execute("SELECT size, colour FROM thing").fetchall() == [(1, "red")]
        assert connection(db).execute("PRAGMA user_version").fetchall() == [(2,)]
    newer.close()
    with pytest.raises(Unsupported):
        open_things(tmp_path / "things.db")


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    open_things(tmp_path / "things.db").close()
    with pytest.raises(Internal):
        open_things(tmp_path / "things.db", Schema([Thing], 2, {1: fail}))
    database = open_things(tmp_path / "things.db", Schema([Thing], 2, {1: add_colour}))
    database.close()


def test_sqlites_errors_are_ours(tmp_path: Path) -> None:
    database = open_things(tmp_path / "things.db")
    with pytest.raises(Internal), database.writing() as db:
        connection(db).execute("nonsense")
    with pytest.raises(Internal), database.reading() as db:
        connection(db).execute("DELETE FROM thing")
    with pytest.raises(NoSpace):
        fill(database)
    assert values(database), "it goes on"
    database.close()
    (tmp_path / "garbage.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(Damaged):
        open_things(tmp_path / "garbage.db")


def test_what_must_survive_a_power_cut_is_synced(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db")
    with catalog.writing() as db:
        names = ("synchronous", "journal_mode", "secure_delete")
        found = [connection(db).execute(f"PRAGMA {name}").fetchone() for name in names]
    assert found == [(2,), ("wal",), (1,)]
    catalog.close()
    index = ChunkIndex(tmp_path / "index.db")
    index.close()
    raw = sqlite3.connect(tmp_path / "index.db")
    assert raw.execute("PRAGMA page_size").fetchone() == (8192,)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
