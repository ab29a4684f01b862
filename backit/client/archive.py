"""The older part of the seen index: what no longer fits into memory (FORMAT.md section 10).

SQLite, because it looks up and replaces single rows in bounded memory. Names of rows are keyed
hashes and the rest of each row is sealed, so the file shows how many there are. Imported by the
process that reads, and nowhere else. Any failure is the same as absence: files are stored again.
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
from typing import TYPE_CHECKING

from backit.client.cache import NO_SERIES, ROW, Box
from backit.errors import BackitError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE = "seen.db"
# About 1.3 GB; beyond, it begins anew.
ROWS_MAX = 10_000_000
BUSY_SECONDS = 5.0
SET_UP = """
PRAGMA journal_mode = wal;
PRAGMA synchronous = off;
PRAGMA cache_size = -16384;
CREATE TABLE IF NOT EXISTS seen (name BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
"""


class SeenArchive:
    """The archive of one device; opened when it is first needed. For one thread."""

    def __init__(self, folder: Path, box: Box) -> None:
        self._path = folder / FILE
        self._box = box
        self._database: sqlite3.Connection | None = None
        # Whether there is one; looked up when it is first asked.
        self._is_there: bool | None = None

    def get(self, content: bytes) -> bytes | None:
        """The place of a content hash's first 16 bytes, if it is known."""
        if self._is_there is None:
            self._is_there = self._path.exists()
        if not self._is_there:
            return None
        with contextlib.suppress(sqlite3.Error, BackitError, ValueError):
            query = "SELECT row FROM seen WHERE name = ?"
            for (sealed,) in self._opened().execute(query, (self._box.blind(content),)):
                (plain,) = self._box.blocks(NO_SERIES, io.BytesIO(sealed))
                known, place = ROW.unpack(plain)
                return bytes(place) if known == content else None
        return None

    def put(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep (content hash, place) of each, instead of what was known of it."""
        # In the order of the tree: then neighbours are written together.
        sealed = sorted(
            (self._box.blind(row[0]), self._box.seal(NO_SERIES, ROW.pack(*row))) for row in rows
        )
        try:
            self._keep(sealed)
            self._is_there = True
        except sqlite3.OperationalError:
            pass  # no room, or another run is at it: these rows are forgotten
        except sqlite3.Error:
            self.forget()  # it is damaged

    def _keep(self, sealed: list[tuple[bytes, bytes]]) -> None:
        database = self._opened()
        with database:
            ((count,),) = database.execute("SELECT count(*) FROM seen").fetchall()
            if count + len(sealed) > ROWS_MAX:
                database.execute("DELETE FROM seen")
            database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", sealed)

    def forget(self) -> None:
        """Rely on nothing."""
        self.close()
        self._is_there = False
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(FILE + ending).unlink(missing_ok=True)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            database = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
            try:
                database.executescript(SET_UP)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database
