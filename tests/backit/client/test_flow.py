"""Promises of what bounds and ends background work: gates open, queues empty, nobody waits."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from backit.client.flow import ByteGate, Handfuls, Promises
from backit.errors import Unavailable
from tests.backitd.daemons import wait_until


def test_a_promise_is_kept_once() -> None:
    promises = Promises()
    promise: Future[int] = promises.new()
    promises.keep(promise, 1)
    promises.keep(promise, 2)
    assert promise.result() == 1


def test_all_open_promises_fail_with_the_first_failure_and_so_do_later_ones() -> None:
    promises = Promises()
    kept, broken = promises.new(), promises.new()
    promises.keep(kept, "kept")
    first = Unavailable("first")
    promises.fail(first)
    promises.fail(Unavailable("second"))
    promises.keep(broken, "too late")
    assert promises.failure is first
    assert kept.result() == "kept"
    assert broken.exception() is first
    assert promises.new().exception() is first


def test_whoever_is_told_may_ask_for_a_promise() -> None:
    """A lock was held while callbacks ran."""
    promises = Promises()
    promise: Future[int] = promises.new()
    asked: list[Future[int]] = []

    def ask(_done: Future[int]) -> None:
        with ThreadPoolExecutor(1) as pool:
            asked.append(pool.submit(promises.new).result(30))

    promise.add_done_callback(ask)
    promises.keep(promise, 1)
    assert not asked[0].done()


@pytest.mark.parametrize("seed", range(5))
def test_promises_kept_and_failed_at_once_are_all_settled(seed: int) -> None:
    promises = Promises()
    made: list[Future[int]] = [promises.new() for _ in range(300)]
    numbers = random.Random(seed)
    order = numbers.sample(range(300), 300)
    with ThreadPoolExecutor(4) as pool:
        for start in range(3):
            for index in order[start::3]:
                pool.submit(promises.keep, made[index], index)
        pool.submit(promises.fail, Unavailable("now"))
    assert all(promise.done() for promise in made)
    assert all(
        promise.exception() is promises.failure or promise.result() == index
        for index, promise in enumerate(made)
    )


def entering(gate: ByteGate, size: int) -> tuple[threading.Thread, threading.Event]:
    """A thread that enters, and whether it has."""
    inside = threading.Event()

    def enter() -> None:
        gate.enter(size)
        inside.set()

    thread = threading.Thread(target=enter)
    thread.start()
    return thread, inside


def test_what_fits_goes_through_and_the_rest_waits() -> None:
    gate = ByteGate(100)
    gate.enter(60)
    gate.enter(40)
    thread, inside = entering(gate, 1)
    assert not inside.wait(0.05)
    gate.leave(40)
    thread.join(30)
    assert inside.is_set()


def test_more_than_the_limit_goes_through_alone() -> None:
    gate = ByteGate(100)
    gate.enter(500)
    thread, inside = entering(gate, 1)
    assert not inside.wait(0.05)
    gate.leave(500)
    thread.join(30)
    gate.leave(1)
    gate.enter(1)
    thread, inside = entering(gate, 500)
    assert not inside.wait(0.05)
    gate.leave(1)
    thread.join(30)
    assert inside.is_set()


def test_an_open_gate_holds_nobody() -> None:
    gate = ByteGate(100)
    gate.enter(100)
    waiting = [entering(gate, 50) for _ in range(3)]
    gate.open()
    for thread, inside in waiting:
        thread.join(30)
        assert inside.is_set()
    gate.enter(1000)
    wait_until(lambda: all(not thread.is_alive() for thread, _inside in waiting))


def handfuls(*, enough: int = 100, seconds: float = 60.0, most: int = 10) -> Handfuls[int]:
    return Handfuls(enough=enough, seconds=seconds, most=most)


def test_a_handful_is_taken_once_enough_has_come() -> None:
    queue = handfuls()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(queue.take)
        for number in range(3):
            queue.put(number, 40)
        assert taken.result(30) == [0, 1, 2]


def test_a_handful_is_taken_once_it_has_many() -> None:
    queue = handfuls(most=3)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(queue.take)
        for number in range(3):
            queue.put(number)
        assert taken.result(30) == [0, 1, 2]


def test_little_is_taken_after_a_moment() -> None:
    queue = handfuls(seconds=0.001)
    queue.put(1, 1)
    assert queue.take() == [1]


def test_little_is_taken_at_once_in_a_hurry_or_when_no_more_will_come() -> None:
    for tell in (Handfuls[int].hurry, Handfuls[int].close):
        queue = handfuls()
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(queue.take)
            queue.put(1, 1)
            tell(queue)
            assert taken.result(30) == [1]


def test_what_is_more_than_a_handful_stays_in_order() -> None:
    queue = handfuls(most=3)
    for number, size in enumerate((60, 60, 60, 1, 1, 1, 1)):
        queue.put(number, size)
    queue.close()
    assert [queue.take() for _ in range(4)] == [[0, 1], [2, 3, 4], [5, 6], []]


def test_one_that_is_enough_alone_is_a_handful() -> None:
    queue = handfuls()
    queue.put(1, 1000)
    queue.put(2, 1000)
    assert (queue.take(), queue.take()) == ([1], [2])


def test_nothing_comes_and_nothing_more_are_different_answers() -> None:
    queue = handfuls()
    assert queue.take(0.001) is None
    queue.close()
    assert queue.take(60) == []


@pytest.mark.parametrize("seed", range(5))
def test_all_that_was_put_is_taken_in_order(seed: int) -> None:
    numbers = random.Random(seed)
    queue = handfuls(seconds=0.001, most=numbers.randrange(1, 20))
    sizes = [numbers.choice((0, 1, 30, 99, 250)) for _ in range(2000)]

    def put() -> None:
        for number, size in enumerate(sizes):
            queue.put(number, size)
        queue.close()

    taken: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(put)
        while handful := queue.take():
            taken += handful
        putting.result()
    assert taken == list(range(2000))
