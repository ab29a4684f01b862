"""Which snapshots are mounted, looked at again when somebody looks at them.

A look goes to the appliance in a thread, at most once in so many seconds, and is not waited for
much longer than people wait for `ls`: while the appliance is away the last list stands.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from backit.errors import BackitError
from backitfs.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from backitfs.catalogue import Folder, Listed, Volume
    from backitfs.view import Nodes

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
WAIT_SECONDS = 2.0


class Roster:
    """All snapshots of an account, or a single one."""

    def __init__(
        self,
        nodes: Nodes,
        first: Sequence[Listed],
        list_again: Callable[[], list[Listed]] | None,
        nursery: trio.Nursery,
    ) -> None:
        """Without `list_again`, `first` is the only one there will be."""
        self._catalogue = Catalogue(nodes)
        self._catalogue.update(first)
        self._list_again = list_again
        self._nursery = nursery
        self._looking: trio.Event | None = None
        self._looked = trio.current_time()
        self._problem = ""
        self.only = next(iter(self._catalogue.volumes)) if list_again is None else None

    @property
    def is_busy(self) -> bool:
        """Whether a look is under way."""
        return self._looking is not None

    @property
    def folders(self) -> Mapping[bytes, Folder]:
        return self._catalogue.folders

    @property
    def volumes(self) -> Iterable[Volume]:
        return self._catalogue.volumes

    @property
    def changed(self) -> int:
        """When the newest snapshot began, in Unix nanoseconds."""
        return max((volume.listed.started for volume in self.volumes), default=0)

    def volume(self, slot: int) -> Volume | None:
        return self._catalogue.volume(slot)

    def folder(self, number: int) -> Folder | None:
        return self._catalogue.folder(number)

    def folder_of(self, volume: Volume) -> Folder:
        return self._catalogue.folder_of(volume)

    async def look(self) -> None:
        """Make sure that the list is not old, as far as that can be had soon."""
        if self._list_again is None:
            return
        if self._looking is None and trio.current_time() - self._looked >= AGAIN_SECONDS:
            self._looking = trio.Event()
            self._nursery.start_soon(self._look, self._list_again, self._looking)
            with trio.move_on_after(WAIT_SECONDS):
                await self._looking.wait()

    async def _look(self, list_again: Callable[[], list[Listed]], done: trio.Event) -> None:
        try:
            listed = await trio.to_thread.run_sync(list_again, abandon_on_cancel=True)
        except BackitError as error:
            if str(error) != self._problem:
                log.warning("listing snapshots: %s", error)
            self._problem = str(error)
        except Exception:  # a bug must not end the mount
            log.exception("listing snapshots")
        else:
            self._catalogue.update(listed)
            self._problem = ""
        finally:
            self._looking = None
            self._looked = trio.current_time()
            done.set()
