"""Promises of tokens: kept as hashes, they slide, they end."""

import pytest

from backit.errors import LoginNeeded, NotADevice, NotTheOwner
from backit.ids import AccountId, DeviceId, SlotId
from backitd.auth.principals import Device, Person
from backitd.auth.tokens import MOST_PER_PRINCIPAL, Tokens
from tests.backitd.clocks import FakeClock, FakeRandom

ACCOUNT = AccountId(b"a" * 16)
PERSON = Person(ACCOUNT, SlotId(b"s" * 16))
DEVICE = Device(ACCOUNT, DeviceId(b"d" * 16))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tokens(clock: FakeClock) -> Tokens:
    return Tokens(seconds=900, clock=clock, random=FakeRandom())


def test_a_token_leads_to_its_holder(tokens: Tokens) -> None:
    person, device = tokens.issue(PERSON), tokens.issue(DEVICE)
    assert tokens.caller(person.token).principal == PERSON
    assert tokens.caller(device.token).principal == DEVICE


def test_a_token_ends_a_quarter_of_an_hour_after_its_last_use(
    tokens: Tokens, clock: FakeClock
) -> None:
    token = tokens.issue(PERSON).token
    for _ in range(5):
        clock.forward(899)
        tokens.caller(token)
    clock.forward(900)
    with pytest.raises(LoginNeeded):
        tokens.caller(token)


def test_a_long_call_keeps_its_login_alive_until_it_is_ended(
    tokens: Tokens, clock: FakeClock
) -> None:
    caller = tokens.caller(tokens.issue(DEVICE).token)
    for _ in range(5):
        clock.forward(899)
        caller.renew()
    tokens.end_where(lambda principal: principal == DEVICE)
    with pytest.raises(LoginNeeded):
        caller.renew()


def test_the_token_itself_is_not_kept(tokens: Tokens) -> None:
    token = tokens.issue(PERSON).token
    held = repr(vars(tokens)) + repr(tokens.caller(token))
    assert token not in held


@pytest.mark.parametrize("token", ["", "x", "é" * 40, "A" * 100_000])
def test_a_made_up_token_is_refused(tokens: Tokens, token: str) -> None:
    tokens.issue(PERSON)
    with pytest.raises(LoginNeeded):
        tokens.caller(token)


def test_logout_ends_one_token_and_no_other(tokens: Tokens) -> None:
    first, second = tokens.issue(PERSON).token, tokens.issue(PERSON).token
    tokens.end(tokens.caller(first))
    with pytest.raises(LoginNeeded):
        tokens.caller(first)
    tokens.caller(second)


def test_ending_spares_the_call_that_orders_it(tokens: Tokens) -> None:
    mine, other = tokens.issue(PERSON).token, tokens.issue(PERSON).token
    assert tokens.end_where(lambda _principal: True, spare=tokens.caller(mine)) == 1
    tokens.caller(mine)
    with pytest.raises(LoginNeeded):
        tokens.caller(other)


def test_too_many_logins_end_the_oldest_of_the_same_principal(tokens: Tokens) -> None:
    other = tokens.issue(DEVICE).token
    issued = [tokens.issue(PERSON).token for _ in range(MOST_PER_PRINCIPAL + 1)]
    with pytest.raises(LoginNeeded):
        tokens.caller(issued[0])
    for token in (*issued[1:], other):
        tokens.caller(token)


def test_ended_logins_are_forgotten(tokens: Tokens, clock: FakeClock) -> None:
    for _ in range(10):
        tokens.issue(PERSON)
    clock.forward(900)
    tokens.issue(PERSON)
    assert len(tokens) == 1


def test_a_device_is_no_person_and_a_person_no_device(tokens: Tokens) -> None:
    with pytest.raises(NotTheOwner):
        tokens.issue(DEVICE).caller.as_person()
    with pytest.raises(NotADevice):
        tokens.issue(PERSON).caller.as_device()
