"""Nobody has all threads of a pool, nobody waits for ever, and what fails is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

import pytest

from backitd.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT = 100.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as found:
        yield found


def test_a_lane_is_no_wider_than_it_is(pool: ThreadPoolExecutor) -> None:
    lanes, go_on, started = Lanes(pool, 3), threading.Event(), threading.Semaphore(0)

    def hold() -> bool:
        started.release()
        return go_on.wait(WAIT)

    held = [lanes.lane(b"greedy").submit(hold) for _ in range(10)]
    assert all(started.acquire(timeout=WAIT) for _ in range(3))
    # The fourth thread is there for somebody else; behind them nothing of the lane has begun.
    assert lanes.lane(b"other").submit(lambda: 7).result(WAIT) == 7
    assert not started.acquire(blocking=False)
    go_on.set()
    assert all(future.result(WAIT) for future in held)


def test_all_that_waits_is_done_in_its_order(pool: ThreadPoolExecutor) -> None:
    lanes, done = Lanes(pool, 1), list[int]()
    lane = lanes.lane(b"one")
    wait([lane.submit(done.append, number) for number in range(100)], WAIT)
    assert done == list(range(100))


def test_what_fails_is_told_and_frees_its_thread(pool: ThreadPoolExecutor) -> None:
    lane = Lanes(pool, 1).lane(b"one")
    failing = [lane.submit(partial(int, "none")) for _ in range(20)]
    for future in failing:
        with pytest.raises(ValueError, match="none"):
            future.result(WAIT)
    assert lane.submit(lambda: 7).result(WAIT) == 7


def test_what_was_called_off_while_it_waited_does_not_run(pool: ThreadPoolExecutor) -> None:
    lane, go_on, ran = Lanes(pool, 1).lane(b"one"), threading.Event(), list[int]()
    first = lane.submit(go_on.wait, WAIT)
    second, third = lane.submit(ran.append, 2), lane.submit(ran.append, 3)
    assert second.cancel()
    go_on.set()
    assert first.result(WAIT)
    third.result(WAIT)
    assert ran == [3]


def test_a_pool_that_is_shut_down_calls_off_what_waits() -> None:
    pool = ThreadPoolExecutor(1)
    lane = Lanes(pool, 1).lane(b"one")
    pool.shutdown()
    assert lane.submit(lambda: 7).cancelled()
