"""Which nodes may be relied on, after something below them was lost or came back.

A live node has a live subtree: that is what dedup and commit rest on (DESIGN.md, rule 1). Accepting
keeps it true, damage breaks it. So damage puts every node of the account in doubt, durably, and
here they are read again, pass after pass, until no node changes: live if all it uses is live, else
incomplete. An incomplete node is still read for whoever restores, but reported missing to whoever
backs up, so the next backup sends it again, and with it what is missing below. Passes, not a graph
in memory: ids of a pack at a time.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from backit.errors import BackitError, Damaged, Unavailable
from backit.format import record
from backit.format.magic import Kind
from backitd.store.tables import State

if TYPE_CHECKING:
    from backit.format.pack import Place
    from backit.format.record import Header
    from backit.ids import AccountId, DomainId
    from backitd.store.index import ChunkIndex, DoubtfulPack, Row
    from backitd.store.packs import PackFile, Packs

log = logging.getLogger(__name__)


UNSETTLED = (State.QUARANTINED, State.SUSPECT)
# How long a commit waits for what it rests on.
WAIT_SECONDS = 60.0


class Settler:
    """Settles on demand, in the caller's thread or in its own."""

    def __init__(self, packs: Packs, index: ChunkIndex) -> None:
        self._packs = packs
        self._index = index
        self._wake = threading.Event()
        self._stop = False
        # Notified after every round.
        self._rounds = threading.Condition()
        self._thread: threading.Thread | None = None

    def settle(self) -> None:
        """Until nothing is in doubt. One thread at a time."""
        while not self._stop:
            accounts = self._index.accounts_in_doubt()
            if not accounts:
                return
            for account in accounts:
                self._settle_account(account)
                with self._rounds:
                    self._rounds.notify_all()

    def wait(self, account: AccountId) -> None:
        """Until nothing of the account is in doubt. Raises Unavailable if that takes too long."""
        if not self._index.packs_in_doubt(account.raw):
            return
        self.ask()  # in case it was tried before, and failed
        with self._rounds:
            settled = self._rounds.wait_for(
                lambda: self._stop or not self._index.packs_in_doubt(account.raw), WAIT_SECONDS
            )
        if not settled or self._stop:
            raise Unavailable(
                "something was damaged, and what rests on it is still being looked for"
            )

    def start(self) -> None:
        """Settle whenever asked from now on."""
        self._thread = threading.Thread(target=self._run, name="settler", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Something came into doubt; do not wait for what follows."""
        self._wake.set()

    def stop(self) -> None:
        """What is in doubt stays so; the next start settles it."""
        with self._rounds:
            self._stop = True
            self._rounds.notify_all()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stop:
                return
            try:
                self.settle()
            except BackitError:
                log.exception(
                    "settling nodes failed; it begins again with the next damage or start"
                )

    def _settle_account(self, account: bytes) -> None:
        changed = True
        while changed and not self._stop:
            packs = self._index.packs_in_doubt(account)
            changed = False
            for pack in packs:
                if self._stop:
                    return
                changed |= self._settle_pack(pack)
            if not changed:
                self._index.clear_doubts(packs)

    def _settle_pack(self, pack: DoubtfulPack) -> bool:
        """Whether a node changed its state."""
        doing = f"settling pack {pack.name}"
        try:
            file = self._packs.open(pack.name)
        except OSError as error:
            self._packs.check_loss(error, doing)
            return self._index.lose_packs([pack.number]) > 0
        with file:
            try:
                directory = file.contents().directory
            except OSError as error:
                self._packs.check_loss(error, doing)
                return self._index.lose_packs([pack.number]) > 0
            except Damaged as error:
                log.error("%s: %s", doing, error)
                return self._index.lose_packs([pack.number]) > 0
            changed = False
            for domain in sorted({place.domain for place in directory.places}):
                places = [place for place in directory.places if place.domain == domain]
                places.sort(key=lambda place: place.offset)
                changed |= self._settle_places(file, pack, domain, places)
        return changed

    def _settle_places(
        self, file: PackFile, pack: DoubtfulPack, domain: DomainId, places: list[Place]
    ) -> bool:
        known = self._index.rows(domain, [place.chunk.raw for place in places])
        rows = {r.chunk.raw: r for r in known if r.pack_number == pack.number}
        damaged: list[Row] = []
        uses: list[tuple[Row, frozenset[bytes]]] = []
        for place in places:
            row = rows.get(place.chunk.raw)
            # Copies that were never used, or that a newer one has replaced, are nobody's; what is
            # not trusted stays so, whatever it uses.
            if row is None or row.start != place.offset or row.state in UNSETTLED:
                continue
            found = self._read(file, pack, place)
            if found is None:
                damaged.append(row)
                continue
            header, encoded = found
            if header.kind is Kind.NODE:
                table = record.references(encoded, header)
                uses.append((row, frozenset(chunk.raw for chunk in table)))
        changes = self._changes(domain, uses)
        if damaged:
            self._index.quarantine(damaged)
        if changes:
            self._index.restate(changes)
        return bool(damaged or changes)

    def _read(
        self, file: PackFile, pack: DoubtfulPack, place: Place
    ) -> tuple[Header, bytes] | None:
        doing = f"settling pack {pack.name}"
        try:
            return file.read_record(place)
        except OSError as error:
            self._packs.check_loss(error, doing)
        except Damaged as error:
            log.error("%s: %s", doing, error)
        return None

    def _changes(
        self, domain: DomainId, uses: list[tuple[Row, frozenset[bytes]]]
    ) -> list[tuple[Row, State]]:
        wanted: set[bytes] = set()
        wanted.update(*(used for _row, used in uses))
        live = self._index.live(domain, list(wanted))
        changes: list[tuple[Row, State]] = []
        # In the order in which they were sent children come first, so most chains settle in one
        # pass.
        for row, used in uses:
            state = State.LIVE if used <= live else State.INCOMPLETE
            if state is State.LIVE:
                live.add(row.chunk.raw)
            else:
                live.discard(row.chunk.raw)
            if state is not row.state:
                changes.append((row, state))
        return changes
