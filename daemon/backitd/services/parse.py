"""What comes in: fields of messages into values, each within its limit.

Raises Invalid and its like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from backit.errors import Invalid, StatementInvalid
from backit.format import statement
from backit.format.statement import StatementKind
from backit.ids import ChunkId, Id

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from backit.format.statement import Statement
    from backit.ids import AccountId

LONGEST_NAME = 64
MOST_ON_A_PAGE = 1000
MOST_CHUNKS = 8192
MOST_STATEMENTS = 1000
MOST_STATEMENT_BYTES = 4 * 1024 * 1024
OWNED_KINDS = frozenset(StatementKind(kind) for kind in range(1, 7))

N = TypeVar("N", bound=Id)


def resource(kind: type[N], name: str) -> N:
    """An id from its resource name, in exactly the form that we write."""
    found = kind.from_name(name)
    if found.name != name:
        raise Invalid(f"{name[:80]!r} is not how {found.name} is written")
    return found


def exactly(data: bytes, length: int, what: str) -> bytes:
    if len(data) != length:
        raise Invalid(f"the {what} has {len(data)} bytes instead of {length}")
    return data


def at_most(data: bytes, length: int, what: str) -> bytes:
    if len(data) > length:
        raise Invalid(f"the {what} has {len(data)} bytes; {length} are allowed")
    return data


def text(value: str, what: str) -> str:
    """Something that people read: 1 to 64 characters, all printable."""
    if not 0 < len(value) <= LONGEST_NAME or not value.isprintable():
        raise Invalid(f"the {what} has to have 1 to {LONGEST_NAME} printable characters")
    return value


def page_size(asked: int) -> int:
    if asked < 0:
        raise Invalid(f"a page of {asked}")
    return min(asked or MOST_ON_A_PAGE, MOST_ON_A_PAGE)


def ids(kind: type[N], raw: Collection[bytes], most: int) -> list[N]:
    if len(raw) > most:
        raise Invalid(f"{len(raw)} ids in one call; {most} are allowed")
    return [kind(one) for one in raw]


def chunks(raw: Collection[bytes]) -> list[ChunkId]:
    return ids(ChunkId, raw, MOST_CHUNKS)


def distinct(found: list[ChunkId]) -> list[ChunkId]:
    if len(set(found)) != len(found):
        raise Invalid("the same chunk id twice in one call")
    return found


def one_statement(encoded: bytes, kind: StatementKind, account: AccountId) -> Statement:
    """A statement of this kind about this account; who signed it is for the store to check."""
    parsed = statement.parse(encoded)
    if parsed.kind is not kind:
        raise StatementInvalid(
            f"a {parsed.kind.name.lower()} statement where a {kind.name.lower()} statement belongs"
        )
    return _about(parsed, account)


def owned_statements(
    encoded: Sequence[bytes], account: AccountId, most: int = MOST_STATEMENTS
) -> list[Statement]:
    """Statements of the kinds that an owner makes, about this account."""
    if not 0 < len(encoded) <= most:
        raise Invalid(f"{len(encoded)} statements in one call; 1 to {most} are allowed")
    size = sum(len(one) for one in encoded)
    if size > MOST_STATEMENT_BYTES:
        raise Invalid(f"{size} bytes of statements in one call; {MOST_STATEMENT_BYTES} are allowed")
    parsed = [_about(statement.parse(one), account) for one in encoded]
    for one in parsed:
        if one.kind not in OWNED_KINDS:
            raise StatementInvalid(f"a {one.kind.name.lower()} statement is not put this way")
    return parsed


def _about(parsed: Statement, account: AccountId) -> Statement:
    if parsed.account != account:
        raise StatementInvalid(f"a {parsed.kind.name.lower()} statement about another account")
    return parsed
