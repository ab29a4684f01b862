"""The account that is mounted: its snapshots, and the chunks below them. Blocks; called in threads.

What is done here is done through backit.client, as restore does it: every plaintext has been opened
with its session's key and has the id that was asked for.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backit.client import account, seen
from backit.client.device import KeyFile
from backit.client.fetch import ChunkReader
from backit.client.history import History
from backit.client.login import KeptLogin
from backit.client.profile import Profile
from backit.client.remote import Appliance
from backit.errors import BackitError, Damaged, LoginNeeded
from backit.format import node
from backit.format.magic import Kind
from backitfs.cache import Brought
from backitfs.catalogue import Listed
from backitfs.view import Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backit.client.account import Person
    from backit.client.history import Snapshot
    from backit.client.home import Home
    from backit.crypto.primitives import Buffer
    from backit.format.record import Plain
    from backit.ids import ChunkId, DomainId
    from backitfs.cache import Fetch

T = TypeVar("T")

log = logging.getLogger(__name__)

# What a decoded node is taken to need, as a multiple of its plaintext: an estimate, not measured.
NODE_COST = 7
# Where a login that was handed over is said to come from, in errors.
HANDED_OVER = Path("/dev/fd")


class Account:
    """An open account, over a connection of its own. Safe to share between threads."""

    def __init__(self, home: Home, profile: Profile, person: Person) -> None:
        self._home = home
        self._profile = profile
        self._lock = threading.Lock()
        self._readers_lock = threading.Lock()
        self._snapshots: dict[str, Snapshot] = {}
        self._broken: set[str] = set()
        self._readers: dict[DomainId, ChunkReader] = {}
        self._retired: list[ChunkReader] = []
        self._history = self._adopt(person)

    @classmethod
    def open(cls, home: Home, name: str, handed: bytes | None, now: int) -> Account:
        """With the login that was handed over, else with the one that was kept, else with a full
        device's key file.

        Raises LoginNeeded if there is none, and what a login raises.
        """
        profile = Profile.load(home, name)
        if handed is not None:
            login: KeptLogin | None = KeptLogin.decode(HANDED_OVER, handed)
        else:
            login = KeptLogin.load(home, name, now)
        appliance = Appliance.connect(profile)
        try:
            if login is not None:
                appliance.login(login.credential)
                person = account.reopen(appliance, login.credential, login.slot, login.root)
            else:
                key_file = _key_file(home, name)
                person = account.open_with(appliance, key_file.credential, key_file.keys)
            return cls(home, profile, person)
        except BaseException:
            appliance.close()
            raise

    def close(self) -> None:
        """Ends what still waits for the appliance; nothing can be read any more."""
        self._person.appliance.logout()
        self._person.appliance.close()
        for reader in [*self._readers.values(), *self._retired]:
            reader.close()

    def resolve(self, name: str) -> Listed:
        """The snapshot that a person means. Raises SnapshotNotFound, Invalid."""
        return _listed(self._history.resolve(name))

    def snapshots(self) -> list[Listed]:
        """Oldest first. One that cannot be opened is logged once and left out."""
        with self._lock:
            found, broken = self._history.readable(known=self._snapshots)
            if {name for name, _error in broken} - self._broken:
                # A device or an epoch that is newer than this login: look at the ledger again.
                self._history = self._adopt(self._reopened())
                found, broken = self._history.readable(known=self._snapshots)
            self._snapshots = {each.id.name: each for each in found}
            for name, error in broken:
                if name not in self._broken:
                    log.warning("snapshot %s is left out: %s", name, error)
            self._broken = {name for name, _error in broken}
            return [_listed(each) for each in found]

    def nodes(self, domain: DomainId) -> Fetch[Opened]:
        """Fetches nodes of a domain, decoded."""
        return lambda chunks: self._fetch(domain, chunks, _opened)

    def data(self, domain: DomainId) -> Fetch[Buffer]:
        """Fetches data chunks of a domain."""
        return lambda chunks: self._fetch(domain, chunks, _plaintext)

    def _fetch(
        self,
        domain: DomainId,
        chunks: Sequence[ChunkId],
        opened: Callable[[ChunkId, Plain], Brought[T]],
    ) -> Iterator[tuple[ChunkId, Brought[T] | BackitError]]:
        for chunk, plain in self._reader(domain).fetch(chunks):
            if isinstance(plain, BackitError):
                yield chunk, plain
                continue
            try:
                yield chunk, opened(chunk, plain)
            except Damaged as error:
                yield chunk, error

    def _reader(self, domain: DomainId) -> ChunkReader:
        with self._readers_lock:
            reader = self._readers.get(domain)
            if reader is None:
                keys = self._keyring.domain(domain)
                reader = ChunkReader(self._person.appliance, self._keyring, keys)
                self._readers[domain] = reader
            return reader

    def _adopt(self, person: Person) -> History:
        """Hold the appliance to what it shows now, and read with the keys there are now."""
        seen.check(self._home, self._profile.name, person.ledger, is_person=True)
        with self._readers_lock:
            self._person, self._keyring = person, person.keyring()
            # Whoever reads with them may go on.
            self._retired += self._readers.values()
            self._readers = {}
            return History(person.appliance, self._keyring)

    def _reopened(self) -> Person:
        old = self._person
        return account.reopen(old.appliance, old.credential, old.slot, old.root)


def _key_file(home: Home, profile: str) -> KeyFile:
    found = KeyFile.load(home, profile)
    if found is None:
        raise LoginNeeded(f"profile {profile!r}: nobody is logged in on this machine")
    return found


def _listed(found: Snapshot) -> Listed:
    return Listed(
        id=found.id,
        device=found.device,
        label=found.label,
        started=found.body.started,
        root=found.root,
        domain=found.domain,
        entries=found.body.totals.entries,
        size=found.body.totals.bytes,
    )


def _opened(chunk: ChunkId, plain: Plain) -> Brought[Opened]:
    return Brought(Opened.of(node.decode(plain, chunk)), NODE_COST * len(plain.plaintext))


def _plaintext(chunk: ChunkId, plain: Plain) -> Brought[Buffer]:
    if plain.kind is not Kind.DATA:
        raise Damaged(f"chunk {chunk}: a node where data should be")
    plaintext = plain.plaintext
    # A view keeps all of the frame, padding too, that it is a part of.
    held = memoryview(plaintext.obj).nbytes if isinstance(plaintext, memoryview) else len(plaintext)
    return Brought(plaintext, held)
