"""Leases: the right to make one snapshot of one series, while the device shows signs of life.

A lease is a row and nothing more: at start all are dropped, and their devices take new ones. Times
are monotonic. What is uploaded under a lease is `uploads`' business, what it ends with is
`snapshots`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.errors import (
    BackitError,
    DeviceRevoked,
    LeaseEnded,
    NotADevice,
    SeriesBusy,
    StatementInvalid,
)
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DeviceId, DomainId, LeaseId, SeriesId, SnapshotId
from backitd.store import catalog
from backitd.store.values import Lease

if TYPE_CHECKING:
    from peewee import SqliteDatabase

    from backitd.store.accounts import Accounts
    from backitd.store.parts import Parts
    from backitd.store.snapshots import Snapshots
    from backitd.store.tables import LeaseTable
    from backitd.store.values import DeviceRow

# A sign of life is written down at most this often; a lease may so end this much early.
NOTE_SECONDS = 5.0


class Leases:
    """All leases. New ones are made by one thread at a time, under the change lock."""

    def __init__(self, parts: Parts, accounts: Accounts, snapshots: Snapshots) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._clock = parts.clock
        self._settings = parts.settings
        self._accounts = accounts
        self._snapshots = snapshots

    def create(self, device: DeviceId, series: SeriesId, session: Statement) -> Lease:
        """The session's key packet is durable when this returns.

        Raises NotADevice, DeviceRevoked, StatementInvalid or SeriesBusy.
        """
        with self._parts.changing:
            row = self._accounts.device(device)
            if row is None:
                raise NotADevice(f"device {device}: no such device")
            self._check_session(row, session)
            now = self._clock.monotonic()
            with self._catalog.reading() as db:
                self._check_free(db, device, series, now)
                head = catalog.head(db, device, series)
            # The packet first: no record is taken whose key could be lost. Then its row, then the
            # lease.
            self._parts.objects.put_session(session, self._parts.moment())
            lease = LeaseId(self._parts.random(LeaseId.LENGTH))
            generation = self._parts.index.next_generation()
            with self._catalog.writing() as db:
                catalog.put_session(db, session)
                old = catalog.lease_of_series(db, device, series)
                if old is not None:
                    catalog.remove_lease(db, old.lease)
                catalog.put_lease(
                    db,
                    {
                        "lease": lease.raw,
                        "account": row.account.raw,
                        "device": device.raw,
                        "series": series.raw,
                        "domain": row.domain.raw,
                        "session": session.subject,
                        "base": None if head is None else head.snapshot,
                        "generation": generation,
                        "created": now,
                        "seen": now,
                    },
                )
        return self.require(lease, device)

    def renew(self, lease: LeaseId, device: DeviceId) -> Lease:
        """Raises LeaseEnded."""
        self._see(self._row(lease, device), at_once=True)
        return self.require(lease, device)

    def touch(self, lease: LeaseId, device: DeviceId) -> DomainId:
        """A sign of life that something else gives; the domain of the lease. Raises LeaseEnded."""
        row = self._row(lease, device)
        self._see(row, at_once=False)
        return DomainId(row.domain)

    def delete(self, lease: LeaseId, device: DeviceId) -> None:
        """Raises LeaseEnded."""
        self._row(lease, device)
        with self._catalog.writing() as db:
            catalog.remove_lease(db, lease.raw)

    def require(self, lease: LeaseId, device: DeviceId) -> Lease:
        """The lease with the heads as they are now. Raises LeaseEnded."""
        row = self._row(lease, device)
        with self._catalog.reading() as db:
            session = catalog.session(db, row.session)
            heads = catalog.heads(db, AccountId(row.account))
        if session is None:
            raise BackitError(f"lease {lease}: its session {row.session.hex()} has no row")
        mine = (row.device, row.series)
        own = [head for head in heads if (head.device, head.series) == mine]
        others = [self._snapshots.header_of(head) for head in heads if head not in own]
        return Lease(
            lease=lease,
            account=AccountId(row.account),
            device=device,
            series=SeriesId(row.series),
            domain=DomainId(row.domain),
            session=session,
            generation=row.generation,
            expires=self._clock.now() + self._end(row) - self._clock.monotonic(),
            base=None if row.base is None else SnapshotId(row.base),
            head=self._snapshots.row_of(own[-1]) if own else None,
            other_heads=tuple(others),
        )

    def _row(self, lease: LeaseId, device: DeviceId) -> LeaseTable:
        """Raises LeaseEnded; also for somebody else's, of which nothing is told."""
        with self._catalog.reading() as db:
            row = catalog.lease(db, lease)
        if row is None or row.device != device.raw or self._end(row) <= self._clock.monotonic():
            raise LeaseEnded(f"lease {lease}: it has ended")
        return row

    def _end(self, row: LeaseTable) -> float:
        settings = self._settings
        return min(row.seen + settings.lease_seconds, row.created + settings.lease_age_seconds)

    def _see(self, row: LeaseTable, *, at_once: bool) -> None:
        now = self._clock.monotonic()
        if at_once or now - row.seen >= NOTE_SECONDS:
            with self._catalog.writing() as db:
                catalog.set_seen(db, row.lease, now)

    def _check_free(
        self, db: SqliteDatabase, device: DeviceId, series: SeriesId, now: float
    ) -> None:
        """A client that was killed must not lock itself out: silence frees the series."""
        old = catalog.lease_of_series(db, device, series)
        if old is None or self._end(old) <= now:
            return
        if now - old.seen < self._settings.takeover_seconds:
            raise SeriesBusy(f"series {series}: another backup of it is running")

    def _check_session(self, device: DeviceRow, session: Statement) -> None:
        if device.revoked is not None:
            raise DeviceRevoked(f"device {device.device}: it was revoked")
        body = session.body
        if not isinstance(body, pb.SessionBody) or session.account != device.account:
            raise StatementInvalid(
                "beginning a backup: this is no session statement of the account"
            )
        certificate = device.statement.body
        if not isinstance(certificate, pb.DeviceBody):
            raise BackitError(f"device {device.device}: its row holds another statement")
        session.verify(certificate.device_key)
        if (body.device_id, body.domain_id) != (device.device.raw, device.domain.raw):
            raise StatementInvalid("session statement: it names another device or domain")
        with self._catalog.reading() as db:
            known = catalog.session(db, session.subject)
            owned = catalog.statements_of(db, device.account)
        epochs = {s.number for s in owned if s.kind is StatementKind.EPOCH}
        if body.epoch not in epochs:
            raise StatementInvalid(f"session statement: the account has no epoch {body.epoch}")
        if known is not None and known.encoded != session.encoded:
            raise StatementInvalid(f"session {session.subject.hex()}: the id is taken")
