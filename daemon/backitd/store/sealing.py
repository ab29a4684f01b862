"""Makes filled packs durable, indexes them, only then has them acknowledged.

While one pack syncs, the next one fills. What goes wrong ends the upload and nothing else.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

from backit.errors import BackitError, Conflict, NoSpace
from backitd.store.distrust import Distrust
from backitd.store.index import NewPack

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.ids import PackName
    from backitd.store.packing import Filled, OpenPack
    from backitd.store.parts import Parts
    from backitd.store.values import Lease

log = logging.getLogger(__name__)

# Filled packs that may wait. With two that are open and one that syncs, that is all on its way.
WAITING = 2


class Sealer:
    """The thread behind one upload. Packs come out in the order in which they went in."""

    def __init__(
        self,
        parts: Parts,
        lease: Lease,
        *,
        on_sealed: Callable[[Filled], None],
        on_doubt: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._lease = lease
        self._distrust = Distrust(parts.packs, parts.catalog, parts.index)
        self._on_sealed = on_sealed
        self._on_doubt = on_doubt
        self._queue: queue.Queue[Filled | None] = queue.Queue(WAITING)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
        self._thread.start()

    def put(self, filled: Filled) -> None:
        """Waits while too many wait already. Raises what ended the upload."""
        self._queue.put(filled)
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        """Until all is sealed that was put, or thrown away after an error."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            filled = self._queue.get()
            if filled is None:
                return
            if self.error is not None:
                # Whoever puts must never wait for us; but after an error nothing more is stored.
                filled.discard()
                continue
            try:
                if filled.pack is not None:
                    self._seal(filled.pack)
                self._on_sealed(filled)
            except BaseException as error:  # noqa: BLE001 - it is raised where somebody listens
                self.error = error

    def _seal(self, pack: OpenPack) -> None:
        writer = pack.writer
        # 1. The pack: synced, linked, its folder synced.
        received = self._parts.moment()
        name = writer.publish(received)
        new = NewPack(
            name=name,
            account=self._lease.account,
            kind=writer.kind,
            size=writer.size,
            places=writer.places,
            references=frozenset(pack.references),
            generation=self._lease.generation,
        )
        # 2. Its rows. Killed between the two, the pack is taken in at the next start.
        try:
            with self._parts.quota.storing(self._lease.account, pack.counted):
                doubt = self._parts.index.accept(new)
            pack.counted = 0
        except (Conflict, NoSpace):
            # Nothing points to it: it may go at once. Killed before that, its nodes are incomplete.
            self._remove(name)
            raise
        except BackitError:
            log.exception("pack %s is durable but not indexed; the next start takes it in", name)
            raise
        # Asked afterwards: a revocation that comes now finds the pack in the index.
        if self._distrust.is_late(self._lease.account, self._lease.device, received):
            doubt |= self._parts.index.distrust([name])
        if doubt:
            self._on_doubt()
        # 3. Only then is it acknowledged, by the caller.

    def _remove(self, name: PackName) -> None:
        try:
            self._parts.packs.remove(name)
        except BackitError:
            log.exception("pack %s is not needed; the next start takes it in", name)
