"""Reading records by id: in disk order, each checked, damage noted and never passed on.

Who may read what is decided before. What follows from damage for the nodes above is `settle`'s
business.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backit.errors import Damaged
from backit.format.pack import Place
from backitd.store.tables import State
from backitd.store.values import Fetched, FetchState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backit.ids import AccountId, ChunkId, DomainId, PackName
    from backitd.store.index import ChunkIndex, Row
    from backitd.store.packs import PackFile, Packs

log = logging.getLogger(__name__)


class Reader:
    """Reads records of any account."""

    def __init__(self, packs: Packs, index: ChunkIndex, on_doubt: Callable[[], None]) -> None:
        """`on_doubt` is called when damage was found below nodes that may be live."""
        self._packs = packs
        self._index = index
        self._on_doubt = on_doubt

    def read(
        self, account: AccountId, domain: DomainId, chunks: Sequence[ChunkId]
    ) -> Iterator[Fetched]:
        """Every chunk once: those there are none of first, the others as they lie on disk.

        Raises Unavailable if the store's disk is gone, Internal if it fails otherwise.
        """
        wanted = dict.fromkeys(chunks)
        mine = self._index.account_of(domain) == account.raw
        rows = self._index.rows(domain, [chunk.raw for chunk in wanted]) if mine else []
        found = {row.chunk for row in rows}
        for chunk in wanted:
            if chunk not in found:
                yield Fetched(chunk, None, FetchState.MISSING)
        rows.sort(key=lambda row: (row.pack_number, row.start))
        yield from self._read_rows(domain, rows)

    def _read_rows(self, domain: DomainId, rows: Sequence[Row]) -> Iterator[Fetched]:
        opened: tuple[PackName, PackFile] | None = None
        try:
            for row in rows:
                if opened is None or opened[0] != row.pack:
                    if opened is not None:
                        opened[1].close()
                        opened = None
                    pack = self._open(row)
                    opened = None if pack is None else (row.pack, pack)
                record = None if opened is None else self._read(opened[1], domain, row)
                yield self._answer(domain, row, record)
        finally:
            if opened is not None:
                opened[1].close()

    def _answer(self, domain: DomainId, row: Row, record: bytes | None) -> Fetched:
        if record is None:
            record = self._read_elsewhere(domain, row)
        if record is not None:
            return Fetched(row.chunk, record, FetchState.PRESENT)
        if row.state is not State.QUARANTINED:
            log.error("chunk %s: damaged in pack %s at %d", row.chunk, row.pack, row.start)
            if self._index.quarantine([row]):
                self._on_doubt()
        return Fetched(row.chunk, None, FetchState.DAMAGED)

    def _read_elsewhere(self, domain: DomainId, row: Row) -> bytes | None:
        """In case a new copy has taken the place of this one since it was looked up."""
        for again in self._index.rows(domain, [row.chunk.raw]):
            if (again.pack_number, again.start) != (row.pack_number, row.start):
                pack = self._open(again)
                if pack is not None:
                    with pack:
                        return self._read(pack, domain, again)
        return None

    def _open(self, row: Row) -> PackFile | None:
        """None if the pack is lost."""
        try:
            return self._packs.open(row.pack)
        except OSError as error:
            self._packs.check_loss(error, f"reading chunk {row.chunk}")
            return None

    def _read(self, pack: PackFile, domain: DomainId, row: Row) -> bytes | None:
        """None if the record is not exactly what was written."""
        place = Place(row.chunk, domain, row.start, row.length)
        try:
            return pack.read_record(place)[1]
        except Damaged as error:
            log.error("%s", error)
        except OSError as error:
            self._packs.check_loss(error, f"reading chunk {row.chunk}")
        return None
