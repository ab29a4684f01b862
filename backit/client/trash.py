"""The trash: signed orders that move a snapshot in and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.errors import Damaged
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.v1 import snapshots_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.account import Person
    from backit.ids import SnapshotId


def forget(person: Person, snapshot: SnapshotId, *, now: int) -> float | None:
    """Order a snapshot into the trash; says until when it stays there (Unix seconds), if known."""

    def send(order: Statement) -> snapshots_pb2.Snapshot:
        request = snapshots_pb2.DeleteSnapshotRequest(order=order.encoded)
        return person.appliance.snapshots.DeleteSnapshot(request)

    answer = _order(person, snapshot, now, send, forgotten=True)
    return answer.purge_time.seconds if answer.HasField("purge_time") else None


def undelete(person: Person, snapshot: SnapshotId, *, now: int) -> None:
    """Order a snapshot out of the trash."""

    def send(order: Statement) -> snapshots_pb2.Snapshot:
        request = snapshots_pb2.UndeleteSnapshotRequest(order=order.encoded)
        return person.appliance.snapshots.UndeleteSnapshot(request)

    _order(person, snapshot, now, send, forgotten=False)


def _order(
    person: Person,
    snapshot: SnapshotId,
    now: int,
    send: Callable[[Statement], snapshots_pb2.Snapshot],
    *,
    forgotten: bool,
) -> snapshots_pb2.Snapshot:
    """Sign the next order and send it. Raises StatementOutdated if another one came in between."""
    number = _newest(person, snapshot) + 1
    body = pb.ForgetBody(snapshot_id=snapshot.raw, forgotten=forgotten, ordered=now)
    owner = person.root.owner
    return send(statement.make(StatementKind.FORGET, person.account, number, body, owner))


def _newest(person: Person, snapshot: SnapshotId) -> int:
    """The number of the newest order about the snapshot that the appliance shows; 0 without one.

    Raises Damaged for an order that no owner has signed: its number could be any.
    """
    request = snapshots_pb2.GetSnapshotRequest(name=snapshot.name)
    shown = person.appliance.snapshots.GetSnapshot(request).order
    if not shown:
        return 0
    found = statement.parse(shown)
    if (found.kind, found.subject) != (StatementKind.FORGET, snapshot.raw):
        raise Damaged(f"snapshot {snapshot}: the appliance shows another statement as its order")
    person.ledger.check_signed(found)
    return found.number
