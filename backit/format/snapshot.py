"""Snapshots: the sealed body behind a signed header (FORMAT.md sections 3 and 9)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.crypto.primitives import Suite
from backit.errors import Damaged, Invalid
from backit.format import message
from backit.format.magic import SNAPSHOT_BODY_LIMIT, SNAPSHOT_BODY_MIN
from backit.format.padding import padded_length
from backit.format.v1 import statement_pb2 as pb
from backit.ids import SnapshotId

if TYPE_CHECKING:
    from backit.format.statement import Statement
    from backit.ids import AccountId

BODY_LABEL = b"BackIT v1 snapshot body\0"
LENGTH = struct.Struct("<I")
HEAD_BYTES = 1 + primitives.NONCE_BYTES


def snapshot_id(header: Statement) -> SnapshotId:
    """A snapshot's id is the hash of its header statement."""
    return SnapshotId(header.digest)


def header_body(header: Statement) -> pb.SnapshotHeaderBody:
    """The typed body. Raises Invalid for a statement of another kind."""
    if not isinstance(header.body, pb.SnapshotHeaderBody):
        raise Invalid(f"a {header.kind.name.lower()} statement is no snapshot header")
    return header.body


def seal_body(
    body: pb.SnapshotBody, associated: bytes, *, suite: Suite, key: bytes, nonce: bytes
) -> bytes:
    """Seal under the session key; `associated` comes from body_context, `nonce` is 32 random bytes.

    Raises Invalid if it would be too long.
    """
    nonce = primitives.clear_unused(suite, nonce)
    sealed = primitives.seal(suite, key, nonce, _pad(message.encode(body)), associated)
    if HEAD_BYTES + len(sealed) > SNAPSHOT_BODY_LIMIT:
        raise Invalid(
            f"a snapshot body of {len(sealed)} bytes is longer than {SNAPSHOT_BODY_LIMIT}"
        )
    return bytes([suite]) + nonce + sealed


def open_body(header: Statement, sealed: bytes, key: bytes) -> pb.SnapshotBody:
    """Raises Damaged, naming the snapshot, if the body is not the one the header was signed for."""
    fields = header_body(header)
    try:
        return _open(sealed, key, fields, body_context(header.account, fields, header.number))
    except Damaged as error:
        raise Damaged(f"snapshot {snapshot_id(header)}: {error}") from None


def _open(
    sealed: bytes, key: bytes, fields: pb.SnapshotHeaderBody, associated: bytes
) -> pb.SnapshotBody:
    if not HEAD_BYTES < len(sealed) <= SNAPSHOT_BODY_LIMIT:
        raise Damaged(f"a sealed body of {len(sealed)} bytes")
    if primitives.digest(sealed) != fields.sealed_hash:
        raise Damaged("the sealed body does not have the hash in the header")
    if sealed[0] not in set(Suite):
        raise Damaged(f"a sealed body of suite {sealed[0]}")
    suite, nonce = Suite(sealed[0]), sealed[1:HEAD_BYTES]
    if nonce != primitives.clear_unused(suite, nonce):
        raise Damaged("the unused end of the nonce is not zero")
    plain = primitives.unseal(suite, key, nonce, sealed[HEAD_BYTES:], associated)
    return message.decode(pb.SnapshotBody, _unpad(plain))


def _pad(encoded: bytes) -> bytes:
    return (LENGTH.pack(len(encoded)) + encoded).ljust(_padded(len(encoded)), b"\0")


def _unpad(plain: bytes) -> bytes:
    """Raises Damaged unless it is exactly what _pad makes."""
    if len(plain) < LENGTH.size:
        raise Damaged(f"a plain body of {len(plain)} bytes")
    (length,) = LENGTH.unpack_from(plain)
    end = LENGTH.size + length
    if len(plain) != _padded(length) or any(plain[end:]):
        raise Damaged("the padding of the body is not what it has to be")
    return plain[LENGTH.size : end]


def _padded(length: int) -> int:
    return padded_length(max(LENGTH.size + length, SNAPSHOT_BODY_MIN))


def body_context(account: AccountId, fields: pb.SnapshotHeaderBody, counter: int) -> bytes:
    """Associated data: the body opens nowhere but under its own header."""
    head = BODY_LABEL + account.raw + fields.device_id + fields.series_id + fields.session_id
    return head + struct.pack("<Q", counter)
