"""What the body of a statement may say: lengths, ranges, known values (FORMAT.md section 3).

Whatever can be seen in one statement alone. Who may say it, and which statement may follow which,
is for others to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.crypto import passphrase, primitives
from backit.errors import StatementInvalid
from backit.format.v1 import statement_pb2 as pb

if TYPE_CHECKING:
    from backit.format.statement import Body

ID, KEY, HASH = 16, primitives.PUBLIC_KEY_BYTES, primitives.HASH_BYTES
WRAPPED = primitives.WRAPPED_KEY_BYTES
TEXT_LIMIT = 64
KEM_SEALED_BOX = 1

# Fields of one length only. Those of a slot, and successions and predecessors, have rules below.
LENGTHS: dict[type[Body], dict[str, int]] = {
    pb.AccountBody: {"owner_key": KEY},
    pb.SlotBody: {"slot_id": ID},
    pb.EpochBody: {"vault_key": KEY, "wrapped_vault_secret": WRAPPED},
    pb.DomainBody: {"domain_id": ID, "wrapped_secret": WRAPPED},
    pb.DeviceBody: {"device_id": ID, "device_key": KEY, "domain_id": ID},
    pb.RevocationBody: {"device_id": ID},
    pb.SessionBody: {
        "session_id": ID,
        "device_id": ID,
        "domain_id": ID,
        "commitment": HASH,
        "sealed_key": primitives.SEALED_KEY_BYTES,
    },
    pb.SnapshotHeaderBody: {
        "device_id": ID,
        "series_id": ID,
        "session_id": ID,
        "domain_id": ID,
        "root": HASH,
        "sealed_hash": HASH,
    },
    pb.ForgetBody: {"snapshot_id": HASH},
    pb.ReceiptBody: {"snapshot_id": HASH, "incarnation_id": ID},
}
# Kinds whose number is always 1.
NUMBERED_ONCE = (pb.RevocationBody, pb.SessionBody, pb.ReceiptBody)


def check(body: Body, number: int) -> None:
    """Raises StatementInvalid, naming the field."""
    for field, length in LENGTHS[type(body)].items():
        _want_length(field, getattr(body, field), length)
    _want("number", number == 1 or not isinstance(body, NUMBERED_ONCE))
    match body:
        case pb.AccountBody():
            _want("user", is_text(body.user) and body.user == body.user.strip())
            _want_length("succession", body.succession, 64 if number > 1 else 0)
        case pb.SlotBody():
            _check_slot(body)
        case pb.EpochBody():
            _want("number", number < 2**32)
        case pb.DeviceBody():
            _want("label", not body.label or is_text(body.label))
            _want("role", body.role in (pb.DEVICE_ROLE_WRITE_ONLY, pb.DEVICE_ROLE_FULL))
        case pb.SessionBody():
            _want("epoch", body.epoch > 0)
            _want("kem", body.kem == KEM_SEALED_BOX)
        case pb.SnapshotHeaderBody():
            _want_length("previous", body.previous, HASH if number > 1 else 0)
        case _:
            pass


def is_text(text: str) -> bool:
    """Whether people can read it on one line: 1 to 64 characters, all printable."""
    return 0 < len(text) <= TEXT_LIMIT and text.isprintable()


def _check_slot(body: pb.SlotBody) -> None:
    if body.removed:
        _want("removed", body == pb.SlotBody(slot_id=body.slot_id, kind=body.kind, removed=True))
        return
    is_password = body.kind == pb.SLOT_KIND_PASSWORD
    is_key_file = body.kind == pb.SLOT_KIND_KEY_FILE
    _want("kind", is_password or is_key_file or body.kind == pb.SLOT_KIND_RECOVERY)
    _want_length("salt", body.salt, passphrase.SALT_BYTES if is_password else 0)
    if is_password:
        low, high = passphrase.FLOOR, passphrase.CEILING
        _want("memory_kib", low.memory_kib <= body.memory_kib <= high.memory_kib)
        _want("passes", low.passes <= body.passes <= high.passes)
    else:
        _want("memory_kib", not body.memory_kib)
        _want("passes", not body.passes)
    _want_length("login_key", body.login_key, KEY)
    _want_length("commitment", body.commitment, HASH)
    _want_length("wrapped_root_key", body.wrapped_root_key, WRAPPED)
    _want_length("device_id", body.device_id, ID if is_key_file else 0)


def _want(field: str, holds: bool) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise StatementInvalid(f"field {field} is wrong")


def _want_length(field: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise StatementInvalid(f"field {field} has {len(value)} bytes, not {length}")
