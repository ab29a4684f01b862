"""Whoever waits for requests has them in turn, and nobody is left waiting for one that has come."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import trio
import trio.testing

from backitfs import turns
from backitfs.turns import BURST, Requests, Turn

if TYPE_CHECKING:
    import pytest


def test_a_turn_is_one_tasks_at_a_time_and_everybody_has_one() -> None:
    async def main() -> list[int]:
        turn, inside, had = Turn(), list[int](), list[int]()

        async def work(number: int) -> None:
            for _ in range(5):
                async with turn:
                    inside.append(number)
                    assert inside == [number]
                    await trio.lowlevel.checkpoint()
                    inside.remove(number)
                had.append(number)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(work, number)
        return had

    had = trio.run(main)
    assert sorted(had) == sorted(list(range(4)) * 5)


def test_who_goes_on_waiting_for_something_lets_another_have_the_turn() -> None:
    async def main() -> list[str]:
        turn, told = Turn(), list[str]()
        answer = trio.Event()

        async def slow() -> None:
            async with turn:
                told.append("slow has it")
            await answer.wait()
            told.append("slow is answered")

        async def other() -> None:
            async with turn:
                told.append("other has it")
                answer.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            nursery.start_soon(other)
        return told

    told = trio.run(main)
    assert told[-1] == "slow is answered"
    assert set(told) == {"slow has it", "other has it", "slow is answered"}


def test_a_request_is_seen_whether_it_comes_before_or_while_somebody_waits() -> None:
    async def main() -> None:
        read, write = os.pipe()
        for is_quiet in (True, False):
            requests = Requests(partial(bool, is_quiet), lambda: False)
            os.write(write, b"1")
            await requests.wait(read)
            os.read(read, 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(requests.wait, read)
                await trio.lowlevel.checkpoint()
                os.write(write, b"2")
            os.read(read, 1)
        os.close(read)
        os.close(write)

    trio.run(main)


def test_nothing_is_looked_for_awake_while_a_request_waits_for_a_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "AWAKE_NS", 1_000_000_000_000)

    async def main() -> None:
        read, write = os.pipe()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Requests(lambda: True, lambda: True).wait, read)
            await trio.testing.wait_all_tasks_blocked()  # a thousand seconds later otherwise
            os.write(write, b"1")
        os.close(read)
        os.close(write)

    trio.run(main)


def test_others_have_their_turn_however_many_requests_come() -> None:
    async def main() -> int:
        read, write = os.pipe()
        os.write(write, b"always something to read")
        requests, done = Requests(lambda: True, lambda: False), trio.Event()
        count = 0

        async def other() -> None:
            await trio.lowlevel.checkpoint()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while not done.is_set():
                await requests.wait(read)
                count += 1
        os.close(read)
        os.close(write)
        return count

    assert trio.run(main) <= 4 * BURST
