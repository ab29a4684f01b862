"""A machine in the wrong hands: it has a device's keys, and says to the box whatever it likes.

Speaks by the client's own code, below the parts that keep honest clients honest.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backit.client import devices
from backit.client import session as sessions
from backit.client.device import DeviceKeys
from backit.client.home import Home
from backit.client.profile import Profile
from backit.client.remote import Appliance
from backit.crypto import primitives
from backit.format import message, record, snapshot, statement
from backit.format.compression import Compressor
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import SeriesId
from backit.v1 import chunks_pb2, snapshots_pb2

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from backit.client.ledger import Ledger
    from backit.client.session import Session
    from backit.format.statement import Statement
    from backit.format.v1 import tree_pb2
    from backit.ids import ChunkId
    from tests.programs import Person


class Forger:
    """One lease of a stolen device, for one snapshot of a series nobody has heard of."""

    def __init__(self, appliance: Appliance, device: DeviceKeys, book: Ledger) -> None:
        self.appliance = appliance
        self.device = device
        self._book = book
        self.session = self.begin()
        self._compressor = Compressor()

    def begin(self) -> Session:
        """A lease for another series."""
        series = SeriesId(os.urandom(SeriesId.LENGTH))
        return sessions.open_session(self.appliance, self.device, series, self._book)

    def data(self, plaintext: bytes, claims: ChunkId | None = None) -> tuple[ChunkId, bytes]:
        """A data record, under its own id or the one it claims."""
        chunk = claims or record.data_id(self.device.domain, plaintext)
        return chunk, self._seal(chunk, plaintext, None)

    def node(
        self, node: tree_pb2.Node, references: Sequence[ChunkId] = ()
    ) -> tuple[ChunkId, bytes]:
        """A node's record, whatever the node says."""
        plaintext = message.encode(node)
        chunk = record.node_id(self.device.domain, references, plaintext)
        return chunk, self._seal(chunk, plaintext, references)

    def upload(self, *records: bytes) -> None:
        """Send records, a message each."""
        for _number in self.acknowledged(records):
            pass

    def acknowledged(self, records: Sequence[bytes], flush_each: int = 0) -> Iterator[int]:
        """Send records, a message each; how many of them are durable, as the box says so.

        Every so many messages it is asked to make durable what it has; 0: only at the end.
        """
        messages = [chunks_pb2.UploadRequest(lease=self.session.lease)]
        for number, each in enumerate(records, start=1):
            flush = flush_each > 0 and number % flush_each == 0
            messages.append(chunks_pb2.UploadRequest(records=[each], flush=flush))
        for answer in self.appliance.chunks.Upload(iter(messages)):
            yield answer.acknowledged

    def headers(self, session: Session, root: ChunkId) -> Iterator[tuple[Statement, bytes]]:
        """Signed headers with sealed bodies for one tree: each would be a snapshot of its own."""
        fields = pb.SnapshotHeaderBody(
            device_id=self.device.device.raw,
            series_id=session.series.raw,
            session_id=session.seal.session.raw,
            domain_id=self.device.domain.domain.raw,
            root=root.raw,
            complete=True,
        )
        context = snapshot.body_context(self.device.account, fields, 1)
        while True:
            sealed = snapshot.seal_body(
                pb.SnapshotBody(sources=[b"/forged"], host="forger"),
                context,
                suite=session.seal.suite,
                key=session.seal.key,
                nonce=os.urandom(primitives.NONCE_BYTES),
            )
            fields.sealed_hash = primitives.digest(sealed)
            signing, account = self.device.signing, self.device.account
            yield statement.make(StatementKind.SNAPSHOT, account, 1, fields, signing), sealed

    def commit(self, session: Session, header: Statement, sealed: bytes) -> str:
        """Make it a snapshot; returns its id."""
        request = snapshots_pb2.CommitSnapshotRequest(
            lease=session.lease, header=header.encoded, sealed_body=sealed
        )
        self.appliance.snapshots.CommitSnapshot(request)
        return snapshot.snapshot_id(header).hex

    def commit_tree(self, root: ChunkId) -> str:
        """Make a snapshot of what was uploaded."""
        return self.commit(self.session, *next(self.headers(self.session, root)))

    def _seal(
        self, chunk: ChunkId, plaintext: bytes, references: Sequence[ChunkId] | None
    ) -> bytes:
        return bytes(
            record.seal_record(
                self.session.seal,
                chunk,
                plaintext,
                nonce=os.urandom(primitives.NONCE_BYTES),
                compressor=self._compressor,
                references=references,
            )
        )


def rehashed(record: bytes, at: int, new: bytes) -> bytes:
    """A record that says something else, with the right hash at its end."""
    changed = record[:at] + new + record[at + len(new) : -primitives.HASH_BYTES]
    return changed + primitives.digest(changed)


@contextmanager
def stolen_machine(person: Person) -> Generator[Forger]:
    """What somebody can do who has copied a machine's home."""
    home = Home.find({"BACKIT_HOME": str(person.home)})
    keys = DeviceKeys.load(home, "default")
    profile = Profile.load(home, "default")
    with Appliance.connect(profile, keys.credential) as appliance:
        keys, book = devices.follow_owner(appliance, keys)
        yield Forger(appliance, keys, book)
