"""A store with people in it, for the tests of the store: opened, used, closed and opened again."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.crypto.keys import RootKey, succession_message
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backitd.store import FetchState, Store, StoreSettings
from tests.backitd.clocks import FakeClock, FakeRandom
from tests.backitd.people import Machine, Person, Run
from tests.patience import notified, until

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

    from backit.format.statement import Statement
    from backit.ids import ChunkId
    from backitd.store import Clock, Lease, SnapshotRow, Upload
    from backitd.store.files import Disk


# A machine that stands still for a moment ends no pack before it is full.
PATIENT = StoreSettings(idle_seconds=600, age_seconds=600)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk as a client has made it."""

    id: ChunkId
    record: bytes


@dataclass
class Session:
    """A backup that runs: its lease, and what it has sent."""

    box: Box
    machine: Machine
    run: Run
    lease: Lease

    def data(self, content: bytes) -> Chunk:
        return Chunk(*self.run.data(content))

    def node(self, content: bytes, *uses: Chunk) -> Chunk:
        return Chunk(*self.run.node(content, [chunk.id for chunk in uses]))

    def begin_upload(self) -> Upload:
        return self.box.store.upload(self.lease.lease, self.machine.device)

    def upload(self, *chunks: Chunk) -> None:
        """One message each; durable when this returns."""
        upload = self.begin_upload()
        for chunk in chunks:
            upload.put([chunk.record])
        upload.finish()

    def missing(self, *chunks: Chunk) -> list[int]:
        ids = [chunk.id for chunk in chunks]
        return self.box.store.find_missing(self.lease.lease, self.machine.device, ids)

    def commit(self, root: Chunk, previous: Statement | None = None) -> SnapshotRow:
        header, body = self.run.snapshot(root.id, previous)
        return self.box.store.commit(self.lease.lease, self.machine.device, header, body)

    def backup(self, *contents: bytes, previous: Statement | None = None) -> SnapshotRow:
        """A whole backup of these files."""
        chunks = [self.data(content) for content in contents]
        root = self.node(b"root of " + b",".join(contents), *chunks)
        self.upload(*chunks, root)
        return self.commit(root, previous)


@dataclass
class Box:
    """A state folder, with its store open most of the time."""

    state: Path
    clock: Clock = field(default_factory=FakeClock)
    random: FakeRandom = field(default_factory=FakeRandom)
    settings: StoreSettings = field(default_factory=StoreSettings)
    disk: Disk | None = None

    def __post_init__(self) -> None:
        self.store = self._open()

    def _open(self) -> Store:
        return Store.open(
            self.state,
            clock=self.clock,
            random=self.random,
            settings=self.settings,
            disk=self.disk,
        )

    def reopen(self) -> Store:
        self.store.close()
        self.store = self._open()
        return self.store

    def rebuild(self) -> Store:
        self.store.close()
        self.store = Store.rebuild(
            self.state, clock=self.clock, random=self.random, settings=self.settings
        )
        return self.store

    def forward(self, seconds: float) -> None:
        assert isinstance(self.clock, FakeClock)
        self.clock.forward(seconds)

    def person(self, user: str = "anna") -> Person:
        """Somebody who has signed up."""
        person = Person(user, FakeRandom(f"{self.random.seed}/{user}"))
        self.store.create_account(person.account, person.first_statements())
        return person

    def machine(self, person: Person, label: str = "laptop") -> Machine:
        """A device that has been enrolled."""
        machine = person.machine(label)
        self.store.put_statements(person.account, machine.statements())
        return machine

    def session(self, machine: Machine, run: Run | None = None) -> Session:
        """A backup that has begun."""
        run = run or machine.run()
        lease = self.store.create_lease(machine.device, run.series, run.session_statement)
        return Session(self, machine, run, lease)

    def new_session(self, user: str = "anna") -> Session:
        """The first backup of a new person's new machine."""
        return self.session(self.machine(self.person(user)))

    def states(self, machine: Machine, chunks: Iterable[Chunk]) -> list[FetchState]:
        """How each of them can be read; a record that is returned is compared."""
        wanted = {chunk.id: chunk for chunk in chunks}
        found: dict[ChunkId, FetchState] = {}
        for fetched in self.store.read(machine.owner.account, machine.domain, list(wanted)):
            assert fetched.chunk not in found
            found[fetched.chunk] = fetched.state
            expected = wanted[fetched.chunk].record
            assert fetched.record == (expected if fetched.state is FetchState.PRESENT else None)
        return [found[chunk] for chunk in wanted]

    def all_present(self, machine: Machine, chunks: Sequence[Chunk]) -> bool:
        return self.states(machine, chunks) == [FetchState.PRESENT] * len(chunks)

    @property
    def is_settled(self) -> bool:
        """Whether no pack is in doubt; the settler works in a thread of its own."""
        return self.query("index", "SELECT count(*) FROM pack WHERE doubt > 0") == [(0,)]

    def settle(self) -> None:
        """Wait until no pack is in doubt."""
        until(lambda: self.is_settled, "nothing is in doubt")

    def query(self, database: str, *queries: str) -> list[tuple[object, ...]]:
        """Straight from "catalog" or "index", or into it; the rows of the last query."""
        connection = sqlite3.connect(self.state / f"{database}.db", timeout=60)
        try:
            with connection:
                found = [connection.execute(query).fetchall() for query in queries]
        finally:
            connection.close()
        return found[-1]

    def packs(self) -> list[Path]:
        """Oldest first, as far as the file system can tell."""
        found = (self.state / "store/packs").glob("*/*")
        return sorted(found, key=lambda path: path.stat().st_ctime_ns)


@contextmanager
def open_box(
    state: Path,
    *,
    settings: StoreSettings | None = None,
    clock: Clock | None = None,
    disk: Disk | None = None,
) -> Generator[Box]:
    """A box that is closed at the end, whatever happens."""
    random = FakeRandom(state.name)
    box = Box(state, clock or FakeClock(), random, settings or PATIENT, disk)
    try:
        yield box
    finally:
        box.store.close()


def succession(person: Person) -> list[Statement]:
    """A new root key: a new owner key, by the old one's consent, and the slot that opens it."""
    before = person.root.owner
    person.root = RootKey(person.random(32))
    body = pb.AccountBody(user=person.user, owner_key=person.root.owner.public, created=1)
    body.succession = before.sign(succession_message(person.account, 2, body.owner_key))
    account = person.sign(StatementKind.ACCOUNT, 2, body)
    return [account, person.slot_statement(person.slot, person.keys, 2)]


@dataclass
class Listener:
    """Reads an upload's acknowledgements as the daemon does: in a thread of its own."""

    upload: Upload
    numbers: list[int] = field(default_factory=list[int])
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for number in self.upload.acknowledgements():
                with self._changed:
                    self.numbers.append(number)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - the test asks for it
            self.error = error

    def wait_for(self, number: int) -> None:
        """Until that message is acknowledged."""
        with self._changed:
            notified(
                self._changed,
                lambda: bool(self.numbers) and self.numbers[-1] >= number,
                f"message {number} is acknowledged",
            )

    def join(self) -> list[int]:
        until(lambda: not self._thread.is_alive(), "the acknowledgements end")
        self._thread.join()
        return self.numbers
