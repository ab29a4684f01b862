"""Promises of enrolments: bounded, they end, and they tell nothing about users."""

from dataclasses import replace

import pytest

from backit.crypto.keys import SigningKey
from backit.errors import EnrolmentNotFound, TooManyEnrolments
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2
from backit.ids import AccountId
from backitd.auth.enrolments import LIFETIME, MOST_PER_USER, Enrolments, Wish
from tests.backitd.clocks import FakeClock, FakeRandom

ACCOUNT = AccountId(b"a" * 16)
OTHER = AccountId(b"o" * 16)
WISH = Wish("alice", "laptop", bytes(32), bytes(32), b"p" * 32)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def enrolments(clock: FakeClock) -> Enrolments:
    return Enrolments(clock=clock, random=FakeRandom())


def certificate() -> Statement:
    body = statement_pb2.DeviceBody(
        device_id=bytes(16),
        device_key=bytes(32),
        domain_id=bytes(16),
        role=statement_pb2.DEVICE_ROLE_WRITE_ONLY,
    )
    return statement.make(StatementKind.DEVICE, ACCOUNT, 1, body, SigningKey(bytes(32)))


def fill(enrolments: Enrolments, user: str, account: AccountId | None) -> None:
    for number in range(MOST_PER_USER):
        enrolments.create(replace(WISH, user=user, label=str(number)), account)


def test_the_machine_that_asked_learns_how_it_stands(enrolments: Enrolments) -> None:
    created = enrolments.create(WISH, ACCOUNT)
    assert enrolments.poll(created.id, WISH.poll_key) == created


def test_nobody_else_does(enrolments: Enrolments) -> None:
    created = enrolments.create(WISH, ACCOUNT)
    with pytest.raises(EnrolmentNotFound):
        enrolments.poll(created.id, b"q" * 32)
    with pytest.raises(EnrolmentNotFound):
        enrolments.of_account(created.id, OTHER)


def test_eight_wait_per_user_whether_known_or_not(enrolments: Enrolments) -> None:
    for user, account in (("alice", ACCOUNT), ("nobody", None)):
        fill(enrolments, user, account)
        with pytest.raises(TooManyEnrolments):
            enrolments.create(replace(WISH, user=user, label="one more"), account)


def test_spellings_of_a_name_are_one_user(enrolments: Enrolments) -> None:
    fill(enrolments, "alice", ACCOUNT)
    with pytest.raises(TooManyEnrolments):
        enrolments.create(replace(WISH, user="ALICE", label="one more"), ACCOUNT)


def test_a_full_queue_empties_after_an_hour(enrolments: Enrolments, clock: FakeClock) -> None:
    fill(enrolments, "alice", ACCOUNT)
    clock.forward(LIFETIME)
    assert enrolments.waiting(ACCOUNT) == []
    enrolments.create(WISH, ACCOUNT)
    assert len(enrolments) == 1


def test_asking_again_changes_nothing(enrolments: Enrolments) -> None:
    assert enrolments.create(WISH, ACCOUNT) == enrolments.create(WISH, ACCOUNT)
    assert len(enrolments.waiting(ACCOUNT)) == 1


def test_the_person_sees_only_what_waits_for_them(enrolments: Enrolments) -> None:
    created = enrolments.create(WISH, ACCOUNT)
    enrolments.create(replace(WISH, user="bob"), OTHER)
    enrolments.create(replace(WISH, user="nobody"), None)
    assert enrolments.waiting(ACCOUNT) == [created]


def test_what_is_approved_waits_no_longer_and_reaches_the_machine(enrolments: Enrolments) -> None:
    created = enrolments.create(WISH, ACCOUNT)
    enrolments.approve(created, [certificate()], b"sealed")
    assert enrolments.waiting(ACCOUNT) == []
    approved = enrolments.poll(created.id, WISH.poll_key)
    assert (approved.statements, approved.sealed_secrets) == ((certificate(),), b"sealed")


def test_an_enrolment_ends_after_an_hour(enrolments: Enrolments, clock: FakeClock) -> None:
    created = enrolments.create(WISH, ACCOUNT)
    clock.forward(LIFETIME)
    with pytest.raises(EnrolmentNotFound):
        enrolments.poll(created.id, WISH.poll_key)


def test_the_poll_key_is_not_printed(enrolments: Enrolments) -> None:
    assert repr(WISH.poll_key) not in repr(enrolments.create(WISH, ACCOUNT))
