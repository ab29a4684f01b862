"""Everything in a box's state that is locked, and what a set of keys opens of it.

Uses the project's own cryptography the way a thief who has read the source would.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backit.crypto import primitives
from backit.crypto.keys import VaultKey, WrapContext, open_session_key
from backit.crypto.primitives import Suite
from backit.errors import BackitError
from backit.format import record, snapshot, statement
from backit.format.record import HEAD
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from tests.system.packs import stored_records

# Every purpose that the format derives keys for (FORMAT.md section 4).
LABELS = (
    *("slot login", "slot key", "owner key", "wrap key", "data id", "node id", "content hash"),
    *("node boundary", "chunker seed", "cache key", "slot commitment", "session commitment"),
)


@dataclass(frozen=True)
class Lock:
    """Something sealed: a session's key, a wrapped key, a record or a snapshot's body."""

    kind: str
    name: str
    statement: Statement | None = None
    sealed: bytes = b""

    def opens_with(self, key: bytes) -> bool:
        """Whether these 32 bytes, as they are, open it."""
        try:
            self._open(key)
        except BackitError:
            return False
        return True

    def _open(self, key: bytes) -> None:
        match self.statement.body if self.statement else None:
            case pb.SessionBody() as body:
                open_session_key(VaultKey(1, key), body.sealed_key, body.commitment)
            case pb.SlotBody() as body:
                self._unwrap(key, body.wrapped_root_key, body.slot_id)
            case pb.EpochBody() as body:
                self._unwrap(key, body.wrapped_vault_secret, b"")
            case pb.DomainBody() as body:
                self._unwrap(key, body.wrapped_secret, body.domain_id)
            case pb.SnapshotHeaderBody():
                assert self.statement is not None
                snapshot.open_body(self.statement, self.sealed, key)
            case _:
                self._unseal(key)

    def _unwrap(self, key: bytes, wrapped: bytes, subject: bytes) -> None:
        assert self.statement is not None
        locked = self.statement
        context = WrapContext(locked.account, int(locked.kind), subject, locked.number)
        primitives.unwrap(key, wrapped, context.associated())

    def _unseal(self, key: bytes) -> None:
        header = record.parse(self.sealed)
        start = HEAD.size + header.references * primitives.HASH_BYTES
        body = self.sealed[start : -primitives.HASH_BYTES]
        primitives.unseal(Suite(header.suite), key, header.nonce, body, self.sealed[:start])


def locks_of(state: Path) -> list[Lock]:
    """Everything that is sealed in a state folder."""
    return [*_statements(state), *_bodies(state), *_records(state)]


def _statements(state: Path) -> Iterator[Lock]:
    kinds = (StatementKind.SESSION, StatementKind.SLOT, StatementKind.EPOCH, StatementKind.DOMAIN)
    for file in sorted((state / "store" / "accounts").glob("*/*/*")):
        if file.is_file():
            found = statement.parse(file.read_bytes())
            if found.kind in kinds:
                yield Lock(found.kind.name.lower(), file.name, found)


def _bodies(state: Path) -> Iterator[Lock]:
    for folder in sorted((state / "store" / "accounts").glob("*/snapshots/*")):
        header = statement.parse((folder / "header").read_bytes())
        yield Lock("body", folder.name, header, (folder / "body").read_bytes())


def _records(state: Path) -> Iterator[Lock]:
    for each in stored_records(state):
        place, data = each.place, each.file.read_bytes()
        yield Lock(
            "record", place.chunk.hex, None, data[place.offset : place.offset + place.length]
        )


def opened(locks: Iterable[Lock], keys: Iterable[bytes]) -> set[str]:
    """The kinds of locks that any of these keys opens, itself or by anything derived from it."""
    every = {each for key in keys for each in (key, *(primitives.derive(w, key) for w in LABELS))}
    return {lock.kind for lock in locks if any(lock.opens_with(key) for key in every)}
