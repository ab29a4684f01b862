"""The store as the rest of the daemon sees it: opens the parts, closes them, passes calls on.

Logic lives in the parts. One process at a time has a store open.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Self

from backit.errors import BackitError, LeaseEnded
from backitd.store import catalog, opening
from backitd.store.accounts import Accounts
from backitd.store.catalog import Catalog
from backitd.store.distrust import Distrust
from backitd.store.fetch import Reader
from backitd.store.files import Disk
from backitd.store.index import ChunkIndex
from backitd.store.journal import Journal
from backitd.store.leases import Leases
from backitd.store.objects import Objects
from backitd.store.packs import Packs
from backitd.store.parts import Parts
from backitd.store.quota import Quota
from backitd.store.settle import Settler
from backitd.store.snapshots import Snapshots
from backitd.store.space import Space
from backitd.store.takein import TakeIn
from backitd.store.uploads import Upload
from backitd.store.values import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backit.format.statement import Statement
    from backit.ids import (
        AccountId,
        ChunkId,
        DeviceId,
        DomainId,
        IncarnationId,
        LeaseId,
        SeriesId,
        SessionId,
        SlotId,
        SnapshotId,
    )
    from backitd.store.values import (
        AccountRow,
        Clock,
        DeviceRow,
        Fetched,
        Lease,
        Random,
        SnapshotRow,
        StoreSettings,
    )

log = logging.getLogger(__name__)


class Store:
    """Everything durable."""

    # Of this life of the store; a restored or copied one gets another.
    incarnation: IncarnationId
    # Ed25519 public key that signs receipts.
    receipt_key: bytes

    def __init__(
        self, state: Path, *, clock: Clock, random: Random, settings: StoreSettings, disk: Disk
    ) -> None:
        """Use `open`."""
        root = state / opening.STORE
        objects, packs = Objects(disk, root), Packs(disk, root)
        moment = int(clock.now())
        first = opening.begin_store(state, objects, packs, random, moment=moment)
        self.incarnation = opening.incarnation_of(state, disk, first)
        key = opening.load_receipt_key(state, disk, random, moment=moment)
        self.receipt_key = key.public
        journal = Journal(disk, state)
        found = opening.open_cache(state / opening.CATALOG, Catalog, first)
        try:
            index = opening.open_cache(state / opening.INDEX, ChunkIndex, first)
        except BaseException:
            found.close()
            raise
        self._parts = Parts(
            objects=objects,
            journal=journal,
            packs=packs,
            space=Space(disk, root),
            quota=Quota(settings.quota_bytes, index.stored_bytes),
            catalog=found,
            index=index,
            changing=threading.Lock(),
            clock=clock,
            random=random,
            settings=settings,
        )
        self._settler = Settler(packs, index)
        self._distrust = Distrust(packs, found, index)
        self._reader = Reader(packs, index, self._settler.ask)
        self._accounts = Accounts(self._parts)
        self._snapshots = Snapshots(
            self._parts,
            self._accounts,
            self._settler,
            receipt_key=key,
            incarnation=self.incarnation,
        )
        self._leases = Leases(self._parts, self._accounts, self._snapshots)
        self._uploads: set[Upload] = set()
        self._uploads_lock = threading.Lock()
        self._locked: int | None = None

    @classmethod
    def open(
        cls,
        state: Path,
        *,
        clock: Clock,
        random: Random,
        settings: StoreSettings,
        disk: Disk | None = None,
    ) -> Self:
        """Open the store in `state`, or begin one; takes in what its databases do not know.

        Raises Unavailable if it is open already, Damaged if its files are not there, Unsupported if
        a newer program has written it, NoSpace or Internal. Another `disk` is for tests.
        """
        disk = disk or Disk()
        locked = opening.lock_state(state, disk)
        try:
            store = cls(state, clock=clock, random=random, settings=settings, disk=disk)
        except BaseException:
            os.close(locked)
            raise
        store._locked = locked
        try:
            store._take_in()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def rebuild(cls, state: Path, *, clock: Clock, random: Random, settings: StoreSettings) -> Self:
        """Delete both databases and make them again from the objects. Raises as `open` does."""
        locked = opening.lock_state(state, Disk())
        try:
            opening.forget_caches(state)
        finally:
            os.close(locked)
        return cls.open(state, clock=clock, random=random, settings=settings)

    def close(self) -> None:
        """Ends what runs, keeping what is whole of it, and closes the databases."""
        if self._locked is None:
            return
        with self._uploads_lock:
            uploads = list(self._uploads)
        for upload in uploads:
            upload.abort()
        self._settler.stop()
        try:
            self._parts.index.close()
            self._parts.catalog.close()
        finally:
            os.close(self._locked)
            self._locked = None

    def _take_in(self) -> None:
        """Before anything is served."""
        TakeIn(self._parts, self._settler).run()
        self._settler.start()

    def _upload_ended(self, upload: Upload) -> None:
        with self._uploads_lock:
            self._uploads.discard(upload)
        self._rest()

    def _rest(self) -> None:
        """A box at rest holds its databases once: their logs would stay until the next upload."""
        if self._uploads:
            return
        try:
            self._parts.index.empty_log()
            self._parts.catalog.empty_log()
        except BackitError as error:
            log.warning("the databases' logs stay until the next upload ends: %s", error)

    # Accounts and statements

    def create_account(self, account: AccountId, statements: Sequence[Statement]) -> AccountRow:
        """Raises AlreadyExists or StatementInvalid. Idempotent for equal statements."""
        self._accounts.create(account, statements)
        return self._accounts.get(account)

    def has_accounts(self) -> bool:
        """Whether anybody has signed up."""
        return self._accounts.has_any()

    def find_user(self, user: str) -> AccountRow | None:
        """Without regard to case; in any Unicode form."""
        return self._accounts.find_user(user)

    def account(self, account: AccountId) -> AccountRow:
        """Raises NotFound."""
        return self._accounts.get(account)

    def put_statements(self, account: AccountId, statements: Sequence[Statement]) -> None:
        """All or none, durable when this returns; those that are there already are fine.

        Raises NotFound, StatementInvalid, StatementOutdated, LastSlot or AlreadyExists.
        """
        self._accounts.put(account, statements)
        if self._distrust.apply(account):
            self._settler.ask()

    def statements(self, account: AccountId) -> list[Statement]:
        """The newest of each subject, kinds 1 to 6, and every epoch. Raises NotFound."""
        return self._accounts.statements(account)

    def slot(self, slot: SlotId) -> tuple[AccountId, Statement] | None:
        """None also when removed."""
        return self._accounts.slot(slot)

    def password_slot(self, account: AccountId) -> Statement | None:
        """Raises NotFound."""
        return self._accounts.password_slot(account)

    def device(self, device: DeviceId) -> DeviceRow | None:
        return self._accounts.device(device)

    def devices(self, account: AccountId) -> list[DeviceRow]:
        """Revoked ones included. Raises NotFound."""
        return self._accounts.devices(account)

    # Leases

    def create_lease(self, device: DeviceId, series: SeriesId, session: Statement) -> Lease:
        """The key packet is durable when this returns.

        Raises NotADevice, DeviceRevoked, StatementInvalid or SeriesBusy.
        """
        return self._leases.create(device, series, session)

    def renew_lease(self, lease: LeaseId, device: DeviceId) -> Lease:
        """Raises LeaseEnded."""
        return self._leases.renew(lease, device)

    def delete_lease(self, lease: LeaseId, device: DeviceId) -> None:
        """Raises LeaseEnded."""
        self._leases.delete(lease, device)

    # Chunks

    def find_missing(
        self, lease: LeaseId, device: DeviceId, chunks: Sequence[ChunkId]
    ) -> list[int]:
        """Positions of those that are not live. Raises LeaseEnded."""
        domain = self._leases.touch(lease, device)
        live = self._parts.index.live(domain, [chunk.raw for chunk in chunks])
        return [at for at, chunk in enumerate(chunks) if chunk.raw not in live]

    def find_lost(
        self, account: AccountId, domain: DomainId, chunks: Sequence[ChunkId]
    ) -> list[int]:
        """Positions of those that a domain of the account cannot give."""
        index = self._parts.index
        there: set[bytes] = set()
        if index.account_of(domain) == account.raw:
            there = index.readable(domain, [chunk.raw for chunk in chunks])
        return [at for at, chunk in enumerate(chunks) if chunk.raw not in there]

    def upload(self, lease: LeaseId, device: DeviceId) -> Upload:
        """Raises LeaseEnded."""
        found = self._leases.require(lease, device)
        upload = Upload(
            self._parts,
            found,
            touch=lambda: self._leases.touch(lease, device),
            on_doubt=self._settler.ask,
            on_end=self._upload_ended,
        )
        with self._uploads_lock:
            self._uploads.add(upload)
        upload.start()
        return upload

    def read(
        self, account: AccountId, domain: DomainId, chunks: Sequence[ChunkId]
    ) -> Iterator[Fetched]:
        """Each chunk once, in disk order. Raises Unavailable or Internal."""
        return self._reader.read(account, domain, chunks)

    def sessions(self, account: AccountId, sessions: Sequence[SessionId]) -> list[bytes]:
        """Encoded session statements; unknown ones are left out."""
        with self._parts.catalog.reading() as db:
            return catalog.sessions(db, account, sessions)

    # Snapshots

    def commit(
        self, lease: LeaseId, device: DeviceId, header: Statement, sealed_body: bytes
    ) -> SnapshotRow:
        """Durable when this returns. The same header again answers the same snapshot.

        Raises LeaseEnded, StatementInvalid, HeadMoved, ReferencesMissing or Unavailable.
        """
        try:
            held = self._leases.require(lease, device)
        except LeaseEnded:
            # Only looked for now: whoever sent the same before us may have ended it a moment ago.
            committed = self._snapshots.find_committed(device, header)
            if committed is None:
                raise
            return committed
        committed = self._snapshots.commit(held, header, sealed_body)
        self._rest()
        return committed

    def snapshots(
        self, account: AccountId, *, trashed: bool, after: str, limit: int
    ) -> list[SnapshotRow]:
        """Oldest first, without sealed bodies; `after` is the id of the last one seen, or empty."""
        return self._snapshots.page(account, trashed=trashed, after=after, limit=limit)

    def with_body(self, row: SnapshotRow) -> SnapshotRow:
        """A listed row with its sealed body, or without if that is damaged (the log says so)."""
        return self._snapshots.with_body(row)

    def snapshot(self, account: AccountId, snapshot: SnapshotId) -> SnapshotRow:
        """With its sealed body. Raises SnapshotNotFound or Damaged."""
        return self._snapshots.get(account, snapshot)

    def forget(self, account: AccountId, order: Statement) -> SnapshotRow:
        """Into the trash or out of it.

        Raises StatementInvalid, StatementOutdated or SnapshotNotFound.
        """
        return self._snapshots.forget(account, order)

    def usage(self, account: AccountId) -> Usage:
        """What the account uses, and how the disk stands."""
        total, free = self._parts.space.stand()
        with self._parts.catalog.reading() as db:
            count = catalog.count_snapshots(db, account)
            last = catalog.last_received(db, account)
        return Usage(
            stored_bytes=self._parts.index.stored_bytes(account),
            quota_bytes=self._parts.quota.limit,
            snapshots=count,
            chunks=self._parts.index.count_chunks(account),
            last_snapshot=last,
            free_bytes=free,
            disk_bytes=total,
        )
