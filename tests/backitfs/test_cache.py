"""A chunk is fetched once however many want it, kept within bounds, and waited for so long."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from backit.errors import BackitError, Damaged, Internal, NotFound, Unavailable
from backitfs.cache import Brought, Cache
from tests.backit.engine.forests import chunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backit.ids import ChunkId


@dataclass
class Store:
    """Gives each chunk its own id as content; `fails` says what goes wrong, in turn."""

    asked: list[list[ChunkId]] = field(default_factory=list["list[ChunkId]"])
    fails: list[Exception] = field(default_factory=list[Exception])
    broken: dict[ChunkId, BackitError] = field(default_factory=dict["ChunkId", BackitError])
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def fetch(
        self, chunks: Sequence[ChunkId]
    ) -> Iterator[tuple[ChunkId, Brought[bytes] | BackitError]]:
        self.asked.append(list(chunks))
        assert self.gate.wait(60)
        if self.fails:
            raise self.fails.pop(0)
        for each in chunks:
            yield each, self.broken.get(each) or Brought(each.raw, 100)


def run(store: Store, limit: int = 1000, patience: float = 60.0) -> _Run:
    return _Run(store, limit, patience)


@dataclass
class _Run:
    store: Store
    limit: int
    patience: float

    def bring(self, *wanted: ChunkId, ahead: Sequence[ChunkId] = ()) -> Cache[bytes]:
        """Bring these at once, each in a task of its own."""

        async def main() -> Cache[bytes]:
            async with trio.open_nursery() as background:
                cache: Cache[bytes] = Cache(self.limit, background, self.patience)
                async with trio.open_nursery() as nursery:
                    for each in wanted:
                        nursery.start_soon(cache.bring, self.store.fetch, each, ahead)
                return cache

        return trio.run(main)


def test_many_who_want_a_chunk_fetch_it_once() -> None:
    store = Store()
    cache = run(store).bring(*[chunk(1)] * 20)
    assert store.asked == [[chunk(1)]]
    assert cache.get(chunk(1)) == chunk(1).raw


def test_it_is_known_whether_somebody_waits() -> None:
    store = Store()

    async def main() -> None:
        async with trio.open_nursery() as background:
            cache: Cache[bytes] = Cache(1000, background, 60.0)
            store.gate.clear()
            cache.ask(store.fetch, [chunk(1)])
            await trio.testing.wait_all_tasks_blocked()
            assert (cache.is_busy, cache.is_awaited) == (True, False)
            background.start_soon(cache.bring, store.fetch, chunk(1))
            await trio.testing.wait_all_tasks_blocked()
            assert cache.is_awaited
            store.gate.set()
            await cache.bring(store.fetch, chunk(1))
            await trio.testing.wait_all_tasks_blocked()
            assert not cache.is_awaited

    trio.run(main)


def test_what_was_used_longest_ago_goes_first() -> None:
    store = Store()

    async def main() -> list[int]:
        async with trio.open_nursery() as background:
            cache: Cache[bytes] = Cache(300, background, 60)
            for number in (1, 2, 3):
                await cache.bring(store.fetch, chunk(number))
            cache.get(chunk(1))
            await cache.bring(store.fetch, chunk(4))
            assert cache.size == 300
            return [number for number in (1, 2, 3, 4) if cache.get(chunk(number))]

    assert trio.run(main) == [1, 3, 4]


def test_a_chunk_larger_than_the_cache_is_given_all_the_same() -> None:
    cache = run(Store(), limit=1).bring(chunk(1))
    assert cache.get(chunk(1)) is not None


def test_what_is_asked_ahead_comes_in_the_same_request() -> None:
    store = Store()
    run(store).bring(chunk(1), ahead=[chunk(2), chunk(3), chunk(2)])
    assert store.asked == [[chunk(1), chunk(2), chunk(3)]]


def test_a_fetch_is_repeated_while_the_appliance_is_away() -> None:
    store = Store(fails=[Unavailable("away"), Unavailable("still away")])
    cache = run(store).bring(chunk(1))
    assert cache.get(chunk(1)) is not None
    assert len(store.asked) == 3


def refused(store: Store, patience: float = 60.0) -> BackitError:
    """What is wrong with a chunk that cannot be had."""

    async def main() -> BackitError | None:
        async with trio.open_nursery() as background:
            cache: Cache[bytes] = Cache(1000, background, patience)
            try:
                await cache.bring(store.fetch, chunk(1))
            except BackitError as error:
                return error
        return None

    found = trio.run(main)
    assert found is not None
    return found


def test_patience_ends() -> None:
    store = Store(fails=[Unavailable("away") for _ in range(1000)])
    assert isinstance(refused(store, patience=0.3), Unavailable)


def test_an_appliance_that_says_nothing_is_not_waited_for_longer() -> None:
    store = Store()
    store.gate.clear()
    try:
        threading.Timer(1.0, store.gate.set).start()
        assert "no answer" in str(refused(store, patience=0.1))
    finally:
        store.gate.set()


def test_a_damaged_chunk_is_an_error_for_those_who_want_it_alone() -> None:
    store = Store(broken={chunk(1): Damaged("chunk 1: bits")})
    assert isinstance(refused(store), Damaged)
    assert run(store).bring(chunk(2), ahead=[chunk(1)]).get(chunk(2)) is not None


def test_a_chunk_that_is_not_given_is_not_found() -> None:
    class Silent(Store):
        def fetch(
            self, chunks: Sequence[ChunkId]
        ) -> Iterator[tuple[ChunkId, Brought[bytes] | BackitError]]:
            yield from ()

    assert isinstance(refused(Silent()), NotFound)


@pytest.mark.logs_warnings
def test_a_bug_is_an_error_and_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(refused(Store(fails=[ValueError("bug")])), Internal)
    assert "bug" in caplog.text
