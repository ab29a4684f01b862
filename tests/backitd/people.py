"""People and machines with real keys, who sign what the daemon checks. Nothing here talks to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.crypto.keys import (
    DomainKeys,
    RootKey,
    SigningKey,
    SlotKeys,
    VaultKey,
    WrapContext,
    session_commitment,
)
from backit.crypto.primitives import Suite
from backit.format import record, snapshot, statement
from backit.format.compression import Compressor
from backit.format.record import Seal
from backit.format.statement import Body, Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, ChunkId, DeviceId, DomainId, SeriesId, SessionId, SlotId
from tests.backitd.clocks import FakeRandom

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = Suite.XCHACHA20_POLY1305


@dataclass
class Person:
    """Somebody with an account. The password slot's secret is random: nothing here is stretched."""

    user: str
    random: FakeRandom = field(default_factory=FakeRandom)
    memory_kib: int = 64 * 1024
    passes: int = 3

    def __post_init__(self) -> None:
        self.random = FakeRandom(f"{self.random.seed}/{self.user}")
        self.account = AccountId(self.random(16))
        self.slot = SlotId(self.random(16))
        self.salt = self.random(16)
        self.keys = SlotKeys(self.random(32))
        self.root = RootKey(self.random(32))
        self.vault = VaultKey(1, self.random(32))

    def sign(self, kind: StatementKind, number: int, body: Body) -> Statement:
        return statement.make(kind, self.account, number, body, self.root.owner)

    def first_statements(self) -> list[Statement]:
        account = pb.AccountBody(user=self.user, owner_key=self.root.owner.public, created=1)
        return [
            self.sign(StatementKind.ACCOUNT, 1, account),
            self.slot_statement(self.slot, self.keys, 1),
            self.epoch(1),
        ]

    def epoch(self, number: int) -> Statement:
        """The one vault key, under that number."""
        body = pb.EpochBody(
            vault_key=self.vault.public,
            wrapped_vault_secret=self.wrap(StatementKind.EPOCH, b"", number, self.vault.secret),
            created=1,
        )
        return self.sign(StatementKind.EPOCH, number, body)

    def slot_statement(
        self,
        slot: SlotId,
        keys: SlotKeys,
        number: int,
        kind: pb.SlotKind.ValueType = pb.SLOT_KIND_PASSWORD,
    ) -> Statement:
        password = kind == pb.SLOT_KIND_PASSWORD
        body = pb.SlotBody(
            slot_id=slot.raw,
            kind=kind,
            salt=self.salt if password else b"",
            memory_kib=self.memory_kib if password else 0,
            passes=self.passes if password else 0,
            login_key=keys.login.public,
            commitment=keys.commitment(self.salt, self.memory_kib, self.passes),
            wrapped_root_key=self.wrap(StatementKind.SLOT, slot.raw, number, self.root.secret),
        )
        return self.sign(StatementKind.SLOT, number, body)

    def slot_removed(self, slot: SlotId, number: int) -> Statement:
        body = pb.SlotBody(slot_id=slot.raw, removed=True)
        return self.sign(StatementKind.SLOT, number, body)

    def wrap(self, kind: StatementKind, subject: bytes, number: int, secret: bytes) -> bytes:
        context = WrapContext(self.account, int(kind), subject, number)
        return primitives.wrap(self.root.wrap_key, self.random(24), secret, context.associated())

    def machine(self, label: str = "laptop", device: DeviceId | None = None) -> Machine:
        return Machine(self, label, device or DeviceId(self.random(16)))

    def order(self, snapshot_id: bytes, number: int, *, forgotten: bool) -> Statement:
        body = pb.ForgetBody(snapshot_id=snapshot_id, forgotten=forgotten, ordered=1)
        return self.sign(StatementKind.FORGET, number, body)


@dataclass
class Machine:
    """A device of somebody, with a domain of its own."""

    owner: Person
    label: str
    device: DeviceId

    def __post_init__(self) -> None:
        random = self.owner.random
        self.key = SigningKey(random(32))
        self.domain = DomainId(random(16))
        self.domain_keys = DomainKeys(self.domain, random(32))

    def statements(self) -> list[Statement]:
        """The domain's and the certificate."""
        return [self.domain_statement(1), self.certificate(1)]

    def domain_statement(self, number: int) -> Statement:
        context = (StatementKind.DOMAIN, self.domain.raw, number)
        secret = self.owner.wrap(*context, self.domain_keys.secret)
        body = pb.DomainBody(domain_id=self.domain.raw, wrapped_secret=secret)
        return self.owner.sign(StatementKind.DOMAIN, number, body)

    def certificate(self, number: int) -> Statement:
        body = pb.DeviceBody(
            device_id=self.device.raw,
            label=self.label,
            device_key=self.key.public,
            role=pb.DEVICE_ROLE_WRITE_ONLY,
            domain_id=self.domain.raw,
            created=1,
        )
        return self.owner.sign(StatementKind.DEVICE, number, body)

    def join(self, other: Machine) -> Machine:
        """The same machine, in the other one's domain."""
        self.domain, self.domain_keys = other.domain, other.domain_keys
        return self

    def revocation(self, since: int = 1) -> Statement:
        body = pb.RevocationBody(device_id=self.device.raw, since=since)
        return self.owner.sign(StatementKind.REVOCATION, 1, body)

    def run(self, series: SeriesId | None = None) -> Run:
        return Run(self, series or SeriesId(self.owner.random(16)))


@dataclass
class Run:
    """One backup run of a machine: what it seals and signs."""

    machine: Machine
    series: SeriesId

    def __post_init__(self) -> None:
        random = self.machine.owner.random
        self.session = SessionId(random(16))
        self.key = random(32)
        self.compressor = Compressor()

    @cached_property
    def session_statement(self) -> Statement:
        machine = self.machine
        body = pb.SessionBody(
            session_id=self.session.raw,
            device_id=machine.device.raw,
            domain_id=machine.domain.raw,
            epoch=1,
            kem=1,
            commitment=session_commitment(self.key),
            sealed_key=primitives.box_seal(machine.owner.vault.public, self.key),
        )
        return statement.make(StatementKind.SESSION, machine.owner.account, 1, body, machine.key)

    @property
    def seal(self) -> Seal:
        return Seal(SUITE, self.machine.domain, 1, self.session, self.key)

    def data(self, plaintext: bytes) -> tuple[ChunkId, bytes]:
        """A data chunk's id and record."""
        chunk = record.data_id(self.machine.domain_keys, plaintext)
        return chunk, self._sealed(chunk, plaintext, None)

    def node(self, plaintext: bytes, references: Sequence[ChunkId]) -> tuple[ChunkId, bytes]:
        """A node's id and record. The box cannot see that the plaintext is none."""
        table = sorted(references)
        chunk = record.node_id(self.machine.domain_keys, table, plaintext)
        return chunk, self._sealed(chunk, plaintext, table)

    def _sealed(
        self, chunk: ChunkId, plaintext: bytes, references: Sequence[ChunkId] | None
    ) -> bytes:
        return bytes(
            record.seal_record(
                self.seal,
                chunk,
                plaintext,
                nonce=self.machine.owner.random(32),
                compressor=self.compressor,
                references=references,
            )
        )

    def snapshot(
        self,
        root: ChunkId,
        previous: Statement | None = None,
        sources: Sequence[bytes] = (b"/home",),
    ) -> tuple[Statement, bytes]:
        """The signed header and the sealed body of a snapshot with this root."""
        owner = self.machine.owner
        counter = 1 if previous is None else previous.number + 1
        header = pb.SnapshotHeaderBody(
            device_id=self.machine.device.raw,
            series_id=self.series.raw,
            previous=b"" if previous is None else previous.digest,
            session_id=self.session.raw,
            domain_id=self.machine.domain.raw,
            root=root.raw,
            complete=True,
        )
        body = snapshot.seal_body(
            pb.SnapshotBody(sources=sources, host="laptop"),
            snapshot.body_context(owner.account, header, counter),
            suite=SUITE,
            key=self.key,
            nonce=owner.random(32),
        )
        header.sealed_hash = primitives.digest(body)
        signed = statement.make(
            StatementKind.SNAPSHOT, owner.account, counter, header, self.machine.key
        )
        return signed, body
