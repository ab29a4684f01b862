"""Padmé says little about a length, and adds little to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backit.format.padding import padme

LENGTHS = st.integers(0, 2**40)


@given(length=LENGTHS)
def test_nothing_is_cut_off_and_at_most_an_eighth_is_added(length: int) -> None:
    assert length <= padme(length) <= length * 1.12 + 1


@given(length=LENGTHS)
def test_a_padded_length_is_not_padded_again(length: int) -> None:
    assert padme(padme(length)) == padme(length)


@given(length=LENGTHS, more=st.integers(0, 10_000))
def test_a_longer_one_is_not_padded_to_less(length: int, more: int) -> None:
    assert padme(length) <= padme(length + more)


def test_a_mebibyte_of_lengths_has_few_padded_ones() -> None:
    assert len({padme(length) for length in range(0, 1 << 20, 17)}) < 400
