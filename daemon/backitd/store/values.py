"""Values that cross the border of the store: what it needs from outside, and what it answers.

Plain frozen data. No files, no SQL, no threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from backit.format.magic import MIB, PACK_TARGET
from backit.ids import SessionId

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.format.statement import Statement
    from backit.ids import (
        AccountId,
        ChunkId,
        DeviceId,
        DomainId,
        LeaseId,
        SeriesId,
        SnapshotId,
    )

    # Gives that many random bytes.
    Random = Callable[[int], bytes]

DAY = 24 * 3600


class Clock(Protocol):
    """Where the store gets the time from."""

    def now(self) -> float:
        """Unix seconds; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What an administrator may turn, and tests do."""

    # A pack ends when it has this many bytes,
    pack_bytes: int = PACK_TARGET
    # or nothing has come for so long,
    idle_seconds: float = 2.0
    # or its first record has waited so long: bounds what a killed daemon loses of a slow upload.
    age_seconds: float = 30.0
    # Bytes of one stream that may wait for its writer.
    queue_bytes: int = 24 * MIB
    # A lease ends without a sign of life for this long,
    lease_seconds: float = 600.0
    # and at this age in any case.
    lease_age_seconds: float = 7.0 * DAY
    # After this much silence the same device may take the series over with a new lease.
    takeover_seconds: float = 60.0
    # Bytes that an account may store; 0 is as much as there is room for.
    quota_bytes: int = 0
    # How long a snapshot stays in the trash at least.
    trash_seconds: int = 30 * DAY


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account. `created` in Unix seconds by the box's clock."""

    account: AccountId
    user: str
    owner_key: bytes
    created: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device with its newest certificate. `last_snapshot`: when it was received."""

    device: DeviceId
    account: AccountId
    domain: DomainId
    statement: Statement
    revoked: Statement | None
    last_snapshot: int | None


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot. `sealed_body` is empty in lists; `purge_time` (Unix seconds) is set in the trash.

    `session` is None where the key packet was lost: the snapshot is listed, and opens no more.
    """

    snapshot: SnapshotId
    account: AccountId
    device: DeviceId
    series: SeriesId
    counter: int
    received: int
    header: Statement
    receipt: Statement
    session: Statement | None
    # The newest order about it.
    order: Statement | None
    trashed: bool
    purge_time: int | None
    sealed_body: bytes = b""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make one snapshot of one series. `expires` in Unix seconds, unless renewed."""

    lease: LeaseId
    account: AccountId
    device: DeviceId
    series: SeriesId
    domain: DomainId
    session: Statement
    generation: int
    expires: float
    # The series' newest snapshot when the lease began: what the backup may rely on.
    base: SnapshotId | None
    # The series' newest snapshot now, and the newest header of every other series of the account.
    head: SnapshotRow | None
    other_heads: tuple[Statement, ...]

    @property
    def session_id(self) -> SessionId:
        """The session whose records an upload under this lease carries."""
        return SessionId(self.session.subject)


class FetchState(Enum):
    """Whether a chunk could be read."""

    PRESENT = "present"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Fetched:
    """One chunk's record, checked, or why there is none."""

    chunk: ChunkId
    record: bytes | None
    state: FetchState


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account uses, and how the disk stands. `free_bytes` is less the reserve; without a
    quota `quota_bytes` is 0.
    """

    stored_bytes: int
    quota_bytes: int
    snapshots: int
    chunks: int
    last_snapshot: int | None
    free_bytes: int
    disk_bytes: int
