"""Every error that BackIT raises on purpose.

    BackitError
    ├── Invalid                 the caller asked for something malformed
    │   ├── StatementInvalid        a signed statement that may not say what it says
    │   └── RecordInvalid           a record that lies about itself
    ├── Damaged                 bytes are not what they were when they were written
    ├── WrongKey                bytes are fine, but this key does not open them
    ├── Unsupported             a format or program version this program does not know
    ├── Refused                 who asks may not
    │   ├── LoginNeeded
    │   ├── LoginRefused
    │   ├── TooManyAttempts
    │   ├── TooManyEnrolments
    │   ├── NotTheOwner
    │   ├── NotADevice
    │   ├── DeviceRevoked
    │   ├── InviteNeeded
    │   └── Untrusted               a peer that is not the one that was pinned
    ├── NotFound                no such account, device, path
    │   ├── SnapshotNotFound
    │   └── EnrolmentNotFound
    ├── Conflict                somebody else was first; try again from a fresh look
    │   ├── AlreadyExists
    │   ├── StatementOutdated
    │   ├── LastSlot
    │   ├── LeaseEnded
    │   ├── SeriesBusy
    │   ├── HeadMoved
    │   └── ReferencesMissing       carries the ids to send again
    ├── NoSpace                 the appliance's disk or the quota is full
    │   └── QuotaExceeded
    ├── TargetFull              what a restore fills takes no more
    ├── Unavailable             the appliance is out of reach, or stopped answering
    └── Internal                the other side failed; its log says why

`reason` is the name in google.rpc.ErrorInfo (protos/backit/v1/errors.proto, without "REASON_").
Texts are lower case, say what was being done, to what, and why it failed; what to do next is the
command line's business. No advice here, no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.ids import ChunkId


class BackitError(Exception):
    """What every error here is."""

    reason: ClassVar[str] = "INTERNAL"


class Invalid(BackitError):
    """A request that no state of the world would make right."""

    reason = "REQUEST_INVALID"


class StatementInvalid(Invalid):
    """Does not decode, is not signed by who must sign it, or says what it may not."""

    reason = "STATEMENT_INVALID"


class RecordInvalid(Invalid):
    """A record that is damaged or lies about its id, domain, session or length."""

    reason = "RECORD_INVALID"


class Damaged(BackitError):
    """Stored bytes fail their hash, their seal or their format."""

    reason = "STORE_DAMAGED"


class WrongKey(BackitError):
    """A password, kit or key file that opens nothing, or a key that is not the committed one."""

    reason = "WRONG_KEY"


class Unsupported(BackitError):
    """A version that this program does not know."""

    reason = "VERSION_UNSUPPORTED"


class Refused(BackitError):
    """Who asks may not."""

    reason = "REFUSED"


class LoginNeeded(Refused):
    """No token, or one that has ended."""

    reason = "LOGIN_NEEDED"


class LoginRefused(Refused):
    """Unknown name, wrong password and stale challenge alike."""

    reason = "LOGIN_REFUSED"


class TooManyAttempts(Refused):
    """Logins or enrolments come faster than they are allowed to."""

    reason = "TOO_MANY_LOGINS"


class TooManyEnrolments(Refused):
    """Too many machines wait to be enrolled."""

    reason = "TOO_MANY_ENROLMENTS"


class NotTheOwner(Refused):
    """Only the person may do this, and a device asked."""

    reason = "NOT_THE_OWNER"


class NotADevice(Refused):
    """Only a device may do this, and a person asked."""

    reason = "NOT_A_DEVICE"


class DeviceRevoked(Refused):
    """The owner has revoked this device."""

    reason = "DEVICE_REVOKED"


class InviteNeeded(Refused):
    """Signing up needs an invite, and this is none."""

    reason = "INVITE_NEEDED"


class Untrusted(Refused):
    """The peer is not the one that was pinned."""

    reason = "UNTRUSTED"


class NotFound(BackitError):
    """No such thing."""

    reason = "NOT_FOUND"


class SnapshotNotFound(NotFound):
    """No such snapshot in this account."""

    reason = "SNAPSHOT_NOT_FOUND"


class EnrolmentNotFound(NotFound):
    """No such enrolment, or it has ended."""

    reason = "ENROLMENT_NOT_FOUND"


class Conflict(BackitError):
    """The world has moved on since the caller looked."""

    reason = "CONFLICT"


class AlreadyExists(Conflict):
    """The name is taken."""

    reason = "USER_EXISTS"


class StatementOutdated(Conflict):
    """A statement's number is not one above the newest."""

    reason = "STATEMENT_OUTDATED"


class LastSlot(Conflict):
    """Nothing would be left to open the account with."""

    reason = "LAST_SLOT"


class LeaseEnded(Conflict):
    """The backup took too long between two signs of life."""

    reason = "LEASE_ENDED"


class SeriesBusy(Conflict):
    """Another backup of the same paths on the same device is running."""

    reason = "SERIES_BUSY"


class HeadMoved(Conflict):
    """The snapshot does not follow the newest one of its series."""

    reason = "HEAD_MOVED"


class ReferencesMissing(Conflict):
    """Chunks that were relied on are not live; they must be sent again."""

    reason = "REFERENCES_MISSING"

    def __init__(self, message: str, missing: Sequence[ChunkId] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class NoSpace(BackitError):
    """The appliance's disk is full up to its reserve."""

    reason = "DISK_FULL"


class QuotaExceeded(NoSpace):
    """The account's quota is used up."""

    reason = "QUOTA_EXCEEDED"


class TargetFull(BackitError):
    """The file system that a restore writes to, or somebody's quota there, is full."""

    reason = "TARGET_FULL"


class Unavailable(BackitError):
    """The appliance is out of reach, or stopped answering."""

    reason = "UNAVAILABLE"


class Internal(BackitError):
    """The other side failed; its log says why."""

    reason = "INTERNAL"
