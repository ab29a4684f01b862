"""Recovery kits: what is printed can be typed, and nothing else opens anything."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.client import kit
from backit.errors import Invalid

if TYPE_CHECKING:
    import random

SECRETS = st.binary(min_size=32, max_size=32)


def sheet(secret: bytes) -> kit.Kit:
    return kit.Kit(secret, "anna", "tcp:box:7443", bytes(range(32)))


@given(SECRETS)
def test_the_words_are_the_secret(secret: bytes) -> None:
    words = sheet(secret).words()
    assert len(words) == kit.WORDS
    assert kit.parse(" ".join(words)) == secret


@given(SECRETS)
def test_words_are_read_as_people_type_them(secret: bytes) -> None:
    words = sheet(secret).words()
    typed = "\n".join(f" {i}.\t{word.upper()}," for i, word in enumerate(words, 1))
    assert kit.parse(typed) == secret


@given(SECRETS, st.randoms(use_true_random=False))
def test_swapped_words_are_noticed_or_change_nothing(secret: bytes, chance: random.Random) -> None:
    words = sheet(secret).words()
    i, j = chance.sample(range(kit.WORDS), 2)
    words[i], words[j] = words[j], words[i]
    try:
        found = kit.parse(" ".join(words))
    except Invalid:
        return
    # The checksum has 8 bits: one swap in 256 passes, and then it is another secret.
    assert (found == secret) == (words[i] == words[j])


def test_a_word_that_is_none_is_named_by_its_place_alone() -> None:
    words = sheet(bytes(32)).words()
    words[6] = "qwertyuiop"
    with pytest.raises(Invalid, match="word 7") as caught:
        kit.parse(" ".join(words))
    assert not any(word in str(caught.value).split() for word in ("qwertyuiop", "abandon"))


@pytest.mark.parametrize("count", [0, 12, 23, 25])
def test_too_few_or_too_many_words_are_refused(count: int) -> None:
    with pytest.raises(Invalid, match="24 words"):
        kit.parse("abandon " * count)


def test_the_sheet_fits_on_paper_and_says_where() -> None:
    text = sheet(bytes(range(32))).text("2026-03-01")
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("anna", "tcp:box:7443", "2026-03-01", bytes(range(16)).hex()):
        assert part in text


def test_the_words_on_the_sheet_are_those_of_the_kit() -> None:
    found = sheet(os.urandom(32))
    numbered = re.findall(r"\d\. [a-z]+", found.text("today"))
    assert kit.parse(" ".join(numbered)) == found.secret


def test_a_kit_prints_without_its_secret() -> None:
    secret = os.urandom(32)
    assert secret.hex() not in repr(sheet(secret))
    assert repr(secret) not in repr(sheet(secret))
