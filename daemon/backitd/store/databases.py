"""How the two SQLite files are opened, used by threads, and brought to the newest schema.

A `Database` has one connection that writes, for one thread at a time, and a few that read beside it
(WAL). Transactions that write begin with BEGIN IMMEDIATE, so they never fail half-way for want of a
lock. SQLite's errors become ours here. What the tables mean is said by `catalog` and `index`.
"""
# peewee's stubs leave much open; what comes out of here is typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import peewee
from peewee import SqliteDatabase

from backit.errors import BackitError, Damaged, Internal, NoSpace, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    Step = Callable[[SqliteDatabase], None]

BUSY_SECONDS = 30
MALFORMED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def translated(doing: str) -> Generator[None]:
    """SQLite's errors, raw or in peewee's dress, as NoSpace, Damaged or Internal."""
    try:
        yield
    except (sqlite3.Error, peewee.PeeweeException) as error:
        raise _ours(error, doing) from error


def _ours(error: Exception, doing: str) -> BackitError:
    # peewee keeps the driver's exception, which alone knows the code.
    inner: object = getattr(error, "orig", error)
    code = int(getattr(inner, "sqlite_errorcode", 0)) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(f"{doing}: the disk is full")
    if code in MALFORMED:
        return Damaged(f"{doing}: the database file is damaged: {inner}")
    return Internal(f"{doing}: {inner}")


class Schema:
    """The tables of one file as they are now, and the numbered steps that lead there.

    A new file gets the tables as the models say. Step n takes a file from schema n to n + 1; it is
    written against the tables as they were, never against the models.
    """

    def __init__(
        self,
        models: Sequence[type[peewee.Model]],
        number: int,
        steps: Mapping[int, Step] | None = None,
    ) -> None:
        self.models = models
        self.number = number
        self.steps = steps or {}

    def bring_up(self, db: SqliteDatabase, name: str) -> None:
        """In one transaction. Raises Unsupported if a newer program has written the file."""
        with _transaction(db):
            found = int(connection(db).execute("PRAGMA user_version").fetchall()[0][0])
            if found > self.number:
                raise Unsupported(f"{name} has schema {found}; this program knows {self.number}")
            if not found:
                for model in self.models:
                    peewee.SchemaManager(model, db).create_all(safe=False)
            else:
                for step in range(found, self.number):
                    self.steps[step](db)
            db.pragma("user_version", self.number)


class Database:
    """One SQLite file, open."""

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        writer: Mapping[str, object],
        reader: Mapping[str, object],
    ) -> None:
        """Opens or makes the file. Raises Damaged, NoSpace, Unsupported or Internal.

        `writer` and `reader` are the pragmas of either kind of connection.
        """
        self.path = path
        self._reader_pragmas = dict(reader)
        self._lock = threading.Lock()
        self._idle: list[SqliteDatabase] = []
        self._idle_lock = threading.Lock()
        with translated(f"opening {path.name}"):
            self._writer = _connect(path, dict(writer))
            try:
                schema.bring_up(self._writer, path.name)
            except BaseException:
                self._writer.close()
                raise

    @contextmanager
    def writing(self) -> Generator[SqliteDatabase]:
        """One transaction; committed when the block ends, undone when it raises."""
        with self._lock, translated(f"writing {self.path.name}"), _transaction(self._writer):
            yield self._writer

    @contextmanager
    def reading(self) -> Generator[SqliteDatabase]:
        """A connection that sees what is committed; for one thread, until the block ends."""
        with translated(f"reading {self.path.name}"):
            with self._idle_lock:
                db = self._idle.pop() if self._idle else None
            if db is None:
                db = _connect(self.path, self._reader_pragmas)
            try:
                yield db
            finally:
                with self._idle_lock:
                    self._idle.append(db)

    def empty_log(self) -> None:
        """Move what the log holds into the file and out of the log, unless a reader needs it."""
        with self._lock, translated(f"emptying the log of {self.path.name}"):
            connection(self._writer).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Nobody may be using it. Leaves one file, without a log."""
        with translated(f"closing {self.path.name}"), self._lock, self._idle_lock:
            for db in self._idle:
                db.close()
            self._idle.clear()
            try:
                connection(self._writer).execute("PRAGMA optimize").fetchall()
                connection(self._writer).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._writer.close()


def _connect(path: Path, pragmas: dict[str, object]) -> SqliteDatabase:
    db = SqliteDatabase(
        str(path),
        pragmas=pragmas,
        timeout=BUSY_SECONDS,
        thread_safe=False,  # one connection an object; who uses it is decided above
        check_same_thread=False,
        autoconnect=False,
    )
    db.connect()
    return db


@contextmanager
def _transaction(db: SqliteDatabase) -> Generator[None]:
    raw = connection(db)
    raw.execute("BEGIN IMMEDIATE")
    try:
        yield
        raw.execute("COMMIT")
    except BaseException:
        # Where the disk is full or fails, SQLite has undone it already.
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raise


def connection(db: SqliteDatabase) -> sqlite3.Connection:
    """The driver's own connection, for the hot paths."""
    raw: sqlite3.Connection = db.connection()  # type: ignore[no-untyped-call]
    return raw


def delete(path: Path) -> None:
    """A closed database with what belongs to it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Rename a damaged database, so that a new one can be made and the old one looked at."""
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.replace(path.with_name(f"{path.name}.damaged{suffix}"))
