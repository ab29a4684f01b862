"""The account's snapshots, checked and opened, and the names people give them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from backit.client.receipts import attests
from backit.errors import BackitError, Damaged, Invalid, NotFound, SnapshotNotFound
from backit.format import snapshot as snapshots
from backit.format import statement
from backit.format.v1 import statement_pb2 as pb
from backit.ids import ChunkId, DeviceId, DomainId, SeriesId, SnapshotId
from backit.v1 import snapshots_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backit.client.remote import Appliance
    from backit.client.vaults import Keyring
    from backit.format.statement import Statement

LATEST = "latest"
PREFIX_MIN = 4
# Snapshots asked for at once, and threads that open them.
PAGE, OPENERS = 100, 2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot whose device signed it and whose body has been opened."""

    id: SnapshotId
    header: Statement
    device: DeviceId
    label: str
    series: SeriesId
    counter: int
    previous: SnapshotId | None
    received: int
    complete: bool
    trashed: bool
    root: ChunkId
    domain: DomainId
    body: pb.SnapshotBody
    receipt: bytes = b""

    def is_attested(self, pinned: bytes) -> bool:
        """Whether its receipt is signed by the pinned key: `received` is not made up since."""
        return attests(pinned, self.receipt, self.id)


class History:
    """Reads the list of snapshots from the appliance."""

    def __init__(self, appliance: Appliance, keyring: Keyring) -> None:
        self._appliance = appliance
        self._keyring = keyring

    def all(self, *, trashed: bool = False) -> list[Snapshot]:
        """Oldest first. Raises Damaged, naming the snapshot, for one that was not signed so."""
        found, broken = self.readable(trashed=trashed)
        for _name, error in broken:
            raise error
        return found

    def readable(
        self, *, trashed: bool = False, known: Mapping[str, Snapshot] = MappingProxyType({})
    ) -> tuple[list[Snapshot], list[tuple[str, BackitError]]]:
        """As all(), but a damaged snapshot hides no other: (those that open, (name, error) of the
        rest).

        Those in `known`, by resource name, have been opened before and are not opened again.
        """
        found: list[Snapshot] = []
        broken: list[tuple[str, BackitError]] = []
        # Opening is mostly public-key operations, which let other threads run, and the appliance
        # gathers the next page meanwhile.
        with ThreadPoolExecutor(OPENERS, thread_name_prefix="snapshots") as pool:
            pages = [
                pool.submit(self._open_page, page, known) for page in self._pages(trashed=trashed)
            ]
            for name, opened in chain.from_iterable(page.result() for page in pages):
                if isinstance(opened, Snapshot):
                    found.append(opened)
                else:
                    broken.append((name, opened))
        return sorted(found, key=_age), broken

    def resolve(self, text: str, *, trashed: bool = False) -> Snapshot:
        """An id or its beginning, "latest", or "latest@DEVICE" (label or id).

        Raises SnapshotNotFound, or Invalid for an ambiguous name.
        """
        candidates, broken = self.readable(trashed=trashed)
        name, _, device = text.partition("@")
        if name == LATEST:
            return _latest(candidates, device)
        if device or len(text) < PREFIX_MIN:
            raise Invalid(
                f"{text[:80]!r} names no snapshot: give latest or {PREFIX_MIN} digits of an id"
            )
        wanted = text.lower()
        matches = [each for each in candidates if each.id.hex.startswith(wanted)]
        if len(matches) > 1:
            ids = ", ".join(each.id.hex[:12] for each in matches[:5])
            raise Invalid(f"snapshot {text!r} is ambiguous: {ids}")
        if matches:
            return matches[0]
        for listed, error in broken:
            if listed.removeprefix("snapshots/").startswith(wanted):
                raise error
        raise SnapshotNotFound(f"there is no snapshot {text[:80]!r}")

    def _pages(self, *, trashed: bool) -> Iterator[Sequence[snapshots_pb2.Snapshot]]:
        token = ""
        while True:
            page = self._appliance.snapshots.ListSnapshots(
                snapshots_pb2.ListSnapshotsRequest(
                    page_size=PAGE, page_token=token, show_deleted=trashed
                )
            )
            yield page.snapshots
            token = page.next_page_token
            if not token:
                return

    def _open_page(
        self, page: Iterable[snapshots_pb2.Snapshot], known: Mapping[str, Snapshot]
    ) -> list[tuple[str, Snapshot | BackitError]]:
        opened: list[tuple[str, Snapshot | BackitError]] = []
        for listed in page:
            try:
                found = _same(known.get(listed.name), listed) or self._open(listed)
            except BackitError as error:
                opened.append((listed.name, error))
            else:
                opened.append((listed.name, found))
        return opened

    def _open(self, listed: snapshots_pb2.Snapshot) -> Snapshot:
        try:
            return self._check(listed)
        except (Damaged, Invalid, NotFound) as error:
            name, text = listed.name[:80], str(error)
            is_named = name.removeprefix("snapshots/") in text
            raise Damaged(text if is_named else f"{name}: {text}") from None

    def _check(self, listed: snapshots_pb2.Snapshot) -> Snapshot:
        header = statement.parse(listed.header)
        fields = snapshots.header_body(header)
        found = snapshots.snapshot_id(header)
        if listed.name != found.name or header.account != self._keyring.account:
            raise Damaged(f"{listed.name[:80]}: the appliance gave another snapshot for it")
        device = self._keyring.ledger.device(DeviceId(fields.device_id))
        header.verify(device.body.device_key)
        session = statement.parse(listed.session)
        if session.subject != fields.session_id:
            raise Damaged(f"snapshot {found}: the appliance gave another session for it")
        body = snapshots.open_body(header, listed.sealed_body, self._keyring.session_key(session))
        return Snapshot(
            id=found,
            header=header,
            device=DeviceId(fields.device_id),
            label=device.body.label,
            series=SeriesId(fields.series_id),
            counter=header.number,
            previous=SnapshotId(fields.previous) if fields.previous else None,
            received=_received(listed.receipt, found),
            complete=fields.complete,
            trashed=listed.state == snapshots_pb2.Snapshot.STATE_TRASHED,
            root=ChunkId(fields.root),
            domain=DomainId(fields.domain_id),
            body=body,
            receipt=listed.receipt,
        )


def _same(known: Snapshot | None, listed: snapshots_pb2.Snapshot) -> Snapshot | None:
    """What was opened before, if the appliance still says the same of it."""
    trashed = listed.state == snapshots_pb2.Snapshot.STATE_TRASHED
    if known is None or (known.header.encoded, known.trashed) != (listed.header, trashed):
        return None
    return known


def _received(receipt: bytes, snapshot: SnapshotId) -> int:
    body = statement.parse(receipt).body
    if not isinstance(body, pb.ReceiptBody) or body.snapshot_id != snapshot.raw:
        raise Damaged(f"snapshot {snapshot}: its receipt is another statement")
    return body.received


def _latest(candidates: Sequence[Snapshot], device: str) -> Snapshot:
    if device:
        labelled = [each for each in candidates if each.label == device]
        candidates = labelled or [
            each for each in candidates if each.device.hex.startswith(device.lower())
        ]
        if len({each.device for each in candidates}) > 1:
            raise Invalid(f"latest@{device}: several devices are called that; give an id")
    if not candidates:
        raise SnapshotNotFound(
            f"there is no snapshot yet{f' of device {device!r}' if device else ''}"
        )
    return max(candidates, key=_age)


def _age(each: Snapshot) -> tuple[int, int, int]:
    """Sorts the oldest first: the appliance tells whole seconds, in which there may be several."""
    return each.received, each.body.ended, each.counter
