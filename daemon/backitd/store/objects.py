"""The named objects of FORMAT.md section 9, all but packs: statements, sessions, snapshots.

Puts them under their names, reads them, lists them. What they may say is `rules`' business, and who
remembers them `catalog`'s: a row may be lost, an object may not.
"""

from __future__ import annotations

import logging
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.errors import BackitError, Damaged, Invalid, StatementInvalid, Unsupported
from backit.format import statement as statements
from backit.format.statement import Statement, StatementKind
from backit.ids import AccountId, IncarnationId, SessionId, SnapshotId
from backitd.store.files import LOSSES, create_all, failure, make_folders, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeVar

    from backitd.store.files import Disk

    T = TypeVar("T")

log = logging.getLogger(__name__)

FORMAT = 1
MARKER = "store"
# Kinds that are files of their own in statements/, by the word in their name.
WORDS = {
    StatementKind.ACCOUNT: "account",
    StatementKind.SLOT: "slot",
    StatementKind.EPOCH: "epoch",
    StatementKind.DOMAIN: "domain",
    StatementKind.DEVICE: "device",
    StatementKind.REVOCATION: "revocation",
    StatementKind.FORGET: "forget",
}


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """What is stored of a snapshot, the sealed body left out."""

    snapshot: SnapshotId
    header: Statement
    receipt: Statement


def file_name(statement: Statement) -> str:
    """`<kind>-<subject>-<number>`."""
    return f"{WORDS[statement.kind]}-{statement.subject.hex() or '0'}-{statement.number}"


class Objects:
    """STATE/store, packs left out."""

    def __init__(self, disk: Disk, root: Path) -> None:
        self._disk = disk
        self.root = root
        self._accounts = root / "accounts"

    # The store itself

    def incarnation(self) -> IncarnationId | None:
        """None where nothing has ever been stored. Raises Unsupported or Damaged."""
        try:
            data, _moment = self._disk.read_file(self.root / MARKER)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error, "reading the store's marker") from error
        try:
            fields = tomllib.loads(data.decode())
            if fields["format"] != FORMAT:
                raise Unsupported(
                    f"store of format {fields['format']}; this program knows {FORMAT}"
                )
            return IncarnationId.from_hex(fields["incarnation"])
        except (ValueError, KeyError, TypeError, Invalid) as error:
            raise Damaged(f"the store's marker {self.root / MARKER} is damaged: {error}") from None

    def create(self, incarnation: IncarnationId, moment: int) -> None:
        """The empty store; the marker comes last, so a store that has one has all its folders."""
        make_folders(self._disk, self.root.parent, [self.root.name])
        make_folders(self._disk, self.root, ["accounts"])
        marker = f'format = {FORMAT}\nincarnation = "{incarnation}"\n'
        create_all(self._disk, [(self.root / MARKER, marker.encode())], moment)

    # Accounts

    def create_account(self, account: AccountId) -> None:
        """The account's folders. It exists once its account statement does."""
        for part in ("statements", "sessions", "snapshots"):
            make_folders(self._disk, self._accounts, [account.hex, part])

    def accounts(self) -> list[AccountId]:
        return _ids(AccountId, self._listing(self._accounts), "accounts")

    # Statements

    def put_statements(self, account: AccountId, new: Sequence[Statement], moment: int) -> None:
        """Durable when this returns; after a crash a prefix is. `moment` becomes their time."""
        folder = self._accounts / account.hex / "statements"
        create_all(self._disk, [(folder / file_name(s), s.encoded) for s in new], moment)

    def remove_statements(self, old: Sequence[Statement]) -> None:
        """Unlink what durable newer ones have replaced, or what was refused after all."""
        for statement in old:
            folder = self._accounts / statement.account.hex / "statements"
            self._remove(folder / file_name(statement))

    def statement_names(self, account: AccountId) -> list[str]:
        folder = self._accounts / account.hex / "statements"
        sweep(self._disk, folder)
        return self._listing(folder)

    def read_statement(self, account: AccountId, name: str) -> tuple[Statement, int]:
        """The statement of that file name, and when it was stored (Unix seconds).

        Raises Damaged, also if it is not the one that its name promises.
        """
        data, moment = self._read(self._accounts / account.hex / "statements" / name)
        statement = _parse(data, f"statement {name} of account {account}")
        if (
            statement.account != account
            or statement.kind not in WORDS
            or file_name(statement) != name
        ):
            raise Damaged(
                f"statement {name} of account {account}: the file holds another statement"
            )
        return statement, moment

    # Sessions

    def put_session(self, session: Statement, moment: int) -> None:
        """A session statement, under its account."""
        folder = self._accounts / session.account.hex / "sessions"
        create_all(self._disk, [(folder / session.subject.hex(), session.encoded)], moment)

    def sessions(self, account: AccountId) -> list[SessionId]:
        folder = self._accounts / account.hex / "sessions"
        sweep(self._disk, folder)
        return _ids(SessionId, self._listing(folder), f"sessions of account {account}")

    def read_session(self, account: AccountId, session: SessionId) -> Statement:
        """Raises Damaged, also if the file holds another session."""
        data, _moment = self._read(self._accounts / account.hex / "sessions" / session.hex)
        statement = _parse(data, f"session {session} of account {account}")
        right = (StatementKind.SESSION, account, session.raw)
        if (statement.kind, statement.account, statement.subject) != right:
            raise Damaged(f"session {session} of account {account}: the file holds something else")
        return statement

    # Snapshots

    def put_snapshot(
        self, snapshot: SnapshotId, header: Statement, sealed_body: bytes, moment: int
    ) -> None:
        """Header and body. The snapshot does not exist before its receipt does."""
        folder = self._accounts / header.account.hex / "snapshots"
        folder = make_folders(self._disk, folder, [snapshot.hex])
        files = [(folder / "header", header.encoded), (folder / "body", sealed_body)]
        create_all(self._disk, files, moment)

    def put_header(self, snapshot: SnapshotId, header: Statement, moment: int) -> None:
        """The header of a snapshot whose files were lost."""
        folder = self._accounts / header.account.hex / "snapshots"
        folder = make_folders(self._disk, folder, [snapshot.hex])
        create_all(self._disk, [(folder / "header", header.encoded)], moment)

    def put_receipt(self, snapshot: SnapshotId, receipt: Statement, moment: int) -> None:
        """Makes the snapshot exist; header and body are durable."""
        folder = self._accounts / receipt.account.hex / "snapshots" / snapshot.hex
        create_all(self._disk, [(folder / "receipt", receipt.encoded)], moment)

    def remove_receipt(self, receipt: Statement) -> None:
        """Take back a commit of which nobody was told."""
        folder = self._accounts / receipt.account.hex / "snapshots"
        self._remove(folder / receipt.subject.hex() / "receipt")

    def snapshots(self, account: AccountId) -> list[SnapshotId]:
        """Those that exist, and those whose commit was cut off: has_receipt knows which."""
        folder = self._accounts / account.hex / "snapshots"
        return _ids(SnapshotId, self._listing(folder), f"snapshots of account {account}")

    def has_receipt(self, account: AccountId, snapshot: SnapshotId) -> bool:
        folder = self._accounts / account.hex / "snapshots" / snapshot.hex
        sweep(self._disk, folder)
        return "receipt" in self._listing(folder)

    def read_receipt(self, account: AccountId, snapshot: SnapshotId) -> Statement:
        """Raises Damaged."""
        folder = self._accounts / account.hex / "snapshots" / snapshot.hex
        data, _moment = self._read(folder / "receipt")
        receipt = _parse(data, f"receipt of snapshot {snapshot}")
        right = (StatementKind.RECEIPT, account, snapshot.raw)
        if (receipt.kind, receipt.account, receipt.subject) != right:
            raise Damaged(f"receipt of snapshot {snapshot}: the file holds something else")
        return receipt

    def read_snapshot(self, account: AccountId, snapshot: SnapshotId) -> StoredSnapshot:
        """Raises Damaged, also if the header is not the one that the id promises."""
        folder = self._accounts / account.hex / "snapshots" / snapshot.hex
        data, _moment = self._read(folder / "header")
        header = _parse(data, f"header of snapshot {snapshot}")
        right = (StatementKind.SNAPSHOT, account, snapshot.raw)
        if (header.kind, header.account, header.digest) != right:
            raise Damaged(f"header of snapshot {snapshot}: the file holds something else")
        return StoredSnapshot(snapshot, header, self.read_receipt(account, snapshot))

    def read_body(self, account: AccountId, snapshot: SnapshotId) -> bytes:
        """The sealed body as it lies there; the header holds its hash."""
        folder = self._accounts / account.hex / "snapshots" / snapshot.hex
        return self._read(folder / "body")[0]

    def _read(self, name: Path) -> tuple[bytes, int]:
        try:
            return self._disk.read_file(name)
        except OSError as error:
            what = name.relative_to(self.root)
            if error.errno in LOSSES:
                raise Damaged(f"{what} cannot be read: {error.strerror}") from error
            raise failure(error, f"reading {what}") from error

    def _remove(self, name: Path) -> None:
        """Never the caller's failure: what is left over is seen again at the next start."""
        try:
            self._disk.remove(name)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("removing %s failed: %s", name, error)  # noqa: TRY400 - the cause is logged

    def _listing(self, folder: Path) -> list[str]:
        try:
            return self._disk.names(folder)
        except OSError as error:
            raise failure(error, f"listing {folder.relative_to(self.root)}") from error


def _parse(data: bytes, what: str) -> Statement:
    try:
        return statements.parse(data)
    except (StatementInvalid, Invalid) as error:
        raise Damaged(f"{what}: {error}") from None


def _ids(make: Callable[[bytes], T], names: list[str], what: str) -> list[T]:
    return list(_readable(make, names, what))


def _readable(make: Callable[[bytes], T], names: list[str], what: str) -> Iterator[T]:
    """Ids from file names; others are somebody else's files, to be named and left alone."""
    for name in names:
        try:
            raw = bytes.fromhex(name)
            if raw.hex() != name:
                raise Invalid("not in lower case")
            yield make(raw)
        except (ValueError, BackitError):
            log.warning("%s: %r is no name of ours", what, name)
