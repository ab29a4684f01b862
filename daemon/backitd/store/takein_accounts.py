"""Takes in what the catalog does not know of accounts: statements, sessions, snapshots, orders.

Signatures are checked against all owner keys and certificates that an account has had. What fails
on one object is logged with its name and skipped; it is tried again at the next start. An object
that only the catalog still has is written again: it was verified once. Packs are `takein`'s.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backit.errors import (
    AlreadyExists,
    Conflict,
    Damaged,
    Invalid,
    NoSpace,
    StatementInvalid,
    Unsupported,
)
from backit.format import snapshot as snapshot_format
from backit.format import statement as statements
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, SnapshotId
from backitd.store import accounts as account_rows
from backitd.store import catalog, objects, rules
from backitd.store import snapshots as snapshot_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from peewee import SqliteDatabase

    from backit.ids import SessionId
    from backitd.store.databases import Database
    from backitd.store.objects import Objects, StoredSnapshot, StoredStatement

log = logging.getLogger(__name__)

# What one object may have wrong with it. Anything else is wrong with all of them, and ends the
# start.
SKIPPED = (Damaged, Invalid, Unsupported, Conflict)
# Of these, a lower number than the newest is over.
REPLACED = (StatementKind.SLOT, StatementKind.FORGET)


class Keys:
    """The keys that an account's statements may be signed with."""

    def __init__(self, stored: Iterable[Statement]) -> None:
        self.owners: list[bytes] = []
        self.devices: dict[bytes, set[bytes]] = {}
        for statement in sorted(stored, key=lambda s: s.number):
            self.add(statement)

    def add(self, statement: Statement) -> None:
        body = statement.body
        if isinstance(body, pb.AccountBody):
            self.owners.append(body.owner_key)
        if isinstance(body, pb.DeviceBody):
            self.devices.setdefault(body.device_id, set()).add(body.device_key)

    def check_owner(self, statement: Statement) -> None:
        """Raises StatementInvalid unless an owner that the account has had signed it."""
        if not isinstance(statement.body, pb.AccountBody):
            _verify_by_any(statement, self.owners)
            return
        rules.check_signer(statement, b"")
        if self.owners:
            rules.check_succession(statement, self.owners[-1])

    def check_device(self, statement: Statement, device: bytes) -> None:
        """Raises StatementInvalid unless the device signed it.

        A device whose certificate was lost is believed: refusing would lose more than it protects,
        for whoever opens what this leads to checks it against keys that the box never had.
        """
        keys = self.devices.get(device)
        if keys is None:
            log.warning(
                "device %s has no certificate here: what it signed is believed", device.hex()
            )
            return
        _verify_by_any(statement, sorted(keys))


class AccountTakeIn:
    """Takes in the objects of one account."""

    def __init__(
        self, stored: Objects, database: Database, account: AccountId, *, moment: int
    ) -> None:
        """`moment` (Unix seconds) becomes the time of objects that have to be written again."""
        self._objects = stored
        self._database = database
        self._account = account
        self._moment = moment
        # Snapshots of which it has to be said anew whether they are in the trash.
        self._unsure: set[bytes] = set()

    def run(self) -> None:
        keys = self._take_statements()
        if keys.owners:
            self._take_sessions(keys)
            self._take_snapshots(keys)
            self._sort_trash()

    # Statements

    def _take_statements(self) -> Keys:
        with self._database.reading() as db:
            stored = catalog.all_statements_of(db, self._account)
        names = self._objects.statement_names(self._account)
        self._mend_statements(stored, names)
        keys = Keys(stored)
        found = self._read_statements(stored, set(names))
        good = [taken for each in found if (taken := self._checked(keys, each))]
        if good and not keys.owners:
            log.warning("account %s: its signup was cut off; nobody was told of it", self._account)
        elif good:
            with self._database.writing() as db:
                for statement, moment in good:
                    self._write_statement(db, statement, moment)
            self._objects.remove_statements(_outdated([statement for statement, _ in good]))
        return keys

    def _mend_statements(self, stored: list[Statement], names: Mapping[str, int]) -> None:
        """Write again what the catalog has and a file is missing of."""
        for statement in stored:
            name = objects.file_name(statement)
            if names.get(name, 0) < len(objects.PLACES):
                log.error("account %s: %s was gone; written again", self._account, name)
                self._mend(statement, self._moment)

    def _mend(self, statement: Statement, moment: int) -> None:
        try:
            self._objects.mend_statement(statement, moment)
        except NoSpace as error:
            # What is there can still be read, and that may be what the disk is full of.
            log.error("account %s: %s", self._account, error)

    def _read_statements(self, stored: list[Statement], names: set[str]) -> list[StoredStatement]:
        """Those that are not in the catalog, in the order in which they may rely on each other."""
        known = {objects.file_name(statement) for statement in stored}
        newest = {(s.kind, s.subject): s for s in stored if s.kind in REPLACED}
        found: list[StoredStatement] = []
        for name in sorted(names - known):
            try:
                read = self._objects.read_statement(self._account, name)
            except SKIPPED as error:
                log.error("taking in statement %s: %s", name, error)
                continue
            statement = read.statement
            later = newest.get((statement.kind, statement.subject))
            if later is None or later.number < statement.number:
                found.append(read)
            elif statement.kind is StatementKind.SLOT:
                # A crash came between the new slot and the end of the old one.
                self._objects.remove_statements([statement])
        return sorted(found, key=lambda each: (each.statement.kind, each.statement.number))

    def _checked(self, keys: Keys, found: StoredStatement) -> tuple[Statement, int] | None:
        """The version that its signer has signed, and when it was stored."""
        for statement, moment in found.versions:
            try:
                keys.check_owner(statement)
                self._check_free(statement)
            except SKIPPED as error:
                log.error("account %s: taking in %s: %s", self._account, found.name, error)
                continue
            keys.add(statement)
            if not found.is_whole:
                # Half of it was written before a crash, or half of it was lost since.
                self._mend(statement, moment)
            return statement, moment
        return None

    def _check_free(self, statement: Statement) -> None:
        """Neither user name nor id may be another account's."""
        with self._database.reading() as db:
            if isinstance(statement.body, pb.AccountBody):
                key = rules.user_key(statement.body.user)
                holder = catalog.account_of_user(db, key)
                if holder is not None and holder.account != self._account.raw:
                    raise AlreadyExists(f"user name {statement.body.user!r} is taken")
            if statement.kind in rules.EXCLUSIVE:
                other = catalog.newest_statement(db, statement.kind, statement.subject)
                if other is not None and other.account != self._account:
                    raise StatementInvalid(f"id {statement.subject.hex()} is taken")

    def _write_statement(self, db: SqliteDatabase, statement: Statement, moment: int) -> None:
        row = catalog.account(db, self._account)
        account_rows.write_row(db, statement, created=moment if row is None else row.created)
        if statement.kind is StatementKind.FORGET:
            self._unsure.add(statement.subject)

    # Sessions

    def _take_sessions(self, keys: Keys) -> None:
        with self._database.reading() as db:
            known = catalog.session_ids(db, self._account)
        stored = self._objects.sessions(self._account)
        self._write_sessions_again(known - {session.raw for session in stored})
        found = [s for s in stored if s.raw not in known]
        good = [s for s in map(self._read_session, found) if s and self._signed(keys, s)]
        if good:
            with self._database.writing() as db:
                for session in good:
                    catalog.put_session(db, session)

    def _read_session(self, session: SessionId) -> Statement | None:
        try:
            return self._objects.read_session(self._account, session)
        except SKIPPED as error:
            log.error("account %s: taking in session: %s", self._account, error)
            return None

    def _signed(self, keys: Keys, session: Statement) -> bool:
        try:
            check_session(self._database, keys, session)
        except SKIPPED as error:
            log.error("taking in session %s: %s", session.subject.hex(), error)
            return False
        return True

    def _write_sessions_again(self, lost: set[bytes]) -> None:
        for session in sorted(lost):
            with self._database.reading() as db:
                row = catalog.session(db, session)
            if row is not None:
                log.error("session %s was gone; written again", session.hex())
                self._objects.create_account(self._account)
                self._objects.put_session(row, self._moment)

    # Snapshots

    def _take_snapshots(self, keys: Keys) -> None:
        with self._database.reading() as db:
            known = catalog.snapshot_ids(db, self._account)
        stored = self._objects.snapshots(self._account)
        self._write_snapshots_again(known - {snapshot.raw for snapshot in stored})
        found = [s for s in stored if s.raw not in known]
        read = [self._read_snapshot(keys, snapshot) for snapshot in found]
        good = [snapshot for snapshot in read if snapshot is not None]
        if good:
            with self._database.writing() as db:
                for snapshot in good:
                    snapshot_rows.write_row(db, snapshot.header, snapshot.receipt)
        self._unsure.update(snapshot.snapshot.raw for snapshot in good)

    def _read_snapshot(self, keys: Keys, snapshot: SnapshotId) -> StoredSnapshot | None:
        try:
            if not self._objects.has_receipt(self._account, snapshot):
                # The commit was cut off; the client that made it was told nothing and tries again.
                return None
            found = self._objects.read_snapshot(self._account, snapshot)
            keys.check_device(found.header, snapshot_format.header_body(found.header).device_id)
        except SKIPPED as error:
            log.error("taking in snapshot %s: %s", snapshot, error)
            return None
        return found

    def _write_snapshots_again(self, lost: set[bytes]) -> None:
        """Header and receipt; the body is nowhere else, and reading the snapshot says so."""
        for snapshot in map(SnapshotId, sorted(lost)):
            with self._database.reading() as db:
                row = catalog.snapshot(db, snapshot)
            if row is not None:
                log.error("snapshot %s was gone; header and receipt are written again", snapshot)
                self._objects.create_account(self._account)
                header, receipt = statements.parse(row.header), statements.parse(row.receipt)
                self._objects.put_header(snapshot, header, self._moment)
                self._objects.put_receipt(snapshot, receipt, self._moment)

    def _sort_trash(self) -> None:
        """By the newest order about each snapshot, and the time at which the box stored it."""
        for snapshot in map(SnapshotId, sorted(self._unsure)):
            with self._database.reading() as db:
                order = catalog.newest_statement(db, StatementKind.FORGET, snapshot.raw)
            if order is None or not isinstance(order.body, pb.ForgetBody):
                continue
            trashed = None
            if order.body.forgotten:
                name = objects.file_name(order)
                versions = self._objects.read_statement(self._account, name).versions
                trashed = min(moment for _version, moment in versions)
            with self._database.writing() as db:
                catalog.set_trashed(db, snapshot, trashed)


def check_session(database: Database, keys: Keys, session: Statement) -> None:
    """Raises StatementInvalid unless its device signed it and no other session has its id."""
    body = session.body
    if not isinstance(body, pb.SessionBody):
        raise StatementInvalid("no session statement")
    keys.check_device(session, body.device_id)
    with database.reading() as db:
        holder = catalog.session(db, session.subject)
    if holder is not None and holder.encoded != session.encoded:
        raise StatementInvalid(f"session {session.subject.hex()}: the id is taken")


def _verify_by_any(statement: Statement, keys: Iterable[bytes]) -> None:
    error = StatementInvalid(
        f"{statement.kind.name.lower()} statement: no key it could be signed by"
    )
    for key in keys:
        try:
            statement.verify(key)
        except StatementInvalid as refused:
            error = refused
        else:
            return
    raise error


def _outdated(found: list[Statement]) -> list[Statement]:
    """Slots that another one of these replaces."""
    newest: dict[bytes, int] = {}
    slots = [s for s in found if s.kind is StatementKind.SLOT]
    for slot in slots:
        newest[slot.subject] = max(newest.get(slot.subject, 0), slot.number)
    return [slot for slot in slots if slot.number < newest[slot.subject]]
