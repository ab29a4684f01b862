"""Snapshots: commit, listing, trash. The receipt is the only commit point.

Proves what a snapshot relies on, then writes: header and body, receipt, row. Who may ask is decided
before.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import (
    BackitError,
    Damaged,
    HeadMoved,
    Invalid,
    LeaseEnded,
    NotADevice,
    ReferencesMissing,
    SnapshotNotFound,
    StatementInvalid,
    Unavailable,
)
from backit.format import snapshot as snapshot_format
from backit.format import statement as statements
from backit.format.magic import SNAPSHOT_BODY_LIMIT, Kind
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, ChunkId, DeviceId, SeriesId, SnapshotId
from backitd.store import accounts as account_rows
from backitd.store import catalog, rules
from backitd.store.tables import State
from backitd.store.values import SnapshotRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peewee import SqliteDatabase

    from backit.crypto.keys import SigningKey
    from backit.ids import IncarnationId
    from backitd.store.accounts import Accounts
    from backitd.store.parts import Parts
    from backitd.store.settle import Settler
    from backitd.store.tables import SnapshotTable
    from backitd.store.values import Lease


log = logging.getLogger(__name__)


class Snapshots:
    """All snapshots. They change in one thread at a time, under the change lock."""

    def __init__(
        self,
        parts: Parts,
        accounts: Accounts,
        settler: Settler,
        *,
        receipt_key: SigningKey,
        incarnation: IncarnationId,
    ) -> None:
        self._parts = parts
        self._settler = settler
        self._objects = parts.objects
        self._catalog = parts.catalog
        self._accounts = accounts
        self._receipt_key = receipt_key
        self._incarnation = incarnation

    def find_committed(self, device: DeviceId, header: Statement) -> SnapshotRow | None:
        """The snapshot that this very header has made before, if it has."""
        with self._catalog.reading() as db:
            row = catalog.snapshot(db, snapshot_format.snapshot_id(header))
        if row is None or row.device != device.raw:
            return None
        return self._whole(row)

    def commit(self, lease: Lease, header: Statement, sealed_body: bytes) -> SnapshotRow:
        """Durable when this returns; the lease ends with it.

        Raises LeaseEnded, StatementInvalid, HeadMoved, ReferencesMissing or Unavailable.
        """
        self._settler.wait(lease.account)
        with self._parts.changing:
            # Looked up before, but outside of the lock: the same call may just have been answered.
            committed = self.find_committed(lease.device, header)
            if committed is not None:
                return committed
            self._check_header(lease, header, sealed_body)
            with self._catalog.reading() as db:
                if catalog.lease(db, lease.lease) is None:
                    raise LeaseEnded(f"lease {lease.lease}: it has ended")
                head = catalog.head(db, lease.device, lease.series)
            _check_head(head, header)
            self._check_root(lease, header)
            snapshot = snapshot_format.snapshot_id(header)
            # 1. Header and body. Alone they are nothing.
            self._objects.put_snapshot(snapshot, header, sealed_body, self._parts.moment())
            # 2. The receipt: with it the snapshot exists, also for a daemon that starts after a
            # crash.
            receipt = self._receipt(header, snapshot)
            self._objects.put_receipt(snapshot, receipt, self._parts.moment())
            # 3. The row, and in the same transaction the end of the lease.
            try:
                with self._catalog.writing() as db:
                    write_row(db, header, receipt)
                    catalog.remove_lease(db, lease.lease.raw)
                    row = catalog.snapshot(db, snapshot)
            except BackitError:
                self._objects.remove_receipt(receipt)
                raise
        return self._whole(_require(row, snapshot))

    def page(
        self, account: AccountId, *, trashed: bool, after: str, limit: int
    ) -> list[SnapshotRow]:
        """By receive time, then id; `after` is the id (hexadecimal) of the last one seen, or empty.

        Raises NotFound for an account, and SnapshotNotFound for an `after`, that there is none of.
        """
        behind = (-1, b"")
        with self._catalog.reading() as db:
            if after:
                last = self._own(db, account, SnapshotId.from_hex(after))
                behind = (last.received, last.snapshot)
            rows = catalog.snapshot_page(db, account, trashed=trashed, after=behind, limit=limit)
        return self._rows_of(rows)

    def get(self, account: AccountId, snapshot: SnapshotId) -> SnapshotRow:
        """With its sealed body. Raises SnapshotNotFound, or Damaged if the body is not the one."""
        with self._catalog.reading() as db:
            row = self._own(db, account, snapshot)
        return self._whole(row)

    def forget(self, account: AccountId, order: Statement) -> SnapshotRow:
        """Into the trash or out of it, as the owner's order says. Idempotent for equal orders.

        Raises StatementInvalid, StatementOutdated or SnapshotNotFound.
        """
        body = order.body
        if not isinstance(body, pb.ForgetBody) or order.account != account:
            raise StatementInvalid("this is no order of the account to forget or keep a snapshot")
        snapshot = SnapshotId(body.snapshot_id)
        rules.check_signer(order, self._accounts.get(account).owner_key)
        with self._parts.changing:
            with self._catalog.reading() as db:
                row = self._own(db, account, snapshot)
                newest = catalog.newest_statement(db, StatementKind.FORGET, snapshot.raw)
            if newest is None or newest.encoded != order.encoded:
                rules.check_number(order, newest)
                # The order, then the row. The order's time is the box's own, not the one in it.
                moment = self._parts.moment()
                self._objects.put_statements(account, [order], moment)
                try:
                    with self._catalog.writing() as db:
                        account_rows.write_row(db, order)
                        catalog.set_trashed(db, snapshot, moment if body.forgotten else None)
                        row = self._own(db, account, snapshot)
                except BackitError:
                    self._objects.remove_statements([order])
                    raise
        # One whose body is damaged can be forgotten, too.
        return self.with_body(self.row_of(row))

    def row_of(self, row: SnapshotTable) -> SnapshotRow:
        """Without the sealed body."""
        return self._rows_of([row])[0]

    def _rows_of(self, rows: Sequence[SnapshotTable]) -> list[SnapshotRow]:
        with self._catalog.reading() as db:
            sessions = catalog.sessions_by_id(db, [row.session for row in rows])
            orders = catalog.newest_statements(
                db, StatementKind.FORGET, [row.snapshot for row in rows]
            )
        return [
            self._row_of(row, sessions.get(row.session), orders.get(row.snapshot)) for row in rows
        ]

    def _row_of(
        self, row: SnapshotTable, session: Statement | None, order: Statement | None
    ) -> SnapshotRow:
        purge = None if row.trashed is None else row.trashed + self._parts.settings.trash_seconds
        return SnapshotRow(
            snapshot=SnapshotId(row.snapshot),
            account=AccountId(row.account),
            device=DeviceId(row.device),
            series=SeriesId(row.series),
            counter=row.counter,
            received=row.received,
            header=self.header_of(row),
            receipt=statements.parse(row.receipt),
            session=session,
            order=order,
            trashed=row.trashed is not None,
            purge_time=purge,
        )

    def header_of(self, row: SnapshotTable) -> Statement:
        return statements.parse(row.header)

    def with_body(self, row: SnapshotRow) -> SnapshotRow:
        """The row with its sealed body; without, if that cannot be read: one hides no other."""
        try:
            return self._with_body(row)
        except BackitError as error:
            log.error("%s", error)
            return row

    def _whole(self, row: SnapshotTable) -> SnapshotRow:
        return self._with_body(self.row_of(row))

    def _with_body(self, found: SnapshotRow) -> SnapshotRow:
        body = self._objects.read_body(found.account, found.snapshot)
        fields = snapshot_format.header_body(found.header)
        if primitives.digest(body) != fields.sealed_hash:
            raise Damaged(f"snapshot {found.snapshot}: its sealed body is damaged")
        return dataclasses.replace(found, sealed_body=body)

    def _own(self, db: SqliteDatabase, account: AccountId, snapshot: SnapshotId) -> SnapshotTable:
        """Raises SnapshotNotFound; also for another account's, of which nothing is told."""
        row = _require(catalog.snapshot(db, snapshot), snapshot)
        if row.account != account.raw:
            raise SnapshotNotFound(f"snapshot {snapshot}: no such snapshot")
        return row

    def _check_header(self, lease: Lease, header: Statement, sealed_body: bytes) -> None:
        body = header.body
        if not isinstance(body, pb.SnapshotHeaderBody) or header.account != lease.account:
            raise StatementInvalid("committing: this is no snapshot header of the account")
        device = self._accounts.device(lease.device)
        certificate = None if device is None else device.statement.body
        if not isinstance(certificate, pb.DeviceBody):
            raise NotADevice(f"device {lease.device}: no such device")
        header.verify(certificate.device_key)
        said = (body.device_id, body.series_id, body.session_id, body.domain_id)
        meant = (lease.device.raw, lease.series.raw, lease.session.subject, lease.domain.raw)
        if said != meant:
            raise StatementInvalid("snapshot header: it names another device, series or session")
        if len(sealed_body) > SNAPSHOT_BODY_LIMIT:
            raise Invalid(f"a sealed body of {len(sealed_body)} bytes is too long")
        if primitives.digest(sealed_body) != body.sealed_hash:
            raise StatementInvalid("snapshot header: the sealed body is not the one it names")

    def _check_root(self, lease: Lease, header: Statement) -> None:
        """A live node has a live subtree (rule 1), so the root stands for all of it."""
        root = snapshot_format.header_body(header).root
        index = self._parts.index
        found = index.rows(lease.domain, [root])
        if index.packs_in_doubt(lease.account.raw):
            # Damage was found since: the root may be live for a moment only.
            raise Unavailable("something was damaged, and what rests on it is being looked for")
        if not found or found[0].state is not State.LIVE or found[0].kind is not Kind.NODE:
            text = f"committing a snapshot: its root {root.hex()} is not there"
            raise ReferencesMissing(text, [ChunkId(root)])

    def _receipt(self, header: Statement, snapshot: SnapshotId) -> Statement:
        """The one that a commit which was cut off has left, or a new one."""
        if self._objects.has_receipt(header.account, snapshot):
            return self._objects.read_receipt(header.account, snapshot)
        body = pb.ReceiptBody(
            snapshot_id=snapshot.raw,
            received=self._parts.moment(),
            incarnation_id=self._incarnation.raw,
        )
        return statements.make(StatementKind.RECEIPT, header.account, 1, body, self._receipt_key)


def write_row(db: SqliteDatabase, header: Statement, receipt: Statement) -> None:
    """Remember a snapshot that is durable."""
    fields = snapshot_format.header_body(header)
    if not isinstance(receipt.body, pb.ReceiptBody):
        raise Damaged(f"snapshot {snapshot_format.snapshot_id(header)}: its receipt is none")
    catalog.put_snapshot(
        db,
        {
            "snapshot": header.digest,
            "account": header.account.raw,
            "device": fields.device_id,
            "series": fields.series_id,
            "counter": header.number,
            "session": fields.session_id,
            "received": receipt.body.received,
            "header": header.encoded,
            "receipt": receipt.encoded,
            "trashed": None,
        },
    )


def _check_head(head: SnapshotTable | None, header: Statement) -> None:
    """Compare and swap: the new one must follow the newest of its series."""
    previous = snapshot_format.header_body(header).previous
    expected = (b"", 1) if head is None else (head.snapshot, head.counter + 1)
    if (previous, header.number) != expected:
        known = "none" if head is None else f"number {head.counter}"
        raise HeadMoved(
            f"committing snapshot number {header.number} of a series whose newest is {known}"
        )


def _require(row: SnapshotTable | None, snapshot: SnapshotId) -> SnapshotTable:
    if row is None:
        raise SnapshotNotFound(f"snapshot {snapshot}: no such snapshot")
    return row
