"""What a revoked device sent after the date since which its owner does not trust it.

Nobody without keys can tell whether a record holds what its id promises. So what such a device sent
is read for whoever restores, and missing for whoever backs up: the next backup of another device in
the domain sends it again, and the new copy takes its place. Received is what a pack's file says
(its modification time). A copy of the store that lost those times distrusts more, never less.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backit.errors import BackitError, Damaged
from backit.format import statement as statements
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backitd.store import catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backit.format.pack import Directory
    from backit.ids import AccountId, DeviceId, PackName
    from backitd.store.catalog import Catalog
    from backitd.store.index import ChunkIndex
    from backitd.store.packs import Packs

log = logging.getLogger(__name__)


class Distrust:
    """Applies the revocations of all accounts to what is in the index."""

    def __init__(self, packs: Packs, catalog_: Catalog, index: ChunkIndex) -> None:
        self._packs = packs
        self._catalog = catalog_
        self._index = index

    def apply(self, account: AccountId) -> bool:
        """Whether anything is missing now that was live. Every revocation once."""
        done = self._index.devices_distrusted()
        dates = self.dates(account)
        fresh = {device: since for device, since in dates.items() if device not in done}
        if not fresh:
            return False
        packs = [n for n in self._index.packs_of(account) if self._is_suspect(n, fresh)]
        changed = self._index.distrust(packs, fresh)
        if changed:
            log.info("account %s: %d packs of revoked devices", account, len(packs))
        return changed

    def dates(self, account: AccountId) -> dict[bytes, int]:
        """The revoked devices, and since when each is not trusted (Unix seconds)."""
        with self._catalog.reading() as db:
            found = catalog.statements_of(db, account, StatementKind.REVOCATION)
        bodies = (each.body for each in found)
        return {b.device_id: b.since for b in bodies if isinstance(b, pb.RevocationBody)}

    def is_late(self, account: AccountId, device: DeviceId, received: int) -> bool:
        """Whether the device was revoked, and not trusted any more at that time."""
        since = self.dates(account).get(device.raw)
        return since is not None and received >= since

    def _is_suspect(self, name: PackName, dates: Mapping[bytes, int]) -> bool:
        """A pack that is lost or damaged is for others to find: it is not read here."""
        try:
            with self._packs.open(name) as pack:
                received = pack.received()
                if all(received < since for since in dates.values()):
                    return False
                return is_suspect(pack.contents().directory, received, dates)
        except OSError as error:
            self._packs.check_loss(error, f"looking who sent pack {name}")
        except Damaged as error:
            log.error("%s", error)
        return False


def is_suspect(directory: Directory, received: int, dates: Mapping[bytes, int]) -> bool:
    """Whether one of these devices sent some of the pack when it was not trusted any more.

    A pack that does not say who sent it was damaged, and is not trusted either.
    """
    late = {device for device, since in dates.items() if received >= since}
    senders = set(_senders(directory.sessions))
    return bool(late) and (not senders or not senders.isdisjoint(late))


def _senders(sessions: Iterable[bytes]) -> Iterable[bytes]:
    for encoded in sessions:
        try:
            body = statements.parse(encoded).body
        except BackitError:
            continue
        if isinstance(body, pb.SessionBody):
            yield body.device_id
