"""Whose word a statement is, and which may follow which (FORMAT.md section 3).

Given a statement and what is stored, the functions here return or raise StatementInvalid,
StatementOutdated or LastSlot. What can be seen in a statement alone was checked when it was parsed.
No files, no SQL.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from backit.crypto import keys, primitives
from backit.errors import LastSlot, StatementInvalid, StatementOutdated
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def check_signer(statement: Statement, owner_key: bytes) -> None:
    """For kinds that the owner signs. Account statements are signed by the key in them."""
    body = statement.body
    statement.verify(body.owner_key if isinstance(body, pb.AccountBody) else owner_key)


def check_succession(statement: Statement, previous_key: bytes) -> None:
    """That the owner before agrees to the owner in this account statement."""
    body = statement.body
    if not isinstance(body, pb.AccountBody):
        raise StatementInvalid(f"{_name(statement)}: not an account statement")
    message = keys.succession_message(statement.account, statement.number, body.owner_key)
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


def _name(statement: Statement) -> str:
    subject = f" {statement.subject.hex()}" if statement.subject else ""
    return f"{statement.kind.name.lower()} statement{subject}"
