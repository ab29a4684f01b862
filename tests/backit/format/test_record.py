"""A record opens as it was sealed, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto import primitives
from backit.crypto.keys import DomainKeys
from backit.errors import BackitError, Damaged, Invalid, RecordInvalid, Unsupported
from backit.format import record
from backit.format.magic import PLAINTEXT_LIMIT, RECORD_LIMIT, REFERENCES_LIMIT, Kind
from backit.format.padding import padded_length
from backit.format.record import Plain
from backit.ids import ChunkId
from tests.backit.format.samples import (
    BITS,
    COMPRESSOR,
    KEY,
    KEYS,
    NONCE,
    PLAINTEXTS,
    SUITES,
    TABLES,
    chunk_of,
    flipped,
    noise,
    seal_of,
    sealed,
)

if TYPE_CHECKING:
    from backit.crypto.primitives import Suite

Table = list[ChunkId] | None


def opened(encoded: bytes, wanted: ChunkId) -> Plain:
    return record.open_record(encoded, wanted, KEY, KEYS)


@given(plaintext=PLAINTEXTS, table=TABLES, suite=SUITES)
def test_what_is_sealed_opens(plaintext: bytes, table: Table, suite: Suite) -> None:
    encoded = sealed(plaintext, table, suite)
    kind = Kind.DATA if table is None else Kind.NODE
    assert opened(encoded, chunk_of(plaintext, table)) == Plain(kind, tuple(table or ()), plaintext)
    header = record.parse(encoded)
    assert (header.kind, header.suite, header.record_bytes) == (kind, suite, len(encoded))
    assert record.references(encoded, header) == tuple(table or ())


@given(plaintext=PLAINTEXTS, table=TABLES, suite=SUITES, bit=BITS)
def test_a_flipped_bit_is_refused(plaintext: bytes, table: Table, suite: Suite, bit: int) -> None:
    encoded = sealed(plaintext, table, suite)
    changed = flipped(encoded, bit)
    with pytest.raises((RecordInvalid, Unsupported)):
        record.parse(changed)
    chunk = chunk_of(plaintext, table)
    if changed[:-32] == encoded[:-32]:
        # The hash is for those without the key; what it is the hash of opens as it was sealed.
        assert opened(changed, chunk) == opened(encoded, chunk)
    else:
        with pytest.raises((Damaged, Unsupported)):
            opened(changed, chunk)


@given(plaintext=PLAINTEXTS, table=TABLES, suite=SUITES, bit=BITS)
def test_a_flipped_bit_is_refused_although_the_hash_is_made_to_fit(
    plaintext: bytes, table: Table, suite: Suite, bit: int
) -> None:
    body = flipped(sealed(plaintext, table, suite)[:-32], bit)
    encoded = body + primitives.digest(body)
    with pytest.raises((Damaged, Unsupported)):
        opened(encoded, chunk_of(plaintext, table))


@given(plaintext=PLAINTEXTS, table=TABLES, suite=SUITES, end=st.integers(0, 10_000))
def test_any_part_of_a_record_is_refused(
    plaintext: bytes, table: Table, suite: Suite, end: int
) -> None:
    encoded = sealed(plaintext, table, suite)
    end %= len(encoded)
    for part in (encoded[:end], encoded[end + 1 :], encoded + encoded[:1]):
        with pytest.raises((RecordInvalid, Unsupported)):
            record.parse(part)
        with pytest.raises((Damaged, Unsupported)):
            opened(part, chunk_of(plaintext, table))


@given(data=st.binary(max_size=400), kind=st.integers(0, 3), suite=st.integers(0, 3))
def test_garbage_is_refused(data: bytes, kind: int, suite: int) -> None:
    for garbage in (data, b"BKRC\1" + bytes([suite, kind, 0]) + data):
        with pytest.raises(BackitError):
            record.parse(garbage)
        with pytest.raises(BackitError):
            opened(garbage, chunk_of(b""))


@given(plaintext=PLAINTEXTS, table=TABLES)
def test_a_record_opens_only_as_the_chunk_that_it_is(plaintext: bytes, table: Table) -> None:
    with pytest.raises(Damaged, match="the record is of chunk"):
        opened(sealed(plaintext, table), ChunkId(bytes(32)))


def test_a_record_of_another_domain_is_not_opened() -> None:
    other = DomainKeys(type(KEYS.domain)(bytes(16)), KEYS.secret)
    with pytest.raises(Damaged):
        record.open_record(sealed(b"data"), chunk_of(b"data"), KEY, other)


@pytest.mark.parametrize("key", [bytes(32), b"", KEY[:31]])
def test_another_key_opens_nothing(key: bytes) -> None:
    with pytest.raises(Damaged):
        record.open_record(sealed(b"data"), chunk_of(b"data"), key, KEYS)


def test_a_chunk_above_the_limit_is_not_sealed() -> None:
    with pytest.raises(Invalid, match="are more than"):
        sealed(bytes(PLAINTEXT_LIMIT + 1))


def test_the_largest_node_fits_into_a_record() -> None:
    plaintext = noise(PLAINTEXT_LIMIT)
    table = [ChunkId(n.to_bytes(32, "big")) for n in range(REFERENCES_LIMIT)]
    encoded = sealed(plaintext, table)
    assert len(encoded) <= RECORD_LIMIT
    assert opened(encoded, chunk_of(plaintext, table)).plaintext == plaintext


@pytest.mark.parametrize(
    "numbers", [[2, 1], [1, 1], range(REFERENCES_LIMIT + 1)], ids=["unsorted", "twice", "many"]
)
def test_a_table_that_no_reader_takes_is_not_sealed(numbers: list[int]) -> None:
    table = [ChunkId(n.to_bytes(32, "big")) for n in numbers]
    with pytest.raises(Invalid, match="too many, or not ascending"):
        sealed(b"", table)


def test_equal_chunks_under_other_nonces_are_other_records() -> None:
    plaintext = b"data"
    other = bytes(
        record.seal_record(
            seal_of(), chunk_of(plaintext), plaintext, nonce=bytes(32), compressor=COMPRESSOR
        )
    )
    assert other != sealed(plaintext)
    assert opened(other, chunk_of(plaintext)) == opened(sealed(plaintext), chunk_of(plaintext))


@given(length=st.integers(0, 3000))
def test_the_clear_length_is_a_padded_one(length: int) -> None:
    clear = len(sealed(noise(length))) - record.HEAD.size - 32 - 32
    assert clear == padded_length(record.FRAME.size + length)


def test_the_parts_of_a_window_are_sealed_like_bytes() -> None:
    window = memoryview(bytearray(b"..data.."))[2:6]
    encoded = bytes(
        record.seal_record(seal_of(), chunk_of(b"data"), window, nonce=NONCE, compressor=COMPRESSOR)
    )
    assert encoded == sealed(b"data")
    assert record.parse(bytearray(encoded)) == record.parse(memoryview(encoded))
