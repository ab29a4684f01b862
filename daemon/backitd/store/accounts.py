"""Accounts and their signed statements: made, added to, looked up.

Checks what `rules` demand against what is stored, puts the objects, then the rows. Who may ask is
decided before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.errors import AlreadyExists, BackitError, NotFound, StatementInvalid, StatementOutdated
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DeviceId, DomainId
from backitd.store import catalog, rules
from backitd.store.values import AccountRow, DeviceRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from peewee import SqliteDatabase

    from backit.ids import SlotId
    from backitd.store.parts import Parts
    from backitd.store.tables import AccountTable

STATEMENTS_AT_SIGNUP = 32
STATEMENTS_AT_ONCE = 1000


class Standing:
    """The statements of one account that are in force, and what new ones would make of them."""

    def __init__(self, stored: Iterable[Statement]) -> None:
        self.newest: dict[tuple[StatementKind, bytes], Statement] = {}
        self.epochs: dict[int, Statement] = {}
        self.owners: dict[int, Statement] = {}
        self.replaced_slots: list[Statement] = []
        for statement in stored:
            self.add(statement)

    def add(self, statement: Statement) -> None:
        key = (statement.kind, statement.subject)
        before = self.newest.get(key)
        if before is None or before.number < statement.number:
            self.newest[key] = statement
            if before is not None and before.kind is StatementKind.SLOT:
                self.replaced_slots.append(before)
        if statement.kind is StatementKind.EPOCH:
            self.epochs[statement.number] = statement
        if statement.kind is StatementKind.ACCOUNT:
            self.owners[statement.number] = statement

    def of_kind(self, kind: StatementKind) -> list[Statement]:
        return [s for (k, _subject), s in self.newest.items() if k is kind]

    @property
    def owner_key(self) -> bytes | None:
        """Of the newest account statement; None where there is none."""
        account = self.newest.get((StatementKind.ACCOUNT, b""))
        return (
            account.body.owner_key if account and isinstance(account.body, pb.AccountBody) else None
        )

    def in_force(self) -> list[Statement]:
        """The newest of each subject, every owner and every epoch.

        What was sealed to old epochs needs them; whoever pinned an old owner follows the
        successions, and old owners signed the revocations of their time.
        """
        chains = (StatementKind.ACCOUNT, StatementKind.EPOCH)
        found = [s for (kind, _subject), s in self.newest.items() if kind not in chains]
        wanted = [*self.owners.values(), *found, *self.epochs.values()]
        kept = [s for s in wanted if s.kind in rules.OWNED]
        return sorted(kept, key=lambda s: (s.kind, s.subject, s.number))

    def take(self, new: Statement) -> bool:
        """Check one statement against the rules and add it. False if it is there already.

        Raises StatementInvalid or StatementOutdated.
        """
        if new.kind not in rules.OWNED:
            raise StatementInvalid(f"a {new.kind.name.lower()} statement cannot be put here")
        newest = self.newest.get((new.kind, new.subject))
        same = self.epochs.get(new.number) if new.kind is StatementKind.EPOCH else newest
        if same is not None and same.encoded == new.encoded:
            return False
        self._check_signer(new)
        self._check_context(new)
        rules.check_number(new, newest)
        self.add(new)
        return True

    def _check_signer(self, new: Statement) -> None:
        owner_key = self.owner_key
        if new.kind is StatementKind.ACCOUNT and owner_key is not None:
            rules.check_succession(new, owner_key)
        rules.check_signer(new, owner_key or b"")

    def _check_context(self, new: Statement) -> None:
        """What a statement says of other subjects must be true."""
        body = new.body
        if isinstance(body, pb.DeviceBody):
            if (StatementKind.DOMAIN, body.domain_id) not in self.newest:
                raise StatementInvalid(f"device {body.device_id.hex()}: its domain is unknown")
            if (StatementKind.REVOCATION, body.device_id) in self.newest:
                raise StatementOutdated(f"device {body.device_id.hex()}: it was revoked")
        if isinstance(body, pb.RevocationBody) and (
            (StatementKind.DEVICE, body.device_id) not in self.newest
        ):
            raise StatementInvalid(f"revocation of {body.device_id.hex()}: no such device")


class Accounts:
    """All accounts. They are changed by one thread at a time, under the change lock."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._objects = parts.objects
        self._catalog = parts.catalog

    def create(self, account: AccountId, new: Sequence[Statement]) -> None:
        """A new account. Idempotent for equal statements.

        Raises AlreadyExists if the user name or the id is taken, StatementInvalid.
        """
        if len(new) > STATEMENTS_AT_SIGNUP:
            raise StatementInvalid(
                f"signing up with {len(new)} statements, at most {STATEMENTS_AT_SIGNUP}"
            )
        with self._parts.changing:
            with self._catalog.reading() as db:
                exists = catalog.account(db, account) is not None
                stored = catalog.statements_of(db, account)
            if exists:
                self._check_same(account, stored, new)
                return
            standing = Standing([])
            fresh = self._check_all(account, standing, new)
            user = _first_user(standing)
            with self._catalog.reading() as db:
                self._check_exclusive(db, account, fresh)
                if catalog.account_of_user(db, rules.user_key(user)) is not None:
                    raise AlreadyExists(f"signing up: the user name {user!r} is taken")
            # Folders; then the statements with that of the account last, for with it the account
            # exists; then the rows.
            self._objects.create_account(account)
            moment = self._parts.moment()
            last = sorted(fresh, key=lambda s: s.kind is StatementKind.ACCOUNT)
            self._store(account, last, moment=moment, created=moment)

    def put(self, account: AccountId, new: Sequence[Statement]) -> None:
        """Add statements, all or none, durable when this returns; those that are there are fine.

        Raises NotFound, StatementInvalid, StatementOutdated or LastSlot.
        """
        if len(new) > STATEMENTS_AT_ONCE:
            raise StatementInvalid(f"{len(new)} statements at once, at most {STATEMENTS_AT_ONCE}")
        with self._parts.changing:
            with self._catalog.reading() as db:
                row = _require(catalog.account(db, account), account)
                standing = Standing(catalog.statements_of(db, account))
                fresh = self._check_all(account, standing, new)
                self._check_exclusive(db, account, fresh)
                self._check_rename(db, account, standing)
            if not fresh:
                return
            moment = self._parts.moment()
            self._store(account, fresh, moment=moment, created=row.created)
            # Last: an old slot is worth something to who knows an old password, so its file goes
            # too.
            if standing.replaced_slots:
                self._objects.remove_statements(standing.replaced_slots)
                self._catalog.empty_log()

    def has_any(self) -> bool:
        """Whether anybody has signed up."""
        with self._catalog.reading() as db:
            return bool(catalog.accounts(db))

    def find_user(self, user: str) -> AccountRow | None:
        with self._catalog.reading() as db:
            row = catalog.account_of_user(db, rules.user_key(user))
        return None if row is None else self._row(row)

    def get(self, account: AccountId) -> AccountRow:
        """Raises NotFound."""
        with self._catalog.reading() as db:
            row = _require(catalog.account(db, account), account)
        return self._row(row)

    def statements(self, account: AccountId) -> list[Statement]:
        """The newest of each subject, of kinds 1 to 6, and every epoch. Raises NotFound."""
        with self._catalog.reading() as db:
            _require(catalog.account(db, account), account)
            return Standing(catalog.statements_of(db, account)).in_force()

    def slot(self, slot: SlotId) -> tuple[AccountId, Statement] | None:
        with self._catalog.reading() as db:
            found = catalog.newest_statement(db, StatementKind.SLOT, slot.raw)
        if found is None or not isinstance(found.body, pb.SlotBody) or found.body.removed:
            return None
        return found.account, found

    def password_slot(self, account: AccountId) -> Statement | None:
        """Raises NotFound if there is no such account."""
        with self._catalog.reading() as db:
            _require(catalog.account(db, account), account)
            slots = Standing(catalog.statements_of(db, account, StatementKind.SLOT))
        for statement in slots.in_force():
            body = statement.body
            if (
                isinstance(body, pb.SlotBody)
                and not body.removed
                and body.kind == pb.SLOT_KIND_PASSWORD
            ):
                return statement
        return None

    def device(self, device: DeviceId) -> DeviceRow | None:
        with self._catalog.reading() as db:
            found = catalog.newest_statement(db, StatementKind.DEVICE, device.raw)
            return None if found is None else _device_row(db, found)

    def devices(self, account: AccountId) -> list[DeviceRow]:
        """Revoked ones included. Raises NotFound."""
        with self._catalog.reading() as db:
            _require(catalog.account(db, account), account)
            found = Standing(catalog.statements_of(db, account, StatementKind.DEVICE))
            return [_device_row(db, statement) for statement in found.in_force()]

    def _row(self, row: AccountTable) -> AccountRow:
        account = AccountId(row.account)
        stored = self._parts.index.stored_bytes(account)
        return AccountRow(account, row.user, row.owner_key, row.created, stored)

    def _check_all(
        self, account: AccountId, standing: Standing, new: Sequence[Statement]
    ) -> list[Statement]:
        """Those of the new statements that are not there yet, in the order to write them."""
        if any(statement.account != account for statement in new):
            raise StatementInvalid(f"account {account}: a statement speaks of another account")
        ordered = sorted(new, key=lambda s: (s.kind, s.number))
        fresh = rules.in_order([s for s in ordered if standing.take(s)])
        rules.check_slots(standing.of_kind(StatementKind.SLOT))
        if not standing.epochs:
            raise StatementInvalid(f"account {account}: it has no epoch")
        return fresh

    def _check_same(
        self, account: AccountId, stored: Sequence[Statement], new: Sequence[Statement]
    ) -> None:
        """A repeated signup is fine; another one with the same id is not."""
        standing = Standing(stored)
        known = {statement.encoded for statement in stored}
        for statement in new:
            newest = standing.newest.get((statement.kind, statement.subject))
            outdated = newest is not None and newest.number > statement.number
            if statement.encoded not in known and not outdated:
                raise AlreadyExists(f"signing up: the account id {account} is taken")

    def _check_exclusive(
        self, db: SqliteDatabase, account: AccountId, fresh: Iterable[Statement]
    ) -> None:
        """Nobody may claim another account's slot, domain or device: records go by domain."""
        for statement in fresh:
            if statement.kind in rules.EXCLUSIVE:
                holder = catalog.newest_statement(db, statement.kind, statement.subject)
                if holder is not None and holder.account != account:
                    raise StatementInvalid(
                        f"{statement.kind.name.lower()} {statement.subject.hex()}: the id is taken"
                    )

    def _check_rename(self, db: SqliteDatabase, account: AccountId, standing: Standing) -> None:
        holder = catalog.account_of_user(db, rules.user_key(_first_user(standing)))
        if holder is not None and holder.account != account.raw:
            raise AlreadyExists(f"account {account}: the user name {holder.user!r} is taken")

    def _store(
        self, account: AccountId, fresh: Sequence[Statement], *, moment: int, created: int
    ) -> None:
        """Journal, objects, rows. Without the rows all of it goes again: who asked is told no."""
        together = len(fresh) > 1
        try:
            if together:
                self._parts.journal.write(account, fresh, moment)
            self._objects.put_statements(account, fresh, moment)
            with self._catalog.writing() as db:
                for statement in fresh:
                    write_row(db, statement, created=created)
        except BackitError:
            # The objects first: while the entry is there, a crash makes all of them come true.
            self._objects.remove_statements(fresh)
            self._parts.journal.remove(account)
            raise
        if together:
            self._parts.journal.remove(account)


def write_row(db: SqliteDatabase, statement: Statement, *, created: int = 0) -> None:
    """Remember one statement, forget what it replaces. `created`: when the account was stored."""
    catalog.put_statement(db, statement)
    if isinstance(statement.body, pb.AccountBody):
        body = statement.body
        catalog.put_account(
            db,
            statement.account,
            user=body.user,
            user_key=rules.user_key(body.user),
            owner_key=body.owner_key,
            created=created,
        )
    if statement.kind in (StatementKind.SLOT, StatementKind.FORGET):
        catalog.remove_statements_below(db, statement)
    if statement.kind is StatementKind.REVOCATION:
        catalog.remove_leases_of(db, statement.subject)


def _first_user(standing: Standing) -> str:
    account = standing.newest.get((StatementKind.ACCOUNT, b""))
    if account is None or not isinstance(account.body, pb.AccountBody):
        raise StatementInvalid("signing up: the account statement is missing")
    return account.body.user


def _require(row: AccountTable | None, account: AccountId) -> AccountTable:
    if row is None:
        raise NotFound(f"account {account}: no such account")
    return row


def _device_row(db: SqliteDatabase, statement: Statement) -> DeviceRow:
    body = statement.body
    if not isinstance(body, pb.DeviceBody):
        raise BackitError(f"device {statement.subject.hex()}: its row holds another statement")
    device = DeviceId(statement.subject)
    return DeviceRow(
        device=device,
        account=statement.account,
        domain=DomainId(body.domain_id),
        statement=statement,
        revoked=catalog.newest_statement(db, StatementKind.REVOCATION, device.raw),
        last_snapshot=catalog.last_received(db, statement.account, device),
    )
