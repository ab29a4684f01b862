"""Chunks that are at hand, and the one way to bring one that is not.

Kept by bytes: what was used longest ago goes first. However many wait for a chunk, it is fetched
once. Fetching blocks, so it happens in a few threads; everything else here runs on the trio thread,
and what is at hand is given without waiting. While the appliance is out of reach a fetch is
repeated, and whoever waits gives up after `patience` seconds. Knows nothing of files or keys.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from backit.errors import BackitError, Internal, NotFound, Unavailable
from backit.ids import ChunkId

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds between two attempts: doubled from the first to the last.
FIRST_PAUSE, LAST_PAUSE = 0.1, 1.0
THREADS = 4


@dataclass(frozen=True, slots=True)
class Brought(Generic[T]):
    """A chunk, opened, and the bytes it takes here."""

    value: T
    cost: int


# Fetches chunks, in any order, each opened or with what is wrong with it. Blocks; raises
# BackitError for all that it has not given. Called in a thread.
Fetch = Callable[[Sequence[ChunkId]], Iterator[tuple[ChunkId, Brought[T] | BackitError]]]


@dataclass(slots=True)
class _Flight:
    """A chunk on its way."""

    landed: trio.Event = field(default_factory=trio.Event)
    error: BackitError | None = None


class Cache(Generic[T]):
    """For one kind of chunk. To be used on the trio thread."""

    def __init__(self, limit: int, nursery: trio.Nursery, patience: float) -> None:
        self.limit = limit
        self._nursery = nursery
        self._patience = patience
        self._held: OrderedDict[ChunkId, Brought[T]] = OrderedDict()
        self._flights: dict[ChunkId, _Flight] = {}
        self._awaited = 0
        self._threads = trio.CapacityLimiter(THREADS)
        self.size = 0

    @property
    def is_busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._flights)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for what is on its way."""
        return self._awaited > 0

    def get(self, chunk: ChunkId) -> T | None:
        """The chunk, if it is at hand."""
        found = self._held.get(chunk)
        if found is None:
            return None
        self._held.move_to_end(chunk)
        return found.value

    def is_near(self, chunk: ChunkId) -> bool:
        """Whether it is at hand or on its way."""
        return chunk in self._held or chunk in self._flights

    async def bring(self, fetch: Fetch[T], wanted: ChunkId, ahead: Sequence[ChunkId] = ()) -> T:
        """The chunk, fetched if need be, and in the same request those in `ahead`.

        Raises what is wrong with it; Unavailable when patience ends.
        """
        with trio.move_on_after(self._patience):
            # More than once only if it was dropped before this task ran again.
            while (found := self.get(wanted)) is None:
                flight = self._flights.get(wanted)
                if flight is None:
                    self.ask(fetch, [wanted, *ahead])
                    flight = self._flights[wanted]
                self._awaited += 1
                try:
                    await flight.landed.wait()
                finally:
                    self._awaited -= 1
                if flight.error is not None:
                    raise flight.error
            return found
        raise Unavailable(f"chunk {wanted}: no answer within {self._patience:g} s")

    def ask(self, fetch: Fetch[T], chunks: Sequence[ChunkId]) -> None:
        """Have these brought, those that are not near; nobody waits."""
        missing = [each for each in dict.fromkeys(chunks) if not self.is_near(each)]
        if missing:
            flights = {each: _Flight() for each in missing}
            self._flights |= flights
            self._nursery.start_soon(self._fly, fetch, flights)

    async def _fly(self, fetch: Fetch[T], flights: dict[ChunkId, _Flight]) -> None:
        token = trio.lowlevel.current_trio_token()
        deadline = trio.current_time() + self._patience
        pause = FIRST_PAUSE

        def collect(wanted: Sequence[ChunkId]) -> None:
            with suppress(trio.RunFinishedError):  # nobody is left to take it
                for chunk, brought in fetch(wanted):
                    token.run_sync_soon(self._land, chunk, brought)

        while wanted := [each for each, flight in flights.items() if not flight.landed.is_set()]:
            error: BackitError
            try:
                await trio.to_thread.run_sync(
                    collect, wanted, limiter=self._threads, abandon_on_cancel=True
                )
                error = NotFound("the appliance gave no answer")
            except Unavailable as failure:
                error = failure
                if trio.current_time() + pause < deadline:
                    await trio.sleep(pause)
                    pause = min(2 * pause, LAST_PAUSE)
                    continue
            except BackitError as failure:
                error = failure
            except Exception as failure:  # a bug must not end the mount
                log.exception("fetching %d chunks", len(wanted))
                error = Internal(f"fetching chunks: {failure!r}")
            for each in wanted:
                self._land(each, error)

    def _land(self, chunk: ChunkId, brought: Brought[T] | BackitError) -> None:
        flight = self._flights.pop(chunk, None)
        if flight is None:
            return  # given twice, or given up
        if isinstance(brought, BackitError):
            flight.error = brought
        else:
            self._held[chunk] = brought
            self.size += brought.cost
            while self.size > self.limit and len(self._held) > 1:
                _chunk, dropped = self._held.popitem(last=False)
                self.size -= dropped.cost
        flight.landed.set()
