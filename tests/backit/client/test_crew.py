"""A crew does all that it is given, within its memory, and ends with the first error."""

import threading
from threading import Event

import pytest

from backit.client.crew import Crew


def test_all_work_is_done_before_a_drain_ends() -> None:
    crew = Crew(3, 100, Event())
    done: list[int] = []
    for number in range(200):
        crew.submit(10, done.append, number)
    crew.drain()
    assert sorted(done) == list(range(200))
    crew.dismiss()


def test_no_more_bytes_are_held_than_agreed() -> None:
    crew = Crew(2, 100, Event())
    lock = threading.Lock()
    held = most = 0

    def work(size: int) -> None:
        nonlocal held
        with lock:
            held -= size

    for number in range(300):
        size = 1 + number * 37 % 60
        with lock:
            held += size
        crew.submit(size, work, size)
        with lock:
            most = max(most, held)
    crew.drain()
    crew.dismiss()
    # What was just submitted, and what was done but not yet counted as free by its thread.
    assert most <= 100 + 2 * 60


def test_a_single_piece_larger_than_the_memory_is_taken() -> None:
    crew = Crew(1, 10, Event())
    done: list[int] = []
    crew.submit(1_000, done.append, 1)
    crew.submit(1_000, done.append, 2)
    crew.drain()
    crew.dismiss()
    assert done == [1, 2]


def test_an_error_ends_the_run_and_drops_what_waits() -> None:
    crew = Crew(1, 1000, Event())
    gate = Event()
    done: list[int] = []

    def fail() -> None:
        gate.wait(30)
        raise OSError("broken")

    crew.submit(1, fail)
    for number in range(5):
        crew.submit(1, done.append, number)
    gate.set()
    with pytest.raises(OSError, match="broken"):
        crew.drain()
    with pytest.raises(OSError, match="broken"):
        crew.submit(1, done.append, 9)
    crew.dismiss()
    assert done == []


def test_an_error_wakes_who_waits_for_room() -> None:
    crew = Crew(1, 10, Event())
    gate = Event()

    def fail() -> None:
        gate.wait(30)
        raise ValueError("broken")

    crew.submit(10, fail)
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(ValueError, match="broken"):
        crew.submit(10, print)
    crew.dismiss()


def test_a_stop_is_an_interrupt() -> None:
    stop = Event()
    crew = Crew(1, 10, stop)
    crew.check()
    stop.set()
    for call in (crew.check, crew.drain, lambda: crew.submit(1, print)):
        with pytest.raises(KeyboardInterrupt):
            call()
    crew.dismiss()


def test_each_keeps_the_order() -> None:
    crew = Crew(4, 10, Event())
    assert crew.each(lambda number: number * 2, range(50)) == [2 * number for number in range(50)]
    crew.dismiss()
    assert [t for t in threading.enumerate() if t.name.startswith("restore")] == []
