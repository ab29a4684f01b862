"""Which method is whose: the one table. What is not in it is not served.

No checks here: `guard` asks, `principals` narrows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Right(Enum):
    """Who may call."""

    ANYONE = auto()  # no login
    LOGIN = auto()  # the person or a device
    PERSON = auto()
    DEVICE = auto()
    ADMIN = auto()  # whoever may open the admin socket; not there on any other


class Pool(Enum):
    """Whose threads serve it; none can use up another's."""

    STRANGERS = auto()  # callers without a login cannot keep those with one waiting
    CONTROL = auto()  # short answers
    LOOKUP = auto()  # short answers in bulk; a backup asks while its stream is open
    STREAM = auto()  # one thread for as long as the stream lives


@dataclass(frozen=True, slots=True)
class Rule:
    """How one method is served. `limited`: counts against the caller's address."""

    right: Right
    pool: Pool
    limited: bool = False


STRANGER = Rule(Right.ANYONE, Pool.STRANGERS)
GUESS = Rule(Right.ANYONE, Pool.STRANGERS, limited=True)
LOGIN = Rule(Right.LOGIN, Pool.CONTROL)
PERSON = Rule(Right.PERSON, Pool.CONTROL)
DEVICE = Rule(Right.DEVICE, Pool.CONTROL)
ADMIN = Rule(Right.ADMIN, Pool.CONTROL)

RULES: Mapping[str, Rule] = {
    "/backit.v1.AccountService/CreateAccount": GUESS,
    "/backit.v1.AccountService/CreateChallenge": GUESS,
    "/backit.v1.AccountService/Login": GUESS,
    "/backit.v1.AccountService/Logout": LOGIN,
    "/backit.v1.AccountService/GetAccount": LOGIN,
    "/backit.v1.AccountService/ListStatements": LOGIN,
    "/backit.v1.AccountService/PutStatements": PERSON,
    "/backit.v1.DeviceService/CreateEnrolment": GUESS,
    "/backit.v1.DeviceService/GetEnrolment": GUESS,
    "/backit.v1.DeviceService/ListEnrolments": PERSON,
    "/backit.v1.DeviceService/ApproveEnrolment": PERSON,
    "/backit.v1.DeviceService/ListDevices": LOGIN,
    "/backit.v1.ChunkService/FindMissing": Rule(Right.DEVICE, Pool.LOOKUP),
    "/backit.v1.ChunkService/Upload": Rule(Right.DEVICE, Pool.STREAM),
    "/backit.v1.ChunkService/Download": Rule(Right.PERSON, Pool.STREAM),
    "/backit.v1.ChunkService/FindLost": Rule(Right.PERSON, Pool.LOOKUP),
    "/backit.v1.ChunkService/GetSessions": Rule(Right.PERSON, Pool.LOOKUP),
    "/backit.v1.SnapshotService/CreateLease": DEVICE,
    "/backit.v1.SnapshotService/RenewLease": DEVICE,
    "/backit.v1.SnapshotService/DeleteLease": DEVICE,
    "/backit.v1.SnapshotService/CommitSnapshot": DEVICE,
    "/backit.v1.SnapshotService/ListSnapshots": LOGIN,
    "/backit.v1.SnapshotService/GetSnapshot": LOGIN,
    "/backit.v1.SnapshotService/DeleteSnapshot": PERSON,
    "/backit.v1.SnapshotService/UndeleteSnapshot": PERSON,
    "/backit.v1.ApplianceService/GetAppliance": STRANGER,
    "/backit.v1.ApplianceService/GetStatus": LOGIN,
    "/backit.v1.AdminService/CreateInvite": ADMIN,
    "/grpc.health.v1.Health/Check": STRANGER,
    # A watcher keeps a thread, so strangers only ask; clients take UNIMPLEMENTED for "healthy".
    "/grpc.health.v1.Health/Watch": Rule(Right.ADMIN, Pool.STREAM),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(
        Right.ADMIN, Pool.STREAM
    ),
}
