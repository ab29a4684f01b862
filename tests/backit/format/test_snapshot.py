"""The sealed part of a snapshot opens behind its own header, as it was sealed, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto import primitives
from backit.crypto.keys import SigningKey
from backit.crypto.primitives import Suite
from backit.errors import Damaged, Invalid
from backit.format import snapshot, statement
from backit.format.magic import SNAPSHOT_BODY_LIMIT
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from tests.backit.format.samples import ACCOUNT, BITS, KEY, NONCE, SUITES, flipped

if TYPE_CHECKING:
    from backit.format.statement import Statement

DEVICE = SigningKey(b"e" * 32)
BODIES = st.builds(
    pb.SnapshotBody,
    sources=st.lists(st.binary(max_size=20), max_size=3),
    started=st.integers(0, 2**63 - 1),
    host=st.text(max_size=20),
    tags=st.lists(st.text(max_size=10), max_size=3),
)


def fields(sealed: bytes = b"") -> pb.SnapshotHeaderBody:
    return pb.SnapshotHeaderBody(
        device_id=b"e" * 16,
        series_id=b"s" * 16,
        session_id=b"x" * 16,
        domain_id=b"d" * 16,
        root=bytes(32),
        sealed_hash=primitives.digest(sealed),
    )


def header_for(sealed: bytes) -> Statement:
    return statement.make(StatementKind.SNAPSHOT, ACCOUNT, 1, fields(sealed), DEVICE)


def seal(body: pb.SnapshotBody, suite: Suite = Suite.AEGIS256, number: int = 1) -> bytes:
    associated = snapshot.body_context(ACCOUNT, fields(), number)
    return snapshot.seal_body(body, associated, suite=suite, key=KEY, nonce=NONCE)


@given(body=BODIES, suite=SUITES)
def test_what_is_sealed_opens(body: pb.SnapshotBody, suite: Suite) -> None:
    sealed = seal(body, suite)
    assert snapshot.open_body(header_for(sealed), sealed, KEY) == body


@given(body=BODIES, suite=SUITES, bit=BITS)
def test_a_flipped_bit_is_refused(body: pb.SnapshotBody, suite: Suite, bit: int) -> None:
    sealed = seal(body, suite)
    changed = flipped(sealed, bit)
    for header in (header_for(sealed), header_for(changed)):
        with pytest.raises(Damaged, match=f"snapshot {snapshot.snapshot_id(header)}"):
            snapshot.open_body(header, changed, KEY)


@given(body=BODIES, suite=SUITES, end=st.integers(0, 1000))
def test_any_part_of_a_body_is_refused(body: pb.SnapshotBody, suite: Suite, end: int) -> None:
    sealed = seal(body, suite)
    end %= len(sealed)
    for part in (sealed[:end], sealed[end + 1 :], sealed + b"\0"):
        with pytest.raises(Damaged):
            snapshot.open_body(header_for(part), part, KEY)


@given(data=st.binary(max_size=200), suite=st.integers(0, 3))
def test_garbage_is_refused(data: bytes, suite: int) -> None:
    for garbage in (data, bytes([suite]) + data):
        with pytest.raises(Damaged):
            snapshot.open_body(header_for(garbage), garbage, KEY)


@given(few=BODIES, many=st.integers(0, 30))
def test_the_size_of_a_body_does_not_count_what_is_in_it(few: pb.SnapshotBody, many: int) -> None:
    more = pb.SnapshotBody(tags=["tag"] * many, sources=[b"/home"] * many)
    assert len(seal(few)) == len(seal(more))


def test_a_body_opens_behind_its_own_header_only() -> None:
    sealed = seal(pb.SnapshotBody(host="laptop"), number=2)
    with pytest.raises(Damaged, match="the seal does not fit"):
        snapshot.open_body(header_for(sealed), sealed, KEY)


def test_another_session_key_opens_nothing() -> None:
    sealed = seal(pb.SnapshotBody(host="laptop"))
    for key in (bytes(32), b""):
        with pytest.raises(Damaged):
            snapshot.open_body(header_for(sealed), sealed, key)


def test_only_a_header_has_a_body() -> None:
    body = pb.ForgetBody(snapshot_id=bytes(32))
    order = statement.make(StatementKind.FORGET, ACCOUNT, 1, body, DEVICE)
    with pytest.raises(Invalid, match="a forget statement is no snapshot header"):
        snapshot.open_body(order, b"", KEY)


def test_a_body_that_no_reader_takes_is_not_sealed() -> None:
    with pytest.raises(Invalid, match="is longer than"):
        seal(pb.SnapshotBody(excludes=[bytes(SNAPSHOT_BODY_LIMIT)]))


def test_two_headers_are_two_snapshots() -> None:
    assert snapshot.snapshot_id(header_for(b"a")) != snapshot.snapshot_id(header_for(b"b"))
