"""Promises of what bounds and ends background work: gates open, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from backit.client.flow import ByteGate, Promises
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
