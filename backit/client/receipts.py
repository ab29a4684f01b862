"""Receipts: the appliance's signed word on when it took a snapshot, checked by the pinned key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.errors import BackitError
from backit.format import statement
from backit.format.statement import StatementKind

if TYPE_CHECKING:
    from backit.ids import SnapshotId


def attests(pinned: bytes, receipt: bytes, snapshot: SnapshotId) -> bool:
    """Whether this is a receipt for the snapshot by the pinned key; without one, all are believed.

    What is no statement at all attests nothing.
    """
    if not pinned:
        return True
    try:
        found = statement.parse(receipt)
        found.verify(pinned)
    except BackitError:
        return False
    return (found.kind, found.subject) == (StatementKind.RECEIPT, snapshot.raw)
