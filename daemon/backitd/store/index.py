"""index.db: which chunks there are, and where they lie. A cache of the packs in the store.

The tables are described in `tables`. Lookups run beside each other; everything that changes what is
live is one transaction of the one writing connection, so that "its references are live" and "it is
live now" are one step (DESIGN.md, rules 1 and 2). Raw SQL where it is hot. What a record or a pack
looks like is not known here.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from backit.errors import Damaged, ReferencesMissing
from backit.format.magic import Kind
from backit.ids import ChunkId, PackName
from backitd.store.databases import Database, Schema, connection
from backitd.store.tables import INDEX_SCHEMA, INDEX_TABLES, State

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from backit.format.pack import Place
    from backit.ids import AccountId, DomainId, IncarnationId

B = TypeVar("B", int, bytes)

# A power cut may lose the last transactions, never an older one without the younger: what is lost
# is taken in again from the packs, which are durable before they are written here.
WRITER = {
    "page_size": 8192,
    "journal_mode": "wal",
    "synchronous": "normal",
    "secure_delete": "off",
    "cache_size": -65536,
    "temp_store": "memory",
    "wal_autocheckpoint": 8192,
    "journal_size_limit": 64 << 20,
}
READER = {"cache_size": -8192, "temp_store": "memory", "query_only": "on"}
# Ids asked for in one statement.
BATCH = 1000
READABLE = (State.LIVE, State.INCOMPLETE, State.SUSPECT)

INSERT = (
    "INSERT INTO chunk(domain, id, pack, start, length, kind, state, generation)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    # What is live stays where it is; a live copy takes the place of anything else, one that is not
    # trusted only of what cannot be read.
    " ON CONFLICT(domain, id) DO UPDATE SET pack = excluded.pack, start = excluded.start,"
    " length = excluded.length, kind = excluded.kind, state = excluded.state,"
    " generation = excluded.generation"
    " WHERE chunk.state = 3 OR chunk.state != 1 AND excluded.state = 1"
)
ROWS = (
    "SELECT c.number, c.id, c.pack, p.name, c.start, c.length, c.kind, c.state"
    " FROM chunk c JOIN pack p ON p.number = c.pack"
    " WHERE c.domain = (SELECT number FROM domain WHERE domain = ?) AND c.id IN ({})"
)
STATED = (
    "SELECT id FROM chunk WHERE domain = (SELECT number FROM domain WHERE domain = ?)"
    " AND id IN ({}) AND state IN ({})"
)
HOLD = (
    "INSERT INTO holding(account, bytes) VALUES (?, ?)"
    " ON CONFLICT(account) DO UPDATE SET bytes = bytes + excluded.bytes"
)
LOST = "SELECT account, -sum(size) FROM pack WHERE number IN ({}) GROUP BY account"
LOSE = "UPDATE pack SET size = 0 WHERE number IN ({})"
PACKS = "SELECT number FROM pack WHERE name IN ({})"
SUSPECT_CHUNKS = "UPDATE chunk SET state = 5 WHERE pack IN ({}) AND state IN (1, 2)"
LOSE_CHUNKS = "UPDATE chunk SET state = 3 WHERE pack IN ({}) AND state != 3"
ACCOUNTS = "SELECT DISTINCT account FROM pack WHERE number IN ({})"


@dataclass(frozen=True, slots=True)
class Row:
    """Where a chunk lies, and what it is good for."""

    number: int
    chunk: ChunkId
    pack_number: int
    pack: PackName
    start: int
    length: int
    kind: Kind
    state: State


@dataclass(frozen=True, slots=True)
class NewPack:
    """A durable pack, to be indexed. `references`: ids that its nodes use and it does not hold."""

    name: PackName
    account: AccountId
    kind: Kind
    size: int
    places: Sequence[Place]
    references: frozenset[bytes] = frozenset()
    generation: int = 0
    # LIVE, or SUSPECT.
    state: State = State.LIVE


@dataclass(frozen=True, slots=True)
class KnownPack:
    """A pack as the index knows it. `size` is 0 while its file is gone."""

    number: int
    size: int


@dataclass(frozen=True, slots=True)
class DoubtfulPack:
    """A pack of nodes that has to be settled."""

    number: int
    name: PackName
    doubt: int


class ChunkIndex:
    """The index, open."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises Damaged, NoSpace, Unsupported or Internal."""
        schema = Schema(INDEX_TABLES, INDEX_SCHEMA)
        self._database = Database(path, schema, writer=WRITER, reader=READER)

    def close(self) -> None:
        """Nobody may be using it."""
        self._database.close()

    def empty_log(self) -> None:
        """Make one file of it, of the size that it has to have. Raises NoSpace or Internal."""
        self._database.empty_log()

    # Lookups

    def incarnation(self) -> bytes | None:
        """Whose cache this is; None for a new file."""
        rows = self._select("SELECT incarnation FROM life")
        return rows[0][0] if rows else None

    def live(self, domain: DomainId, ids: Sequence[bytes]) -> set[bytes]:
        """Those of the ids that may be relied on."""
        with self._database.reading() as db:
            return _live(connection(db), domain, ids)

    def readable(self, domain: DomainId, ids: Sequence[bytes]) -> set[bytes]:
        """Those of the ids whose bytes are there, whoever may rely on them."""
        with self._database.reading() as db:
            return _live(connection(db), domain, ids, READABLE)

    def rows(self, domain: DomainId, ids: Sequence[bytes]) -> list[Row]:
        """What is known of the ids, live or not, in no order."""
        found: list[Row] = []
        with self._database.reading() as db:
            for batch in _batches(ids):
                query = ROWS.format(_marks(batch))
                for row in connection(db).execute(query, (domain.raw, *batch)).fetchall():
                    number, chunk, pack_number, pack, start, length, kind, state = row
                    place = (pack_number, PackName(pack), start, length)
                    found.append(Row(number, ChunkId(chunk), *place, Kind(kind), State(state)))
        return found

    def account_of(self, domain: DomainId) -> bytes | None:
        """None for a domain without chunks."""
        rows = self._select("SELECT account FROM domain WHERE domain = ?", domain.raw)
        return rows[0][0] if rows else None

    def packs(self, first: int) -> dict[bytes, KnownPack]:
        """Packs whose name begins with this byte, by name, those whose file is gone included."""
        after = bytes([first + 1]) if first < 0xFF else b"\xff" * (PackName.LENGTH + 1)
        query = "SELECT name, number, size FROM pack WHERE name >= ? AND name < ?"
        rows = self._select(query, bytes([first]), after)
        return {name: KnownPack(number, size) for name, number, size in rows}

    def packs_of(self, account: AccountId) -> list[PackName]:
        """Those whose file is there."""
        query = "SELECT name FROM pack WHERE account = ? AND size > 0 ORDER BY number"
        return [PackName(name) for (name,) in self._select(query, account.raw)]

    def devices_distrusted(self) -> set[bytes]:
        """The devices that `distrust` has been told of."""
        return {device for (device,) in self._select("SELECT device FROM distrusted")}

    def accounts_in_doubt(self) -> list[bytes]:
        """Accounts with packs that have to be settled."""
        rows = self._select("SELECT DISTINCT account FROM pack WHERE doubt > 0 AND size > 0")
        return [account for (account,) in rows]

    def packs_in_doubt(self, account: bytes) -> list[DoubtfulPack]:
        """In the order in which they came."""
        rows = self._select(
            "SELECT number, name, doubt FROM pack"
            " WHERE account = ? AND doubt > 0 AND size > 0 ORDER BY number",
            account,
        )
        return [DoubtfulPack(number, PackName(name), doubt) for number, name, doubt in rows]

    def stored_bytes(self, account: AccountId) -> int:
        rows = self._select("SELECT bytes FROM holding WHERE account = ?", account.raw)
        return rows[0][0] if rows else 0

    def count_chunks(self, account: AccountId) -> int:
        rows = self._select("SELECT sum(chunks) FROM domain WHERE account = ?", account.raw)
        return rows[0][0] or 0

    # Changes: each is durable as far as it has to be, and seen by all, when it returns

    def begin_life(self, incarnation: IncarnationId) -> None:
        with self._writing() as db:
            db.execute("INSERT INTO life VALUES (?, 0)", (incarnation.raw,))

    def next_generation(self) -> int:
        """A number that no lease had before, as far as this index remembers."""
        with self._writing() as db:
            db.execute("UPDATE life SET generation = generation + 1")
            return int(db.execute("SELECT generation FROM life").fetchall()[0][0])

    def accept(self, pack: NewPack) -> bool:
        """Index a durable pack: what it holds is live from now on. Whether a doubt came up.

        Raises ReferencesMissing, and indexes nothing of it, unless all of its references are live.
        """
        with self._writing() as db:
            references = list(pack.references)
            for domain in {place.domain for place in pack.places}:
                missing = pack.references - _live(db, domain, references)
                if missing:
                    ids = [ChunkId(raw) for raw in sorted(missing)]
                    text = f"storing nodes: {len(ids)} chunks that they use are not there"
                    raise ReferencesMissing(text, ids)
            # While nodes of the account are being settled, these may rest on one that will fall.
            return _insert(db, pack, _highest_doubt(db, pack.account.raw))

    def take_in(self, pack: NewPack) -> None:
        """Index a pack found in the store. Its nodes are in doubt until they are settled."""
        with self._writing() as db:
            _insert(db, pack, max(1, _highest_doubt(db, pack.account.raw)))

    def quarantine(self, rows: Sequence[Row]) -> bool:
        """Damaged bytes: missing for everyone. Not where a new copy has taken their place since.

        Whether anything changed.
        """
        query = (
            "UPDATE chunk SET state = 3 WHERE number = ? AND pack = ? AND start = ? AND state != 3"
        )
        values = [(row.number, row.pack_number, row.start) for row in rows]
        with self._writing() as db:
            changed = db.executemany(query, values).rowcount > 0
            if changed:
                _doubt_packs(db, sorted({row.pack_number for row in rows}))
        return changed

    def distrust(self, packs: Sequence[PackName], devices: Iterable[bytes] = ()) -> bool:
        """Rely on nothing in these packs, all of these devices'. Whether anything changed."""
        changed = 0
        with self._writing() as db:
            for batch in _batches([name.raw for name in packs]):
                numbers = [n for (n,) in db.execute(PACKS.format(_marks(batch)), batch).fetchall()]
                lost = db.execute(SUSPECT_CHUNKS.format(_marks(numbers)), numbers).rowcount
                if lost:
                    _doubt_packs(db, numbers)
                changed += lost
            query = "INSERT INTO distrusted VALUES (?) ON CONFLICT DO NOTHING"
            db.executemany(query, [(device,) for device in devices])
        return changed > 0

    def lose_packs(self, numbers: Sequence[int]) -> int:
        """The files of these packs are gone. How many chunks went missing with them."""
        changed = 0
        with self._writing() as db:
            for batch in _batches(numbers):
                marks = _marks(batch)
                db.executemany(HOLD, db.execute(LOST.format(marks), batch).fetchall())
                db.execute(LOSE.format(marks), batch)
                changed += db.execute(LOSE_CHUNKS.format(marks), batch).rowcount
            _doubt_packs(db, numbers)
        return changed

    def restate(self, rows: Sequence[tuple[Row, State]]) -> None:
        """What settling found out about nodes. Not where a new copy has taken their place since."""
        query = (
            "UPDATE chunk SET state = ? WHERE number = ? AND pack = ? AND start = ? AND state = ?"
        )
        values = [(new, r.number, r.pack_number, r.start, r.state) for r, new in rows]
        with self._writing() as db:
            db.executemany(query, values)

    def clear_doubts(self, packs: Sequence[DoubtfulPack]) -> None:
        """These are settled, unless a later doubt came up."""
        values = [(pack.number, pack.doubt) for pack in packs]
        with self._writing() as db:
            db.executemany("UPDATE pack SET doubt = 0 WHERE number = ? AND doubt <= ?", values)

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        with self._database.writing() as db:
            yield connection(db)

    def _select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._database.reading() as db:
            return connection(db).execute(query, values).fetchall()


def _live(
    db: sqlite3.Connection,
    domain: DomainId,
    ids: Sequence[bytes],
    states: Sequence[State] = (State.LIVE,),
) -> set[bytes]:
    found: set[bytes] = set()
    for batch in _batches(ids):
        query = STATED.format(_marks(batch), _marks(states))
        rows = db.execute(query, (domain.raw, *batch, *states)).fetchall()
        found.update(chunk for (chunk,) in rows)
    return found


def _insert(db: sqlite3.Connection, pack: NewPack, doubt: int) -> bool:
    """Rows of a pack and of what it holds. Whether something came back that nodes had missed."""
    # A pack whose file came back has a row already.
    old = db.execute("SELECT size FROM pack WHERE name = ?", (pack.name.raw,)).fetchall()
    db.execute(HOLD, (pack.account.raw, pack.size - (old[0][0] if old else 0)))
    db.execute(
        "INSERT INTO pack(name, account, kind, size, doubt) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT(name) DO UPDATE SET size = excluded.size, doubt = excluded.doubt",
        (pack.name.raw, pack.account.raw, pack.kind, pack.size, doubt * (pack.kind is Kind.NODE)),
    )
    ((number,),) = db.execute("SELECT number FROM pack WHERE name = ?", (pack.name.raw,)).fetchall()
    healed = 0
    for domain in sorted({place.domain for place in pack.places}):
        places = [place for place in pack.places if place.domain == domain]
        places.sort(key=lambda place: place.chunk.raw)  # neighbours in the B-tree come together
        domain_number = _domain_number(db, domain, pack.account)
        common = (pack.kind, pack.state, pack.generation)
        rows = [(domain_number, p.chunk.raw, number, p.offset, p.length, *common) for p in places]
        before = _last_number(db)
        written = db.executemany(INSERT, rows).rowcount
        new = _last_number(db) - before
        healed += written - new
        query = "UPDATE domain SET chunks = chunks + ? WHERE number = ?"
        db.execute(query, (new, domain_number))
    if healed:
        _doubt_nodes(db, pack.account.raw)
    return healed > 0


def _domain_number(db: sqlite3.Connection, domain: DomainId, account: AccountId) -> int:
    """Raises Damaged for a domain of another account."""
    query = "INSERT INTO domain(domain, account, chunks) VALUES (?, ?, 0) ON CONFLICT DO NOTHING"
    db.execute(query, (domain.raw, account.raw))
    query = "SELECT number, account FROM domain WHERE domain = ?"
    ((number, holder),) = db.execute(query, (domain.raw,)).fetchall()
    if holder != account.raw:
        raise Damaged(f"domain {domain} belongs to account {holder.hex()}, not to {account}")
    return int(number)


def _last_number(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT max(number) FROM chunk").fetchall()[0][0] or 0)


def _highest_doubt(db: sqlite3.Connection, account: bytes) -> int:
    query = "SELECT max(doubt) FROM pack WHERE account = ? AND kind = 2"
    return int(db.execute(query, (account,)).fetchall()[0][0] or 0)


def _doubt_packs(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Doubt all nodes of the accounts that these packs belong to."""
    accounts: set[bytes] = set()
    for batch in _batches(numbers):
        found = db.execute(ACCOUNTS.format(_marks(batch)), batch).fetchall()
        accounts.update(account for (account,) in found)
    for account in sorted(accounts):
        _doubt_nodes(db, account)


def _doubt_nodes(db: sqlite3.Connection, account: bytes) -> None:
    later = _highest_doubt(db, account) + 1
    query = "UPDATE pack SET doubt = ? WHERE account = ? AND kind = 2"
    db.execute(query, (later, account))


def _batches(values: Sequence[B]) -> Iterator[Sequence[B]]:
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]


def _marks(batch: Sequence[object]) -> str:
    return ",".join("?" * len(batch))
