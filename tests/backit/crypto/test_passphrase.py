"""Passwords are stretched at a price that nobody can talk down, or up."""

from __future__ import annotations

import pytest

from backit.crypto.passphrase import CEILING, FLOOR, STANDARD, Cost, stretch
from backit.errors import Invalid, Refused

SALT = bytes(16)


def test_the_same_password_gives_the_same_secret_however_it_is_composed() -> None:
    composed = stretch("Gr\u00fc\u00dfe", SALT, FLOOR)
    assert stretch("Gru\u0308\u00dfe", SALT, FLOOR) == composed
    assert stretch("Gr\u00fc\u00dfe", b"\1" * 16, FLOOR) != composed
    assert len(composed) == 32


def test_what_we_ask_for_lies_between_floor_and_ceiling() -> None:
    assert FLOOR.memory_kib <= STANDARD.memory_kib <= CEILING.memory_kib
    assert FLOOR.passes <= STANDARD.passes <= CEILING.passes


@pytest.mark.parametrize(
    "cost",
    [
        Cost(FLOOR.memory_kib - 1, FLOOR.passes),
        Cost(FLOOR.memory_kib, FLOOR.passes - 1),
        Cost(CEILING.memory_kib + 1, FLOOR.passes),
        Cost(FLOOR.memory_kib, CEILING.passes + 1),
        Cost(0, 0),
    ],
)
def test_a_cost_outside_of_the_limits_is_refused(cost: Cost) -> None:
    with pytest.raises(Refused):
        stretch("password", SALT, cost)


def test_a_password_that_is_no_text_is_refused() -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        stretch("pass\udcffword", SALT, FLOOR)


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(Invalid, match="empty"):
        stretch("", SALT, FLOOR)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_salt_of_a_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(Invalid, match="a salt has 16 bytes"):
        stretch("password", bytes(length), FLOOR)
