"""Slots: the ways to open an account. Makes their statements and opens the root key in them.

Parameters of the password's stretching come from the appliance, so they are believed only above the
floor (backit.crypto.passphrase), and only if the slot's commitment names them too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.crypto import passphrase, primitives
from backit.crypto.keys import RootKey, SlotKeys, WrapContext
from backit.errors import WrongKey
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DeviceId, SlotId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backit.crypto.passphrase import Cost

SECRET_BYTES = 32
RECOVERY_LABEL = "recovery slot id"


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A slot to be made: what opens it, and what its statement says of that."""

    slot: SlotId
    kind: pb.SlotKind.ValueType
    keys: SlotKeys
    salt: bytes = b""
    cost: Cost | None = None
    device: DeviceId | None = None


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A slot that has been opened."""

    slot: SlotId
    kind: pb.SlotKind.ValueType
    root: RootKey = field(repr=False)


def password_slot(password: str, slot: SlotId, cost: Cost = passphrase.STANDARD) -> NewSlot:
    """Stretch a password with a fresh salt; takes about half a second."""
    salt = os.urandom(passphrase.SALT_BYTES)
    keys = SlotKeys(passphrase.stretch(password, salt, cost))
    return NewSlot(slot, pb.SLOT_KIND_PASSWORD, keys, salt, cost)


def recovery_slot(secret: bytes) -> NewSlot:
    return NewSlot(recovery_id(secret), pb.SLOT_KIND_RECOVERY, SlotKeys(secret))


def recovery_id(secret: bytes) -> SlotId:
    """The id of a kit's slot follows from its secret, so that nobody has to type it as well."""
    return SlotId(primitives.derive(RECOVERY_LABEL, secret)[: SlotId.LENGTH])


def key_file_slot(device: DeviceId) -> NewSlot:
    """A full device's own slot, with a fresh secret."""
    keys = SlotKeys(os.urandom(SECRET_BYTES))
    return NewSlot(new_id(), pb.SLOT_KIND_KEY_FILE, keys, device=device)


def new_id() -> SlotId:
    return SlotId(os.urandom(SlotId.LENGTH))


def make(new: NewSlot, account: AccountId, root: RootKey, number: int) -> Statement:
    """The slot's statement: the root key wrapped in it, signed by the owner."""
    memory_kib, passes = (new.cost.memory_kib, new.cost.passes) if new.cost else (0, 0)
    context = WrapContext(account, StatementKind.SLOT, new.slot.raw, number)
    nonce = os.urandom(primitives.WRAP_NONCE_BYTES)
    body = pb.SlotBody(
        slot_id=new.slot.raw,
        kind=new.kind,
        salt=new.salt,
        memory_kib=memory_kib,
        passes=passes,
        login_key=new.keys.login.public,
        commitment=new.keys.commitment(new.salt, memory_kib, passes),
        wrapped_root_key=primitives.wrap(new.keys.key, nonce, root.secret, context.associated()),
        device_id=new.device.raw if new.device else b"",
    )
    return statement.make(StatementKind.SLOT, account, number, body, root.owner)


def remove(slot: SlotId, account: AccountId, root: RootKey, number: int) -> Statement:
    """The statement that a slot is gone."""
    body = pb.SlotBody(slot_id=slot.raw, removed=True)
    return statement.make(StatementKind.SLOT, account, number, body, root.owner)


def unlock(statements: Iterable[Statement], keys: SlotKeys) -> OpenSlot:
    """Open the account's slot that commits to these keys.

    The statements need not have been verified: what comes out says which owner must have signed
    them. Raises WrongKey if no slot commits to these keys or theirs does not open.
    """
    for each in statements:
        body = each.body
        if not isinstance(body, pb.SlotBody) or body.removed:
            continue
        expected = keys.commitment(body.salt, body.memory_kib, body.passes)
        if not primitives.equal(expected, body.commitment):
            continue
        context = WrapContext(each.account, StatementKind.SLOT, body.slot_id, each.number)
        secret = primitives.unwrap(keys.key, body.wrapped_root_key, context.associated())
        return OpenSlot(SlotId(body.slot_id), body.kind, RootKey(secret))
    raise WrongKey("none of the account's slots opens with this key")
