"""Promises of the memory that two processes share."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.client.arena import Arena, Stretches
from backit.format.magic import KIB, MIB

SIZE = 64 * KIB
# Lengths to take, or the place in the list of what is held of a stretch to give back.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, SIZE // 4)),
        st.tuples(st.just("give back"), st.integers(0, 50)),
    ),
    max_size=60,
)


def test_what_one_side_writes_the_other_reads() -> None:
    with ExitStack() as undo:
        ours = Arena.create(MIB)
        undo.callback(ours.close)
        ours.stretch(5000, 3)[:] = b"abc"
        with memoryview(Arena(ours.fd).stretch(4999, 5)) as seen:
            assert bytes(seen) == b"\0abc\0"


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, SIZE + 1), (SIZE, 1), (1, -1)])
def test_nothing_outside_is_reached(start: int, length: int) -> None:
    arena = Arena.create(SIZE)
    with pytest.raises(ValueError, match="bytes at"):
        arena.stretch(start, length)
    arena.close()


@given(steps=STEPS)
def test_no_two_share_a_byte_whoever_comes_and_goes(steps: list[tuple[str, int]]) -> None:
    stretches = Stretches(SIZE)
    held: list[tuple[int, int]] = []
    for step, number in steps:
        if step == "take":
            start = stretches.take(number)
            if start is not None:
                held.append((start, number))
        elif held:
            stretches.give_back(held.pop(number % len(held))[0])
        ends = [0, *(end for start, length in sorted(held) for end in (start, start + length))]
        assert ends == sorted(ends), "they follow one another"
        assert ends[-1] <= SIZE


@given(steps=STEPS)
def test_when_all_has_been_given_back_there_is_room_for_one_as_large_as_all(
    steps: list[tuple[str, int]],
) -> None:
    stretches = Stretches(SIZE)
    taken = [stretches.take(number) for _step, number in steps if number]
    for start in taken:
        if start is not None:
            stretches.give_back(start)
    assert stretches.take(SIZE) == 0
    assert stretches.take(1) is None


def test_the_lowest_is_taken_first() -> None:
    stretches = Stretches(SIZE)
    assert [stretches.take(4096) for _ in range(3)] == [0, 4096, 8192]
    stretches.give_back(4096)
    assert stretches.take(4097) == 12288, "it does not fit in between"
    assert stretches.take(1) == 4096


def test_what_was_never_taken_is_not_given_back() -> None:
    stretches = Stretches(SIZE)
    stretches.take(1)
    with pytest.raises(ValueError, match="starts at 4096"):
        stretches.give_back(4096)
