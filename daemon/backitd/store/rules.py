"""What a signed statement may say, and which may follow which (FORMAT.md section 3).

Given a statement and what is stored, the functions here return or raise StatementInvalid,
StatementOutdated or LastSlot. No files, no SQL.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from backit.crypto import keys, primitives
from backit.crypto.passphrase import (
    CEILING_MEMORY_KIB,
    CEILING_PASSES,
    FLOOR_MEMORY_KIB,
    FLOOR_PASSES,
    SALT_BYTES,
)
from backit.errors import LastSlot, StatementInvalid, StatementOutdated
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

ID_BYTES = 16
USER_LIMIT = 64
LABEL_LIMIT = 64
KEM_SEALED_BOX = 1
# The kinds an account's person may put, in the order in which they may rely on each other.
OWNED = (
    StatementKind.ACCOUNT,
    StatementKind.SLOT,
    StatementKind.EPOCH,
    StatementKind.DOMAIN,
    StatementKind.DEVICE,
    StatementKind.REVOCATION,
)
# Subjects that may be known to one account only: whoever names another's gets nothing.
EXCLUSIVE = {StatementKind.SLOT, StatementKind.DOMAIN, StatementKind.DEVICE}


def user_key(user: str) -> str:
    """How user names are compared: without case, in NFC."""
    folded = unicodedata.normalize("NFC", user).casefold()
    return unicodedata.normalize("NFC", folded)


def succession_message(statement: Statement, owner_key: bytes) -> bytes:
    """What the previous owner key signs in account statement number n > 1."""
    return keys.succession_message(statement.account, statement.number, owner_key)


def check_form(statement: Statement) -> None:
    """Lengths, ranges, names: what can be seen in it alone. Raises StatementInvalid."""
    body = statement.body
    match body:
        case pb.AccountBody():
            _check_user(body.user)
            _want(len(body.owner_key) == primitives.PUBLIC_KEY_BYTES, statement, "owner key")
            _want(bool(body.succession) == (statement.number > 1), statement, "succession")
        case pb.SlotBody():
            _check_slot(statement, body)
        case pb.EpochBody():
            _want(len(body.vault_key) == primitives.PUBLIC_KEY_BYTES, statement, "vault key")
            _want_wrapped(body.wrapped_vault_secret, statement)
        case pb.DomainBody():
            _want(len(body.domain_id) == ID_BYTES, statement, "domain id")
            _want_wrapped(body.wrapped_secret, statement)
        case pb.DeviceBody():
            _check_device(statement, body)
        case pb.RevocationBody():
            _want(len(body.device_id) == ID_BYTES, statement, "device id")
            _want(statement.number == 1, statement, "number")
        case pb.SessionBody():
            _check_session(statement, body)
        case pb.SnapshotHeaderBody():
            _check_header(statement, body)
        case pb.ForgetBody() | pb.ReceiptBody():
            _want(len(body.snapshot_id) == primitives.HASH_BYTES, statement, "snapshot id")


def check_signer(statement: Statement, owner_key: bytes) -> None:
    """For kinds that the owner signs. Account statements are signed by the key in them."""
    body = statement.body
    statement.verify(body.owner_key if isinstance(body, pb.AccountBody) else owner_key)


def check_succession(statement: Statement, previous_key: bytes) -> None:
    """That the owner before agrees to the owner in this account statement."""
    body = statement.body
    if not isinstance(body, pb.AccountBody):
        raise StatementInvalid(f"{_name(statement)}: not an account statement")
    message = succession_message(statement, body.owner_key)
    if not primitives.verifies(previous_key, message, body.succession):
        raise StatementInvalid(
            f"{_name(statement)}: the succession is not signed by the owner before"
        )


def check_number(statement: Statement, newest: Statement | None) -> None:
    """That it is one above the newest of its subject. Raises StatementOutdated."""
    expected = 1 if newest is None else newest.number + 1
    if statement.number != expected:
        raise StatementOutdated(
            f"{_name(statement)}: number {statement.number}, but the next is {expected}"
        )


def check_slots(slots: Iterable[Statement]) -> None:
    """What must hold of an account's slots, each by its newest statement. Raises LastSlot."""
    live = [s.body for s in slots if isinstance(s.body, pb.SlotBody) and not s.body.removed]
    if not live:
        raise LastSlot("removing a slot: the account would have none left to open it with")
    if sum(body.kind == pb.SLOT_KIND_PASSWORD for body in live) > 1:
        raise StatementInvalid("adding a slot: the account has a password slot already")


def in_order(new: Iterable[Statement]) -> list[Statement]:
    """As they are to be written: what others rely on first, what takes away last.

    So a crash between two of them leaves an account that follows the rules.
    """
    return sorted(new, key=lambda s: (_takes_away(s), OWNED.index(s.kind), s.subject, s.number))


def _takes_away(statement: Statement) -> bool:
    body = statement.body
    return isinstance(body, pb.RevocationBody) or (isinstance(body, pb.SlotBody) and body.removed)


def _check_user(user: str) -> None:
    plain = user == user.strip() and user.isprintable()
    if not 0 < len(user) <= USER_LIMIT or not plain:
        raise StatementInvalid(
            f"account statement: {user[:USER_LIMIT]!r} is no user name: 1 to {USER_LIMIT} "
            "printable characters, no space at either end"
        )


def _check_slot(statement: Statement, body: pb.SlotBody) -> None:
    _want(len(body.slot_id) == ID_BYTES, statement, "slot id")
    if body.removed:
        return
    password = body.kind == pb.SLOT_KIND_PASSWORD
    known = (pb.SLOT_KIND_PASSWORD, pb.SLOT_KIND_RECOVERY, pb.SLOT_KIND_KEY_FILE)
    _want(body.kind in known, statement, "slot kind")
    _want(len(body.salt) == (SALT_BYTES if password else 0), statement, "salt")
    if password:
        memory_fits = FLOOR_MEMORY_KIB <= body.memory_kib <= CEILING_MEMORY_KIB
        _want(memory_fits, statement, "memory_kib")
        _want(FLOOR_PASSES <= body.passes <= CEILING_PASSES, statement, "passes")
    _want(len(body.login_key) == primitives.PUBLIC_KEY_BYTES, statement, "login key")
    _want(len(body.commitment) == primitives.HASH_BYTES, statement, "commitment")
    _want(len(body.device_id) in (0, ID_BYTES), statement, "device id")
    _want_wrapped(body.wrapped_root_key, statement)


def _check_device(statement: Statement, body: pb.DeviceBody) -> None:
    _want(len(body.device_id) == ID_BYTES, statement, "device id")
    _want(len(body.domain_id) == ID_BYTES, statement, "domain id")
    _want(len(body.device_key) == primitives.PUBLIC_KEY_BYTES, statement, "device key")
    roles = (pb.DEVICE_ROLE_WRITE_ONLY, pb.DEVICE_ROLE_FULL)
    _want(body.role in roles, statement, "role")
    _want(len(body.label) <= LABEL_LIMIT and body.label.isprintable(), statement, "label")


def _check_session(statement: Statement, body: pb.SessionBody) -> None:
    _want(statement.number == 1, statement, "number")
    for field, value in (
        ("session id", body.session_id),
        ("device id", body.device_id),
        ("domain id", body.domain_id),
    ):
        _want(len(value) == ID_BYTES, statement, field)
    _want(body.epoch > 0, statement, "epoch")
    _want(body.kem == KEM_SEALED_BOX, statement, "kem")
    _want(len(body.commitment) == primitives.HASH_BYTES, statement, "commitment")
    _want(len(body.sealed_key) == primitives.SEALED_KEY_BYTES, statement, "sealed key")


def _check_header(statement: Statement, body: pb.SnapshotHeaderBody) -> None:
    for field, value in (
        ("device id", body.device_id),
        ("series id", body.series_id),
        ("session id", body.session_id),
        ("domain id", body.domain_id),
    ):
        _want(len(value) == ID_BYTES, statement, field)
    first = primitives.HASH_BYTES if statement.number > 1 else 0
    _want(len(body.previous) == first, statement, "previous")
    _want(len(body.root) == primitives.HASH_BYTES, statement, "root")
    _want(len(body.sealed_hash) == primitives.HASH_BYTES, statement, "sealed hash")


def _want_wrapped(wrapped: bytes, statement: Statement) -> None:
    _want(len(wrapped) == primitives.WRAPPED_KEY_BYTES, statement, "wrapped key")


def _want(holds: bool, statement: Statement, field: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise StatementInvalid(f"{_name(statement)}: the {field} is wrong")


def _name(statement: Statement) -> str:
    subject = f" {statement.subject.hex()}" if statement.subject else ""
    return f"{statement.kind.name.lower()} statement{subject}"
