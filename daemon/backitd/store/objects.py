"""The named objects of FORMAT.md section 9, all but packs: statements, sessions, snapshots.

Puts them under their names, reads them, lists them. What they may say is `rules`' business, and who
remembers them `catalog`'s: a row may be lost, an object may not.
"""

from __future__ import annotations

import logging
import tomllib
from collections import Counter
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
# Every statement is a file in both: what was signed once is needed for ever, and is nowhere else.
PLACES = ("statements", "copies")
# Kinds that are files of their own there, by the word in their name.
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
class StoredStatement:
    """The files of one name. `versions`: what can be read of them, and when it was stored (Unix
    seconds); several if they differ, of which at most one is what was signed.
    """

    name: str
    versions: tuple[tuple[Statement, int], ...]

    @property
    def is_whole(self) -> bool:
        """Both files are there, and the same."""
        return [s.encoded for s, _moment in self.versions] == [self.statement.encoded] * len(PLACES)

    @property
    def statement(self) -> Statement:
        """One of them: kind, subject and number are those of the name in all."""
        return self.versions[0][0]


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
        for part in (*PLACES, "sessions", "snapshots"):
            make_folders(self._disk, self._accounts, [account.hex, part])

    def accounts(self) -> list[AccountId]:
        return _ids(AccountId, self._listing(self._accounts), "accounts")

    # Statements

    def put_statements(self, account: AccountId, new: Sequence[Statement], moment: int) -> None:
        """Durable when this returns; after a crash a prefix is. `moment` becomes their time."""
        files = [(path, s.encoded) for s in new for path in self._files(account, file_name(s))]
        create_all(self._disk, files, moment)

    def mend_statement(self, statement: Statement, moment: int) -> None:
        """Make its files what they were; `moment` becomes their time if none tells an earlier."""
        files = self._files(statement.account, file_name(statement))
        self.create_account(statement.account)
        for path in files:
            try:
                data, stored = self._disk.read_file(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in LOSSES:
                    raise failure(error, f"reading {path.relative_to(self.root)}") from error
                data, stored = b"", moment
            if data == statement.encoded:
                moment = min(moment, stored)
            else:
                log.error("%s was damaged; written again", path.relative_to(self.root))
                self._remove(path)
        create_all(self._disk, [(path, statement.encoded) for path in files], moment)

    def remove_statements(self, old: Sequence[Statement]) -> None:
        """Unlink what durable newer ones have replaced, or what was refused after all."""
        for statement in old:
            for path in self._files(statement.account, file_name(statement)):
                self._remove(path)

    def statement_names(self, account: AccountId) -> dict[str, int]:
        """The names, and how many files there are of each."""
        found: Counter[str] = Counter()
        for place in PLACES:
            folder = self._accounts / account.hex / place
            sweep(self._disk, folder)
            found.update(self._listing(folder))
        return found

    def read_statement(self, account: AccountId, name: str) -> StoredStatement:
        """The statement of that file name, in each version that there is.

        Raises Damaged if none of the files holds a statement that its name promises.
        """
        found: list[tuple[Statement, int]] = []
        wrong: list[str] = []
        for path in self._files(account, name):
            try:
                found.append(self._read_statement(account, path))
            except (Damaged, Unsupported) as error:
                wrong.append(str(error))
        if not found:
            raise Damaged("; ".join(wrong))
        return StoredStatement(name, tuple(found))

    def _read_statement(self, account: AccountId, path: Path) -> tuple[Statement, int]:
        data, moment = self._read(path)
        what = f"{path.parent.name}/{path.name} of account {account}"
        statement = _parse(data, what)
        promised = statement.account == account and statement.kind in WORDS
        if not promised or file_name(statement) != path.name:
            raise Damaged(f"{what}: the file holds another statement")
        return statement, moment

    def _files(self, account: AccountId, name: str) -> list[Path]:
        return [self._accounts / account.hex / place / name for place in PLACES]

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
            log.error("removing %s failed: %s", name, error)

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
