"""Statements: whatever is true because somebody signed it (FORMAT.md section 3).

A `Statement`, made or parsed, is sound in form, its body too (bodies.py). Who signed a parsed one
is not known yet: call `verify` with the key that the caller trusts. Which statement supersedes
which is the caller's to decide, by `number`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import Damaged, StatementInvalid, Unsupported
from backit.format import bodies, message
from backit.format.magic import STATEMENT_LIMIT, STATEMENT_MAGIC, VERSION
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.crypto.keys import SigningKey

HEAD = struct.Struct("<4sBBH16sQI")
SIGNED_LABEL = b"BackIT v1 statement\0"
BYTES_MIN = HEAD.size + primitives.SIGNATURE_BYTES

Body = (
    pb.AccountBody
    | pb.SlotBody
    | pb.EpochBody
    | pb.DomainBody
    | pb.DeviceBody
    | pb.RevocationBody
    | pb.SessionBody
    | pb.SnapshotHeaderBody
    | pb.ForgetBody
    | pb.ReceiptBody
)


class StatementKind(IntEnum):
    """What a statement speaks of."""

    ACCOUNT = 1
    SLOT = 2
    EPOCH = 3
    DOMAIN = 4
    DEVICE = 5
    REVOCATION = 6
    SESSION = 7
    SNAPSHOT = 8
    FORGET = 9
    RECEIPT = 10


BODIES: dict[StatementKind, Callable[[], Body]] = {
    StatementKind.ACCOUNT: pb.AccountBody,
    StatementKind.SLOT: pb.SlotBody,
    StatementKind.EPOCH: pb.EpochBody,
    StatementKind.DOMAIN: pb.DomainBody,
    StatementKind.DEVICE: pb.DeviceBody,
    StatementKind.REVOCATION: pb.RevocationBody,
    StatementKind.SESSION: pb.SessionBody,
    StatementKind.SNAPSHOT: pb.SnapshotHeaderBody,
    StatementKind.FORGET: pb.ForgetBody,
    StatementKind.RECEIPT: pb.ReceiptBody,
}


# The field that says what a statement is about; kinds that are not here speak of the account.
SUBJECTS = {
    StatementKind.SLOT: "slot_id",
    StatementKind.DOMAIN: "domain_id",
    StatementKind.DEVICE: "device_id",
    StatementKind.REVOCATION: "device_id",
    StatementKind.SESSION: "session_id",
    StatementKind.SNAPSHOT: "series_id",
    StatementKind.FORGET: "snapshot_id",
    StatementKind.RECEIPT: "snapshot_id",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, as it stands in `encoded`."""

    kind: StatementKind
    account: AccountId
    number: int
    body: Body
    encoded: bytes

    @property
    def subject(self) -> bytes:
        """What it is about (FORMAT.md section 3); empty where that is the account."""
        field = SUBJECTS.get(self.kind)
        return b"" if field is None else bytes(getattr(self.body, field))

    @property
    def digest(self) -> bytes:
        """Hash of the whole; of a snapshot header this is the snapshot's id."""
        return primitives.digest(self.encoded)

    def verify(self, public_key: bytes) -> None:
        """Raises StatementInvalid unless the owner of `public_key` signed it."""
        signature = self.encoded[-primitives.SIGNATURE_BYTES :]
        signed = SIGNED_LABEL + self.encoded[: -primitives.SIGNATURE_BYTES]
        if not primitives.verifies(public_key, signed, signature):
            name = self.kind.name.lower()
            raise StatementInvalid(f"{name} statement: the signature is not by the key expected")


def make(
    kind: StatementKind, account: AccountId, number: int, body: Body, signer: SigningKey
) -> Statement:
    """Sign a statement. Raises StatementInvalid for one that nobody would take."""
    try:
        bodies.check(body, number)
    except StatementInvalid as error:
        raise StatementInvalid(f"{kind.name.lower()} statement: {error}") from None
    payload = message.encode(body)
    head = HEAD.pack(STATEMENT_MAGIC, VERSION, kind, 0, account.raw, number, len(payload))
    signature = signer.sign(SIGNED_LABEL + head + payload)
    return Statement(kind, account, number, body, head + payload + signature)


def parse(encoded: bytes) -> Statement:
    """Raises StatementInvalid for anything malformed, Unsupported for another version."""
    if not BYTES_MIN <= len(encoded) <= STATEMENT_LIMIT:
        raise StatementInvalid(f"a statement of {len(encoded)} bytes")
    magic, version, kind_number, zero, account, number, length = HEAD.unpack_from(encoded)
    if magic != STATEMENT_MAGIC:
        raise StatementInvalid("not a statement: wrong magic number")
    if version != VERSION:
        raise Unsupported(f"statement of version {version}; this program knows {VERSION}")
    if kind_number not in BODIES:
        raise StatementInvalid(f"statement of unknown kind {kind_number}")
    if zero or not number or BYTES_MIN + length != len(encoded):
        raise StatementInvalid("statement with a wrong length, number or reserved field")
    kind = StatementKind(kind_number)
    try:
        body = message.decode(BODIES[kind], encoded[HEAD.size : HEAD.size + length])
        bodies.check(body, number)
    except (Damaged, StatementInvalid) as error:
        raise StatementInvalid(f"{kind.name.lower()} statement: {error}") from None
    return Statement(kind, AccountId(account), number, body, encoded)
