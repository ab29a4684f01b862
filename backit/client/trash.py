"""The trash: signed orders that move a snapshot in and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.errors import Conflict, StatementOutdated
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.v1 import snapshots_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.account import Person
    from backit.ids import SnapshotId

# The appliance does not say how many orders there have been about a snapshot; this many are tried.
ORDERS_MAX = 1000


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
    """Find the number that the next order must have: the appliance refuses every other."""
    body = pb.ForgetBody(snapshot_id=snapshot.raw, forgotten=forgotten, ordered=now)
    for number in range(1, ORDERS_MAX):
        order = statement.make(
            StatementKind.FORGET, person.account, number, body, person.root.owner
        )
        try:
            return send(order)
        except StatementOutdated:
            continue
    raise Conflict(f"snapshot {snapshot}: more than {ORDERS_MAX} orders about it")
