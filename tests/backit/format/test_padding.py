"""A padded length says less than the length, and costs little."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backit.format.padding import STEP_MAX, padded_length

LENGTHS = st.integers(0, 2**40)


@given(length=LENGTHS)
def test_nothing_is_cut_off_and_at_most_an_eighth_is_added(length: int) -> None:
    assert length <= padded_length(length) <= length * 1.12 + 1


@given(length=LENGTHS)
def test_no_record_gets_a_quarter_of_a_kibibyte_of_zeros(length: int) -> None:
    assert padded_length(length) - length < STEP_MAX


@given(length=LENGTHS)
def test_a_padded_length_is_not_padded_again(length: int) -> None:
    assert padded_length(padded_length(length)) == padded_length(length)


@given(length=LENGTHS, more=st.integers(0, 10_000))
def test_a_longer_one_is_not_padded_to_less(length: int, more: int) -> None:
    assert padded_length(length) <= padded_length(length + more)


def test_the_lengths_below_16_kib_have_few_padded_ones() -> None:
    assert len({padded_length(length) for length in range(16 << 10)}) < 250


def test_a_mebibyte_of_lengths_has_one_padded_one_in_128() -> None:
    assert len({padded_length(length) for length in range(0, 1 << 20, 17)}) < 8300
