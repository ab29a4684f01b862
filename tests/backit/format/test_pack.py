"""A pack's directory says where everything lies, or nothing."""

from __future__ import annotations

import struct
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto import primitives
from backit.crypto.keys import SigningKey
from backit.errors import BackitError, Damaged, Unsupported
from backit.format import pack, record, statement
from backit.format.magic import PACK_LIMIT, RECORD_LIMIT, STATEMENT_LIMIT, Kind
from backit.format.pack import Directory, Place
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import ChunkId, DomainId
from tests.backit.format.samples import ACCOUNT, BITS, flipped, sealed

PLAINTEXTS = st.lists(st.binary(max_size=20), unique=True, max_size=4)


@cache
def session() -> bytes:
    body = pb.SessionBody(
        session_id=bytes(16),
        device_id=bytes(16),
        domain_id=bytes(16),
        epoch=1,
        kem=1,
        commitment=bytes(32),
        sealed_key=bytes(80),
    )
    return statement.make(StatementKind.SESSION, ACCOUNT, 1, body, SigningKey(bytes(32))).encoded


def made(plaintexts: list[bytes]) -> bytes:
    """A whole pack, as whoever writes one puts it together."""
    whole = pack.encode_head(ACCOUNT, Kind.DATA, b"r" * 16)
    places: list[Place] = []
    for plaintext in plaintexts:
        encoded = sealed(plaintext)
        header = record.parse(encoded)
        places.append(Place(header.chunk, header.domain, len(whole), len(encoded)))
        whole += encoded
    return whole + pack.encode_end([session()], places, len(whole))


def read(encoded: bytes) -> Directory:
    foot = encoded[-pack.FOOT.size :]
    offset, length = pack.directory_range(foot, len(encoded))
    directory = encoded[offset : offset + length]
    return pack.parse_directory(encoded[: pack.HEAD.size], directory, foot)


@given(plaintexts=PLAINTEXTS)
def test_the_directory_finds_every_record(plaintexts: list[bytes]) -> None:
    encoded = made(plaintexts)
    found = read(encoded)
    assert (found.account, found.kind, found.sessions) == (ACCOUNT, Kind.DATA, (session(),))
    headers = [
        record.parse(encoded[place.offset : place.offset + place.length]) for place in found.places
    ]
    assert [header.chunk for header in headers] == [place.chunk for place in found.places]
    assert len(headers) == len(plaintexts)


@given(plaintexts=PLAINTEXTS, bit=BITS)
def test_a_flipped_bit_behind_the_records_is_refused(plaintexts: list[bytes], bit: int) -> None:
    encoded = made(plaintexts)
    offset, _length = pack.directory_range(encoded[-pack.FOOT.size :], len(encoded))
    with pytest.raises(Damaged):
        read(encoded[:offset] + flipped(encoded[offset:], bit))


@given(plaintexts=PLAINTEXTS, bit=BITS)
def test_a_flipped_bit_anywhere_changes_the_name(plaintexts: list[bytes], bit: int) -> None:
    encoded = made(plaintexts)
    assert primitives.digest(flipped(encoded, bit)) != primitives.digest(encoded)


@pytest.mark.parametrize("bit", range(64))
def test_a_flipped_bit_in_front_of_the_account_is_refused(bit: int) -> None:
    encoded = made([b"data"])
    if 8 * 5 <= bit < 8 * 5 + 2:
        return  # the kind: data where nodes are said to be is for whoever reads the records
    with pytest.raises((Damaged, Unsupported)):
        read(flipped(encoded[:8], bit) + encoded[8:])


@given(plaintexts=PLAINTEXTS, end=st.integers(0, 10_000))
def test_any_part_of_a_pack_is_refused(plaintexts: list[bytes], end: int) -> None:
    encoded = made(plaintexts)
    end %= len(encoded)
    for part in (encoded[:end], encoded[end + 1 :], encoded + b"\0"):
        with pytest.raises(BackitError):
            read(part)


@given(head=st.binary(max_size=50), directory=st.binary(max_size=200), foot=st.binary(max_size=60))
def test_garbage_is_refused(head: bytes, directory: bytes, foot: bytes) -> None:
    with pytest.raises(BackitError):
        pack.parse_directory(head, directory, foot)
    with pytest.raises(BackitError):
        pack.directory_range(foot, len(directory))


@given(listed=st.binary(max_size=300))
def test_a_directory_of_garbage_with_a_sound_hash_is_refused(listed: bytes) -> None:
    head = pack.encode_head(ACCOUNT, Kind.DATA, bytes(16))
    foot = pack.FOOT.pack(40, len(listed), primitives.digest(listed), b"BKPE")
    try:
        found = pack.parse_directory(head, listed, foot)
    except Damaged:
        return
    assert pack.encode_end(found.sessions, found.places, 40)[: len(listed)] == listed


def test_a_pack_above_the_limit_is_refused() -> None:
    foot = pack.FOOT.pack(PACK_LIMIT, 8, bytes(32), b"BKPE")
    with pytest.raises(Damaged):
        pack.directory_range(foot, PACK_LIMIT + 8 + pack.FOOT.size)


@pytest.mark.parametrize("length", [0, statement.BYTES_MIN - 1, STATEMENT_LIMIT + 1])
def test_a_session_statement_of_an_impossible_length_is_refused(length: int) -> None:
    head = pack.encode_head(ACCOUNT, Kind.DATA, bytes(16))
    end = pack.encode_end([bytes(length)], [], 40)
    with pytest.raises(Damaged, match="a session statement of"):
        pack.parse_directory(head, end[: -pack.FOOT.size], end[-pack.FOOT.size :])


@pytest.mark.parametrize("length", [0, record.BYTES_MIN - 1, RECORD_LIMIT + 1])
def test_a_place_no_record_fits_into_is_refused(length: int) -> None:
    head = pack.encode_head(ACCOUNT, Kind.DATA, bytes(16))
    place = Place(ChunkId(bytes(32)), DomainId(bytes(16)), 40, length)
    end = pack.encode_end([], [place], 40 + length)
    with pytest.raises(Damaged, match="where it cannot be"):
        pack.parse_directory(head, end[: -pack.FOOT.size], end[-pack.FOOT.size :])


def test_counting_what_is_not_there_takes_no_time() -> None:
    head = pack.encode_head(ACCOUNT, Kind.DATA, bytes(16))
    for listed in (b"\xff" * 8, struct.pack("<II", 0, 2**32 - 1)):
        foot = pack.FOOT.pack(40, len(listed), primitives.digest(listed), b"BKPE")
        with pytest.raises(Damaged):
            pack.parse_directory(head, listed, foot)
