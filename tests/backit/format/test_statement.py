"""A statement says what its signer signed, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto.keys import SigningKey
from backit.errors import BackitError, StatementInvalid, Unsupported
from backit.format import statement
from backit.format.magic import STATEMENT_LIMIT
from backit.format.statement import BODIES, SUBJECTS, Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from tests.backit.format.samples import ACCOUNT, BITS, flipped

OWNER = SigningKey(b"o" * 32)
DOMAIN = pb.DomainBody(domain_id=b"d" * 16, wrapped_secret=b"w" * 72)
NUMBERS = st.integers(1, 2**64 - 1)


def made(number: int = 1, body: statement.Body = DOMAIN) -> Statement:
    return statement.make(StatementKind.DOMAIN, ACCOUNT, number, body, OWNER)


@given(number=NUMBERS)
def test_what_is_made_is_read(number: int) -> None:
    found = statement.parse(made(number).encoded)
    found.verify(OWNER.public)
    assert found == made(number)
    assert found.subject == b"d" * 16


@given(number=NUMBERS, bit=BITS)
def test_a_flipped_bit_is_refused(number: int, bit: int) -> None:
    with pytest.raises((StatementInvalid, Unsupported)):
        statement.parse(flipped(made(number).encoded, bit)).verify(OWNER.public)


@given(number=NUMBERS, end=st.integers(0, 1000))
def test_any_part_of_a_statement_is_refused(number: int, end: int) -> None:
    encoded = made(number).encoded
    end %= len(encoded)
    for part in (encoded[:end], encoded[end + 1 :], encoded + b"\0"):
        with pytest.raises((StatementInvalid, Unsupported)):
            statement.parse(part)


@given(data=st.binary(max_size=200), kind=st.integers(0, 255))
def test_garbage_is_refused(data: bytes, kind: int) -> None:
    for garbage in (data, b"BKST\1" + bytes([kind]) + data):
        with pytest.raises(BackitError):
            statement.parse(garbage)


@given(kind=st.sampled_from(StatementKind), body=st.binary(max_size=120), number=NUMBERS)
def test_no_random_body_gets_past_its_rules(kind: StatementKind, body: bytes, number: int) -> None:
    head = statement.HEAD.pack(b"BKST", 1, kind, 0, ACCOUNT.raw, number, len(body))
    try:
        found = statement.parse(head + body + bytes(64))
    except StatementInvalid:
        return
    assert len(found.subject) in (0, 16, 32)


def test_another_signer_is_not_believed() -> None:
    with pytest.raises(StatementInvalid, match="not by the key expected"):
        made().verify(SigningKey(bytes(32)).public)
    with pytest.raises(StatementInvalid):
        made().verify(b"")


def test_each_kind_has_a_body_and_a_subject() -> None:
    assert set(BODIES) == set(StatementKind)
    about_the_account = {StatementKind.ACCOUNT, StatementKind.EPOCH}
    assert set(StatementKind) - set(SUBJECTS) == about_the_account
    for kind, field in SUBJECTS.items():
        assert getattr(BODIES[kind](), field) == b""


def test_the_subject_of_an_epoch_is_the_account() -> None:
    body = pb.EpochBody(vault_key=bytes(32), wrapped_vault_secret=bytes(72))
    assert statement.make(StatementKind.EPOCH, ACCOUNT, 1, body, OWNER).subject == b""


def test_a_statement_has_an_end() -> None:
    with pytest.raises(StatementInvalid, match=f"a statement of {STATEMENT_LIMIT + 1} bytes"):
        statement.parse(made().encoded.ljust(STATEMENT_LIMIT + 1, b"\0"))


def test_what_nobody_would_take_is_not_signed() -> None:
    body = pb.RevocationBody(device_id=bytes(16))
    statement.make(StatementKind.REVOCATION, ACCOUNT, 1, body, OWNER)
    for number, short in ((2, b""), (1, b"short")):
        body.device_id = short or body.device_id
        with pytest.raises(StatementInvalid, match="revocation statement: field"):
            statement.make(StatementKind.REVOCATION, ACCOUNT, number, body, OWNER)
