"""catalog.db: the ordinary queries about accounts, statements, sessions, snapshots and leases.

The tables are described in `tables`. What a statement may say is `rules`' business; here it is only
remembered. Every function takes the connection of a transaction or of a reader.
"""
# peewee's stubs leave much open; the functions here are typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import TYPE_CHECKING

from peewee import fn

from backit.format import statement as statements
from backit.format.statement import StatementKind
from backit.ids import AccountId
from backitd.store.databases import Database, Schema
from backitd.store.tables import (
    CATALOG_SCHEMA,
    CATALOG_TABLES,
    AccountTable,
    LeaseTable,
    LifeTable,
    SessionTable,
    SnapshotTable,
    StatementTable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peewee import SqliteDatabase

    from backit.format.statement import Statement
    from backit.ids import DeviceId, IncarnationId, LeaseId, SeriesId, SessionId, SnapshotId

# One commit is one sync: a row that somebody was told of is there after a power cut.
WRITER = {
    "journal_mode": "wal",
    "synchronous": "full",
    "secure_delete": "on",
    "cache_size": -8192,
    "temp_store": "memory",
    "journal_size_limit": 16 << 20,
}
READER = {"cache_size": -4096, "temp_store": "memory", "query_only": "on"}


class Catalog(Database):
    """catalog.db, open."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file. Raises Damaged, NoSpace, Unsupported or Internal."""
        schema = Schema(CATALOG_TABLES, CATALOG_SCHEMA)
        super().__init__(path, schema, writer=WRITER, reader=READER)

    def incarnation(self) -> bytes | None:
        """Whose cache this is; None for a new file."""
        with self.reading() as db:
            row = LifeTable.select().bind(db).first()
        return None if row is None else row.incarnation

    def begin_life(self, incarnation: IncarnationId) -> None:
        with self.writing() as db:
            LifeTable.insert(incarnation=incarnation.raw).execute(db)


# Accounts


def put_account(
    db: SqliteDatabase,
    account: AccountId,
    *,
    user: str,
    user_key: str,
    owner_key: bytes,
    created: int,
) -> None:
    """A new account, or a new user name or owner key of one. The user name must be free."""
    t = AccountTable
    changes = {"user": user, "user_key": user_key, "owner_key": owner_key, "created": created}
    query = t.insert(account=account.raw, **changes)
    query.on_conflict(conflict_target=[t.account], update=changes).execute(db)


def account(db: SqliteDatabase, wanted: AccountId) -> AccountTable | None:
    return AccountTable.select().where(AccountTable.account == wanted.raw).get_or_none(db)


def accounts(db: SqliteDatabase) -> list[AccountId]:
    t = AccountTable
    return [AccountId(row.account) for row in t.select(t.account).bind(db)]


def account_of_user(db: SqliteDatabase, user_key: str) -> AccountTable | None:
    return AccountTable.select().where(AccountTable.user_key == user_key).get_or_none(db)


# Statements


def put_statement(db: SqliteDatabase, new: Statement) -> None:
    query = StatementTable.insert(
        account=new.account.raw,
        kind=int(new.kind),
        subject=new.subject,
        number=new.number,
        encoded=new.encoded,
    )
    # A row that is there already is this very one: what is signed does not change.
    query.on_conflict_ignore().execute(db)


def remove_statements_below(db: SqliteDatabase, newest: Statement) -> None:
    """What `newest` has replaced."""
    t = StatementTable
    t.delete().where(
        (t.kind == int(newest.kind))
        & (t.subject == newest.subject)
        & (t.account == newest.account.raw)
        & (t.number < newest.number)
    ).execute(db)


def statements_of(
    db: SqliteDatabase, owner: AccountId, kind: StatementKind | None = None
) -> list[Statement]:
    """All of the account, by kind, subject and number; orders only if asked for."""
    t = StatementTable
    wanted = t.kind != int(StatementKind.FORGET) if kind is None else t.kind == int(kind)
    query = t.select(t.encoded).where((t.account == owner.raw) & wanted)
    rows = query.order_by(t.kind, t.subject, t.number).bind(db)
    return [statements.parse(row.encoded) for row in rows]


def all_statements_of(db: SqliteDatabase, owner: AccountId) -> list[Statement]:
    """All that are stored for the account, orders included."""
    t = StatementTable
    rows = t.select(t.encoded).where(t.account == owner.raw).bind(db)
    return [statements.parse(row.encoded) for row in rows]


def newest_statement(db: SqliteDatabase, kind: StatementKind, subject: bytes) -> Statement | None:
    """Of whatever account: subjects other than the account itself are unique in the store."""
    t = StatementTable
    query = t.select(t.encoded).where((t.kind == int(kind)) & (t.subject == subject))
    row = query.order_by(t.number.desc()).limit(1).bind(db).first()
    return None if row is None else statements.parse(row.encoded)


def newest_statements(
    db: SqliteDatabase, kind: StatementKind, subjects: Sequence[bytes]
) -> dict[bytes, Statement]:
    """The same for many subjects, by subject."""
    t = StatementTable
    query = t.select(t.subject, t.encoded).where((t.kind == int(kind)) & t.subject.in_(subjects))
    newest = {row.subject: row.encoded for row in query.order_by(t.number).bind(db)}
    return {subject: statements.parse(encoded) for subject, encoded in newest.items()}


# Sessions


def put_session(db: SqliteDatabase, new: Statement) -> None:
    t = SessionTable
    query = t.insert(session=new.subject, account=new.account.raw, encoded=new.encoded)
    # As with statements.
    query.on_conflict_ignore().execute(db)


def session(db: SqliteDatabase, wanted: bytes) -> Statement | None:
    row = SessionTable.select().where(SessionTable.session == wanted).get_or_none(db)
    return None if row is None else statements.parse(row.encoded)


def sessions_by_id(db: SqliteDatabase, wanted: Sequence[bytes]) -> dict[bytes, Statement]:
    t = SessionTable
    rows = t.select(t.session, t.encoded).where(t.session.in_(wanted)).bind(db)
    return {row.session: statements.parse(row.encoded) for row in rows}


def session_ids(db: SqliteDatabase, owner: AccountId) -> set[bytes]:
    t = SessionTable
    return {row.session for row in t.select(t.session).where(t.account == owner.raw).bind(db)}


def sessions(db: SqliteDatabase, owner: AccountId, wanted: Sequence[SessionId]) -> list[bytes]:
    t = SessionTable
    ids = [session.raw for session in wanted]
    query = t.select(t.encoded).where((t.account == owner.raw) & t.session.in_(ids))
    return [row.encoded for row in query.bind(db)]


# Snapshots


def put_snapshot(db: SqliteDatabase, row: dict[str, object]) -> None:
    """`row` by the columns of SnapshotTable."""
    SnapshotTable.insert(**row).execute(db)


def snapshot(db: SqliteDatabase, wanted: SnapshotId) -> SnapshotTable | None:
    return SnapshotTable.select().where(SnapshotTable.snapshot == wanted.raw).get_or_none(db)


def snapshot_ids(db: SqliteDatabase, owner: AccountId) -> set[bytes]:
    t = SnapshotTable
    return {row.snapshot for row in t.select(t.snapshot).where(t.account == owner.raw).bind(db)}


def snapshot_page(
    db: SqliteDatabase, owner: AccountId, *, trashed: bool, after: tuple[int, bytes], limit: int
) -> list[SnapshotTable]:
    """Those behind (receive time, id), oldest first."""
    t = SnapshotTable
    received, last = after
    behind = (t.received > received) | ((t.received == received) & (t.snapshot > last))
    query = t.select().where((t.account == owner.raw) & behind)
    if not trashed:
        query = query.where(t.trashed.is_null())
    return list(query.order_by(t.received, t.snapshot).limit(limit).bind(db))


def head(db: SqliteDatabase, device: DeviceId, series: SeriesId) -> SnapshotTable | None:
    """The series' newest snapshot, trashed or not."""
    t = SnapshotTable
    query = t.select().where((t.device == device.raw) & (t.series == series.raw))
    found: SnapshotTable | None = query.order_by(t.counter.desc()).limit(1).bind(db).first()
    return found


def heads(db: SqliteDatabase, owner: AccountId) -> list[SnapshotTable]:
    """The newest snapshot of every series of the account."""
    t = SnapshotTable
    inner = t.alias()
    newest = inner.select(fn.MAX(inner.counter)).where(
        (inner.device == t.device) & (inner.series == t.series)
    )
    query = t.select().where((t.account == owner.raw) & (t.counter == newest))
    return list(query.order_by(t.device, t.series).bind(db))


def last_received(
    db: SqliteDatabase, owner: AccountId, device: DeviceId | None = None
) -> int | None:
    """When the newest snapshot of the account, or of one of its devices, came in."""
    t = SnapshotTable
    query = t.select(fn.MAX(t.received)).where(t.account == owner.raw)
    if device is not None:
        query = query.where(t.device == device.raw)
    found: int | None = query.scalar(db)
    return found


def count_snapshots(db: SqliteDatabase, owner: AccountId) -> int:
    """The trash left out."""
    t = SnapshotTable
    return t.select().where((t.account == owner.raw) & t.trashed.is_null()).count(db)


def set_trashed(db: SqliteDatabase, wanted: SnapshotId, trashed: int | None) -> None:
    t = SnapshotTable
    t.update(trashed=trashed).where(t.snapshot == wanted.raw).execute(db)


# Leases


def put_lease(db: SqliteDatabase, row: dict[str, object]) -> None:
    """`row` by the columns of LeaseTable."""
    LeaseTable.insert(**row).execute(db)


def lease(db: SqliteDatabase, wanted: LeaseId) -> LeaseTable | None:
    return LeaseTable.select().where(LeaseTable.lease == wanted.raw).get_or_none(db)


def lease_of_series(db: SqliteDatabase, device: DeviceId, series: SeriesId) -> LeaseTable | None:
    t = LeaseTable
    return t.select().where((t.device == device.raw) & (t.series == series.raw)).get_or_none(db)


def set_seen(db: SqliteDatabase, wanted: bytes, seen: float) -> None:
    t = LeaseTable
    t.update(seen=seen).where(t.lease == wanted).execute(db)


def remove_lease(db: SqliteDatabase, wanted: bytes) -> None:
    LeaseTable.delete().where(LeaseTable.lease == wanted).execute(db)


def remove_leases_of(db: SqliteDatabase, device: bytes) -> None:
    LeaseTable.delete().where(LeaseTable.device == device).execute(db)


def has_leases(db: SqliteDatabase) -> bool:
    return LeaseTable.select().exists(db)


def remove_all_leases(db: SqliteDatabase) -> None:
    LeaseTable.delete().execute(db)
