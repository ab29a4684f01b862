"""Ids: small frozen values that know what they name. Nothing else lives here.

An id is never passed as bare bytes. Text form is lower-case hexadecimal; resource names are
"collection/hex" (protos/backit/v1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from backit.errors import Invalid


@dataclass(frozen=True, slots=True, order=True)
class Id:
    """Bytes of a fixed length that name one thing."""

    raw: bytes

    LENGTH: ClassVar[int] = 16
    COLLECTION: ClassVar[str] = "things"

    def __post_init__(self) -> None:
        if len(self.raw) != self.LENGTH:
            msg = f"{type(self).__name__} needs {self.LENGTH} bytes, not {len(self.raw)}"
            raise Invalid(msg)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Read the text form, and no other way to write it. Raises Invalid."""
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if raw.hex() != text:
            raise Invalid(f"{cls.__name__}: {text[:80]!r} is not lower-case hexadecimal")
        return cls(raw)

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Read a resource name such as "devices/0123…". Raises Invalid."""
        collection, _, text = name.partition("/")
        if collection != cls.COLLECTION:
            raise Invalid(f"{name[:80]!r} does not name one of {cls.COLLECTION}/")
        return cls.from_hex(text)

    @property
    def hex(self) -> str:
        return self.raw.hex()

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.COLLECTION}/{self.raw.hex()}"

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.raw.hex()})"


class AccountId(Id):
    """One person's account."""

    __slots__ = ()
    COLLECTION = "accounts"


class DeviceId(Id):
    """One machine of an account."""

    __slots__ = ()
    COLLECTION = "devices"


class DomainId(Id):
    """Devices that deduplicate against each other."""

    __slots__ = ()
    COLLECTION = "domains"


class SessionId(Id):
    """One backup run, and the key of its records."""

    __slots__ = ()
    COLLECTION = "sessions"


class SeriesId(Id):
    """One set of sources on one device."""

    __slots__ = ()
    COLLECTION = "series"


class SlotId(Id):
    """One way to open an account."""

    __slots__ = ()
    COLLECTION = "slots"


class LeaseId(Id):
    """The right to make one snapshot."""

    __slots__ = ()
    COLLECTION = "leases"


class EnrolmentId(Id):
    """A machine that waits to become a device; becomes its DeviceId."""

    __slots__ = ()
    COLLECTION = "enrolments"


class IncarnationId(Id):
    """One life of a store; a copy or a restored store gets another."""

    __slots__ = ()
    COLLECTION = "incarnations"


class ChunkId(Id):
    """Keyed hash of a chunk's plaintext."""

    __slots__ = ()
    LENGTH = 32
    COLLECTION = "chunks"


class SnapshotId(Id):
    """Hash of a snapshot's signed header."""

    __slots__ = ()
    LENGTH = 32
    COLLECTION = "snapshots"


class PackName(Id):
    """Hash of a pack."""

    __slots__ = ()
    LENGTH = 32
    COLLECTION = "packs"
