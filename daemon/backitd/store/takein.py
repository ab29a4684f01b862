"""Takes in what the databases do not know: after a crash, after a restore, or everything.

The objects are the truth. Accounts come first, then packs, then nodes are settled. Packs whose file
is gone lose their chunks. What fails on one pack is logged with its name and skipped; it is tried
again at the next start.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backit.errors import Damaged
from backit.format import statement as statements
from backit.format.pack import Place
from backit.format.statement import StatementKind
from backitd.store import catalog
from backitd.store.distrust import Distrust, is_suspect
from backitd.store.index import NewPack
from backitd.store.tables import State
from backitd.store.takein_accounts import SKIPPED, AccountTakeIn, Keys, check_session

if TYPE_CHECKING:
    from backit.ids import AccountId, DomainId, PackName
    from backitd.store.index import Row
    from backitd.store.packs import PackFile
    from backitd.store.parts import Parts
    from backitd.store.settle import Settler

log = logging.getLogger(__name__)


class TakeIn:
    """One run over the whole store, before anything is served."""

    def __init__(self, parts: Parts, settler: Settler) -> None:
        self._objects = parts.objects
        self._journal = parts.journal
        self._packs = parts.packs
        self._catalog = parts.catalog
        self._index = parts.index
        self._settler = settler
        self._distrust = Distrust(parts.packs, parts.catalog, parts.index)
        # The time of objects that have to be written again.
        self._moment = parts.moment()

    def run(self) -> None:
        with self._catalog.reading() as db:
            had_leases = catalog.has_leases(db)
        if had_leases:
            with self._catalog.writing() as db:
                catalog.remove_all_leases(db)
        self._apply_journal()
        with self._catalog.reading() as db:
            accounts = set(catalog.accounts(db))
        for account in sorted(accounts.union(self._objects.accounts())):
            AccountTakeIn(self._objects, self._catalog, account, moment=self._moment).run()
        self._take_packs()
        with self._catalog.reading() as db:
            accounts = set(catalog.accounts(db))
        for account in sorted(accounts):
            self._distrust.apply(account)
        self._settler.settle()

    def _apply_journal(self) -> None:
        """What was to come true together does so; the accounts' own turn comes afterwards."""
        for account, together in self._journal.entries():
            try:
                self._objects.create_account(account)
                self._objects.put_statements(account, together, self._moment)
            except SKIPPED as error:
                log.error("journal entry %s: %s", account, error)
            else:
                self._journal.remove(account)

    def _take_packs(self) -> None:
        """Folder by folder: a large store has more names than should be in memory at once."""
        self._packs.sweep()
        taken = 0
        lost: list[int] = []
        for first in range(256):
            known = self._index.packs(first)
            names = self._packs.names(first)
            for name in names:
                if name.raw not in known or not known[name.raw].size:
                    taken += self._take_pack(name)
            for gone in sorted(known.keys() - {name.raw for name in names}):
                if known[gone].size:
                    log.error("pack %s is gone", gone.hex())
                    lost.append(known[gone].number)
        if taken:
            log.info("took in %d packs that the index did not know", taken)
        if lost:
            count = self._index.lose_packs(lost)
            log.error("%d chunks are missing with them, until a backup sends them again", count)

    def _take_pack(self, name: PackName) -> bool:
        try:
            pack = self._packs.open(name)
        except OSError as error:
            self._packs.check_loss(error, f"taking in pack {name}")
            return False
        with pack:
            try:
                self._take_open_pack(pack)
            except OSError as error:
                self._packs.check_loss(error, f"taking in pack {name}")
            except SKIPPED as error:
                log.error("taking in pack %s: %s", name, error)
            else:
                return True
        return False

    def _take_open_pack(self, pack: PackFile) -> None:
        directory = pack.contents().directory
        account = self._owner(directory.places, directory.account)
        for encoded in directory.sessions:
            self._take_session(account, encoded)
        self._check_other_copies(directory.places)
        dates = self._distrust.dates(account)
        suspect = is_suspect(directory, pack.received(), dates)
        self._index.take_in(
            NewPack(
                name=pack.name,
                account=account,
                kind=directory.kind,
                size=pack.size(),
                places=directory.places,
                state=State.SUSPECT if suspect else State.LIVE,
            )
        )

    def _owner(self, places: tuple[Place, ...], said: AccountId) -> AccountId:
        """By the domain's statement, which is signed, rather than by the pack's head, which is not.

        Raises Damaged for a pack that belongs to nobody, or to two.
        """
        owners: set[AccountId] = set()
        with self._catalog.reading() as db:
            for domain in {place.domain for place in places}:
                found = catalog.newest_statement(db, StatementKind.DOMAIN, domain.raw)
                if found is not None:
                    owners.add(found.account)
            if not owners and catalog.account(db, said) is not None:
                owners.add(said)
        if len(owners) != 1:
            raise Damaged(f"it belongs to {len(owners)} accounts that are known here")
        return owners.pop()

    def _take_session(self, account: AccountId, encoded: bytes) -> None:
        """A pack carries the key packets of its records: a lost one is written again."""
        try:
            session = statements.parse(encoded)
            with self._catalog.reading() as db:
                if catalog.session(db, session.subject) is not None:
                    return
                keys = Keys(catalog.statements_of(db, account))
            if session.account != account:
                raise Damaged(f"session {session.subject.hex()} is another account's")
            check_session(self._catalog, keys, session)
            self._objects.put_session(session, self._moment)
        except SKIPPED as error:
            log.error("taking in a session from a pack: %s", error)
            return
        log.warning("session %s was gone; written again from a pack", session.subject.hex())
        with self._catalog.writing() as db:
            catalog.put_session(db, session)

    def _check_other_copies(self, places: tuple[Place, ...]) -> None:
        """Where another pack has the chunk too, that copy is read, so that the sound one wins."""
        for domain in {place.domain for place in places}:
            chunks = [place.chunk.raw for place in places if place.domain == domain]
            rows = self._index.rows(domain, chunks)
            bad = [
                row
                for row in rows
                if row.state is not State.QUARANTINED and not self._is_sound(domain, row)
            ]
            if bad:
                self._index.quarantine(bad)

    def _is_sound(self, domain: DomainId, row: Row) -> bool:
        doing = f"reading chunk {row.chunk} in pack {row.pack}"
        try:
            with self._packs.open(row.pack) as pack:
                pack.read_record(Place(row.chunk, domain, row.start, row.length))
        except OSError as error:
            self._packs.check_loss(error, doing)
        except Damaged as error:
            log.error("%s: %s", doing, error)
        else:
            return True
        return False
