"""Somebody with a real appliance in this process, a machine that backs up, and keys to read it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.client import ledger as ledgers
from backit.client.backup import Backup, Label, Source
from backit.client.device import DeviceKeys
from backit.client.excludes import Excludes
from backit.client.fetch import ChunkReader
from backit.client.history import History
from backit.client.profile import Address, Profile
from backit.client.remote import Appliance, Credential
from backit.client.vaults import Keyring
from backit.engine.walk import walk
from backit.format.v1 import tree_pb2
from backit.v1 import accounts_pb2, appliance_pb2

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from backit.client.backup import Result
    from backit.client.history import Snapshot
    from backit.client.ledger import Ledger
    from backit.crypto.primitives import Buffer
    from backit.engine.walk import Found
    from backit.errors import BackitError
    from backit.format.statement import Statement
    from backit.ids import ChunkId
    from tests.backitd.daemons import Box
    from tests.backitd.people import Machine, Person


class _Remembering(ChunkReader):
    """Fetches each chunk once: bundles hold many files, and tests look at all of them."""

    _known: dict[ChunkId, Buffer | BackitError]

    def chunks(self, ids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, Buffer | BackitError]]:
        if not hasattr(self, "_known"):
            self._known = {}
        self._known.update(super().chunks([each for each in ids if each not in self._known]))
        return ((each, self._known[each]) for each in ids)


LABEL = Label("laptop", "backit tests", ("first",))


@dataclass
class Household:
    """A person, their machine, and two connections: the machine's and the person's own."""

    person: Person
    machine: Machine
    profile: Profile
    folder: Path
    device: Appliance
    owner: Appliance
    ledger: Ledger = field(init=False)

    def learn(self) -> None:
        """See what the account's owner has signed by now."""
        found = ledgers.parse(ledgers.fetch(self.owner))
        pinned = self.person.root.owner.public
        self.ledger = ledgers.verify(found, pinned, self.person.account)

    @property
    def keys(self) -> DeviceKeys:
        return keys_of(self.machine)

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.person.root, self.ledger)

    @property
    def history(self) -> History:
        return History(self.owner, self.keyring)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def backup(self, *paths: Path, appliance: Appliance | None = None) -> Backup:
        source = Source(tuple(bytes(path) for path in paths), Excludes())
        return Backup(appliance or self.device, self.keys, self.ledger, source, self.cache)

    def save(self, *paths: Path) -> Result:
        return self.backup(*paths).run(LABEL)

    @contextmanager
    def reading(self) -> Generator[ChunkReader]:
        reader = _Remembering(self.owner, self.keyring, self.machine.domain_keys)
        try:
            yield reader
        finally:
            reader.close()

    def everything(self, snapshot: Snapshot) -> list[Found]:
        with self.reading() as reader:
            return list(walk(snapshot.root, reader.load))

    def found(self, snapshot: Snapshot, below: Path) -> dict[str, Found]:
        """Entries below a folder by their path in it."""
        prefix = bytes(below) + b"/"
        return {
            found.path.removeprefix(prefix).decode(): found
            for found in self.everything(snapshot)
            if found.path.startswith(prefix)
        }

    def data_chunks(self, snapshot: Snapshot) -> set[ChunkId]:
        """What its small files lie in."""
        return {
            found.leaf.references[extent.chunk]
            for found in self.everything(snapshot)
            for extent in found.entry.extents
        }

    def contents(self, snapshot: Snapshot, below: Path) -> dict[str, bytes]:
        """Content of each regular file below a folder by its path in it."""
        with self.reading() as reader:
            return {
                path: b"".join(reader.content(found))
                for path, found in self.found(snapshot, below).items()
                if found.entry.type == tree_pb2.FILE_TYPE_REGULAR
            }

    def person_puts(self, *statements: Statement) -> None:
        """Have the appliance take what the person has signed."""
        encoded = [each.encoded for each in statements]
        self.owner.accounts.PutStatements(accounts_pb2.PutStatementsRequest(statements=encoded))

    def latest(self) -> Snapshot:
        return self.history.resolve("latest")


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def keys_of(machine: Machine) -> DeviceKeys:
    owner = machine.owner
    return DeviceKeys(
        machine.device, owner.account, machine.key, machine.domain_keys, owner.root.owner.public
    )


@contextmanager
def household(box: Box, user: str, folder: Path) -> Generator[Household]:
    """Sign somebody up with a machine of theirs."""
    person, client = box.person(user)
    machine, own = box.machine(person, client)
    own.channel.close()
    client.channel.close()
    with connected(box, person, machine, folder) as found:
        yield found


@contextmanager
def connected(box: Box, person: Person, machine: Machine, folder: Path) -> Generator[Household]:
    """Connect somebody who has signed up."""
    about = box.client().appliance.GetAppliance(appliance_pb2.GetApplianceRequest())
    address = Address.parse(box.addresses[0])
    profile = Profile(
        "default", address, about.ca_certificate, about.receipt_key, account=person.account
    )
    login = Credential(person.slot.name, person.keys.login)
    with (
        Appliance.connect(profile, keys_of(machine).credential) as device,
        Appliance.connect(profile, login) as owner,
    ):
        house = Household(person, machine, profile, folder, device, owner)
        house.learn()
        yield house
