"""The parts of an open store, as they are handed to each other. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from backitd.store.catalog import Catalog
    from backitd.store.index import ChunkIndex
    from backitd.store.journal import Journal
    from backitd.store.objects import Objects
    from backitd.store.packs import Packs
    from backitd.store.quota import Quota
    from backitd.store.space import Space
    from backitd.store.values import Clock, Random, StoreSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """Files, databases, the lock between them, and what the store gets from outside."""

    objects: Objects
    journal: Journal
    packs: Packs
    space: Space
    quota: Quota
    catalog: Catalog
    index: ChunkIndex
    # Held by whoever changes accounts, leases or snapshots: check, object and row are one step.
    changing: threading.Lock
    clock: Clock
    random: Random
    settings: StoreSettings

    def moment(self) -> int:
        """Now, as objects are stamped (Unix seconds)."""
        return int(self.clock.now())
