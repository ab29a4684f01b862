"""A backup run as the appliance sees it: its session key, its lease, and its commit.

The key it seals to comes from a ledger, where the owner's signature has been checked. What is in
the snapshot is backup.py's business.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backit.client.receipts import attests
from backit.crypto import keys, primitives
from backit.crypto.primitives import Suite
from backit.errors import BackitError, Untrusted
from backit.format import bodies, snapshot, statement
from backit.format.record import Seal
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import ChunkId, DeviceId, SeriesId, SessionId, SnapshotId
from backit.v1 import snapshots_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backit.client.device import DeviceKeys
    from backit.client.ledger import Ledger
    from backit.client.remote import Appliance
    from backit.format.v1 import cache_pb2


@dataclass(frozen=True, slots=True)
class Head:
    """The newest snapshot of a series."""

    snapshot: SnapshotId
    counter: int


@dataclass(frozen=True, slots=True)
class Session:
    """An open session. `others` are the newest headers of the account's other series."""

    lease: str
    series: SeriesId
    seal: Seal
    head: Head | None
    others: tuple[Statement, ...]


def series_of(device: DeviceKeys, sources: Sequence[bytes]) -> SeriesId:
    """The same for the same paths on the same device, and telling nobody which (FORMAT.md section
    4).
    """
    paths = b"\0".join(sorted(sources))
    return SeriesId(primitives.derive("series", device.signing.seed, paths)[:16])


def choose_suite() -> Suite:
    """AEGIS-256 where the CPU has AES instructions."""
    try:
        flags = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return Suite.XCHACHA20_POLY1305
    return Suite.AEGIS256 if " aes" in flags else Suite.XCHACHA20_POLY1305


def open_session(
    appliance: Appliance, device: DeviceKeys, series: SeriesId, ledger: Ledger
) -> Session:
    """Begin a backup: make a session key, seal it to the newest vault key in the ledger, get the
    lease.
    """
    epoch = ledger.newest_epoch
    vault_key = ledger.epochs[epoch].body.vault_key
    session, key = SessionId(os.urandom(16)), os.urandom(primitives.KEY_BYTES)
    body = pb.SessionBody(
        session_id=session.raw,
        device_id=device.device.raw,
        domain_id=device.domain.domain.raw,
        epoch=epoch,
        kem=bodies.KEM_SEALED_BOX,
        commitment=keys.session_commitment(key),
        sealed_key=primitives.box_seal(vault_key, key),
    )
    packet = statement.make(StatementKind.SESSION, device.account, 1, body, device.signing)
    request = snapshots_pb2.CreateLeaseRequest(series_id=series.raw, session=packet.encoded)
    lease = appliance.snapshots.CreateLease(request)
    seal = Seal(choose_suite(), device.domain.domain, epoch, session, key)
    others = _signed(lease.other_heads, ledger)
    return Session(lease.name, series, seal, _head(lease, device, series), others)


def _signed(headers: Iterable[bytes], ledger: Ledger) -> tuple[Statement, ...]:
    """Those that a device of the account has signed. The rest says nothing, and must not keep this
    device from its backup.
    """
    found: list[Statement] = []
    for encoded in headers:
        with contextlib.suppress(BackitError):
            header = statement.parse(encoded)
            signer = DeviceId(snapshot.header_body(header).device_id)
            header.verify(ledger.device(signer).body.device_key)
            found.append(header)
    return tuple(found)


def _head(lease: snapshots_pb2.Lease, device: DeviceKeys, series: SeriesId) -> Head | None:
    if not lease.HasField("head"):
        return None
    header = statement.parse(lease.head.header)
    header.verify(device.signing.public)
    if snapshot.header_body(header).series_id != series.raw:
        raise Untrusted("the appliance gave the head of another series")
    return Head(snapshot.snapshot_id(header), header.number)


def turned_back(session: Session, watermarks: cache_pb2.Watermarks) -> list[str]:
    """What the appliance showed before and shows no more; afterwards the watermarks say what is
    newest.
    """
    shown = {other.subject: other.number for other in session.others}
    if session.head is not None:
        shown[session.series.raw] = session.head.counter
    known = {row.series_id: row.counter for row in watermarks.series}
    del watermarks.series[:]
    for series_id in sorted(known.keys() | shown.keys()):
        counter = max(known.get(series_id, 0), shown.get(series_id, 0))
        watermarks.series.add(series_id=series_id, counter=counter)
    return [
        f"series {series_id.hex()}: there was snapshot {counter}, now {shown.get(series_id, 0)}"
        for series_id, counter in known.items()
        if shown.get(series_id, 0) < counter
    ]


def restored(incarnation: bytes, watermarks: cache_pb2.Watermarks) -> list[str]:
    """Whether the store is another one than last time; afterwards the watermarks name this one."""
    before, watermarks.incarnation_id = watermarks.incarnation_id, incarnation
    if before in (b"", incarnation):
        return []
    change = f"it was {before.hex()}, now it is {incarnation.hex()}"
    return [f"the appliance's store was copied or restored: {change}"]


def commit(
    appliance: Appliance,
    device: DeviceKeys,
    session: Session,
    root: ChunkId,
    body: pb.SnapshotBody,
    *,
    complete: bool,
) -> tuple[SnapshotId, list[str]]:
    """Sign and commit the snapshot. It exists when this returns.

    Also what is wrong with its receipt, if anything. Raises HeadMoved, ReferencesMissing.
    """
    for other in session.others:
        fields = snapshot.header_body(other)
        body.seen_heads.add(
            series_id=fields.series_id,
            counter=other.number,
            snapshot_id=snapshot.snapshot_id(other).raw,
        )
    counter = session.head.counter + 1 if session.head else 1
    fields = pb.SnapshotHeaderBody(
        device_id=device.device.raw,
        series_id=session.series.raw,
        previous=session.head.snapshot.raw if session.head else b"",
        session_id=session.seal.session.raw,
        domain_id=device.domain.domain.raw,
        root=root.raw,
        complete=complete,
    )
    sealed = snapshot.seal_body(
        body,
        snapshot.body_context(device.account, fields, counter),
        suite=session.seal.suite,
        key=session.seal.key,
        nonce=os.urandom(primitives.NONCE_BYTES),
    )
    fields.sealed_hash = primitives.digest(sealed)
    header = statement.make(StatementKind.SNAPSHOT, device.account, counter, fields, device.signing)
    request = snapshots_pb2.CommitSnapshotRequest(
        lease=session.lease, header=header.encoded, sealed_body=sealed
    )
    answer = appliance.snapshots.CommitSnapshot(request)
    found = snapshot.snapshot_id(header)
    return found, [] if attests(appliance.receipt_key, answer.receipt, found) else [
        "the receipt of this snapshot is not signed by the key that was pinned at pairing"
    ]
