"""Large files are cut by their content: however they are fed, and after a change as before."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from backit.crypto.keys import DomainKeys
from backit.engine.chunker import CUT_MAX, CUT_MIN, Chunker
from backit.format.magic import KIB, MIB
from backit.ids import DomainId

KEYS = DomainKeys(DomainId(bytes(16)), b"s" * 32)
DATA = blake3(b"chunker").digest(24 * MIB + 321)


def whole(data: bytes, keys: DomainKeys = KEYS) -> list[bytes]:
    return [bytes(chunk) for chunk in Chunker(keys).cut(memoryview(data), is_last=True)]


def fed(data: bytes, window: int) -> list[bytes]:
    """As a reader does it: what is left behind the last cut is the front of the next window."""
    chunker = Chunker(KEYS)
    chunks: list[bytes] = []
    rest = b""
    for start in range(0, len(data), window):
        view = memoryview(rest + data[start : start + window])
        is_last = start + window >= len(data)
        found = [bytes(chunk) for chunk in chunker.cut(view, is_last=is_last)]
        chunks += found
        rest = bytes(view[sum(len(chunk) for chunk in found) :])
    assert not rest
    return chunks


BEFORE = whole(DATA)


def test_nothing_is_lost_and_no_chunk_is_too_long_or_too_short() -> None:
    chunks = whole(DATA)
    assert b"".join(chunks) == DATA
    assert all(CUT_MIN <= len(chunk) <= CUT_MAX for chunk in chunks[:-1])
    assert len(chunks[-1]) <= CUT_MAX
    assert 12 <= len(chunks) <= 48


@pytest.mark.parametrize("window", [100 * KIB + 1, 4 * MIB, 8 * MIB, 9 * MIB + 77])
def test_windows_do_not_move_the_cuts(window: int) -> None:
    assert fed(DATA, window) == whole(DATA)


def test_a_constant_file_is_cut_at_the_limit() -> None:
    data = bytes(9 * MIB)
    assert [len(chunk) for chunk in whole(data)] == [CUT_MAX, CUT_MAX, MIB]
    assert fed(data, 5 * MIB) == whole(data)


def test_only_what_later_bytes_cannot_move_is_cut_before_the_end() -> None:
    chunker = Chunker(KEYS)
    assert [len(each) for each in chunker.cut(memoryview(bytes(CUT_MAX)), is_last=False)] == [
        CUT_MAX
    ]
    assert chunker.cut(memoryview(bytes(CUT_MAX - 1)), is_last=False) == []


@pytest.mark.parametrize("length", [0, 1, CUT_MIN])
def test_short_data_is_one_chunk_at_most(length: int) -> None:
    assert whole(DATA[:length]) == ([DATA[:length]] if length else [])


@settings(max_examples=10)
@given(place=st.integers(0, len(DATA)), extra=st.binary(min_size=1, max_size=5))
def test_an_insertion_moves_only_the_cuts_near_it(place: int, extra: bytes) -> None:
    before = set(BEFORE)
    after = whole(DATA[:place] + extra + DATA[place:])
    assert sum(chunk not in before for chunk in after) <= 6


def test_another_domain_cuts_elsewhere() -> None:
    other = DomainKeys(DomainId(bytes(16)), bytes(32))
    assert len(set(whole(DATA)) & set(whole(DATA, other))) <= 1
