"""What goes out: rows of the store into messages. Nothing is decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from backit.v1 import accounts_pb2, devices_pb2, snapshots_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backitd.auth.enrolments import Enrolment
    from backitd.store import AccountRow, DeviceRow, Lease, SnapshotRow

# A page ends here, so that it stays below the limit of a message whatever is on it.
PAGE_BYTES = 4 * 1024 * 1024

T = TypeVar("T")


def moment(seconds: float) -> Timestamp:
    """Unix seconds."""
    stamp = Timestamp()
    stamp.FromMilliseconds(int(seconds * 1000))
    return stamp


def maybe_moment(seconds: float | None) -> Timestamp | None:
    return None if seconds is None else moment(seconds)


def page(items: Iterable[T], size: Callable[[T], int], most: int) -> tuple[list[T], bool]:
    """The first of the items that fit on one page, at least one; and whether there are more."""
    taken: list[T] = []
    total = 0
    for item in items:
        total += size(item)
        if taken and (len(taken) == most or total > PAGE_BYTES):
            return taken, True
        taken.append(item)
    return taken, False


def account(row: AccountRow, principal: str = "") -> accounts_pb2.Account:
    return accounts_pb2.Account(
        name=row.account.name,
        user=row.user,
        principal=principal,
        stored_bytes=row.stored_bytes,
        create_time=moment(row.created),
    )


def device(row: DeviceRow) -> devices_pb2.Device:
    return devices_pb2.Device(
        name=row.device.name,
        statement=row.statement.encoded,
        revocation=b"" if row.revoked is None else row.revoked.encoded,
        last_snapshot_time=maybe_moment(row.last_snapshot),
    )


def enrolment(found: Enrolment) -> devices_pb2.Enrolment:
    approved = bool(found.statements)
    state = (
        devices_pb2.Enrolment.STATE_APPROVED if approved else devices_pb2.Enrolment.STATE_WAITING
    )
    return devices_pb2.Enrolment(
        name=found.id.name,
        label=found.wish.label,
        device_key=found.wish.device_key,
        box_key=found.wish.box_key,
        state=state,
        statements=[one.encoded for one in found.statements],
        sealed_secrets=found.sealed_secrets,
        expire_time=moment(found.expires),
    )


def snapshot(row: SnapshotRow) -> snapshots_pb2.Snapshot:
    kept, trashed = snapshots_pb2.Snapshot.STATE_KEPT, snapshots_pb2.Snapshot.STATE_TRASHED
    return snapshots_pb2.Snapshot(
        name=row.snapshot.name,
        header=row.header.encoded,
        sealed_body=row.sealed_body,
        receipt=row.receipt.encoded,
        session=b"" if row.session is None else row.session.encoded,
        state=trashed if row.trashed else kept,
        purge_time=maybe_moment(row.purge_time),
        order=b"" if row.order is None else row.order.encoded,
    )


def lease(row: Lease) -> snapshots_pb2.Lease:
    return snapshots_pb2.Lease(
        name=row.lease.name,
        expire_time=moment(row.expires),
        head=None if row.head is None else snapshot(row.head),
        other_heads=[header.encoded for header in row.other_heads],
    )
