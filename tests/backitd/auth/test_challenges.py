"""Promises of login challenges: one use, two minutes, a bounded number."""

import pytest

from backit.ids import DeviceId
from backitd.auth import challenges
from backitd.auth.challenges import Challenges, User
from tests.backitd.clocks import FakeClock, FakeRandom

ALICE = User("alice")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def given(clock: FakeClock) -> Challenges:
    return Challenges(seconds=120, clock=clock, random=FakeRandom())


def test_a_challenge_leads_back_to_who_asked_for_it(given: Challenges) -> None:
    device = DeviceId(bytes(16))
    first, second = given.give(ALICE), given.give(device)
    assert (given.take(second), given.take(first)) == (device, ALICE)


def test_a_challenge_is_good_for_one_use(given: Challenges) -> None:
    challenge = given.give(ALICE)
    assert given.take(challenge) == ALICE
    assert given.take(challenge) is None


def test_a_challenge_ends_after_two_minutes(given: Challenges, clock: FakeClock) -> None:
    in_time, late = given.give(ALICE), given.give(ALICE)
    clock.forward(119.9)
    assert given.take(in_time) == ALICE
    clock.forward(0.1)
    assert given.take(late) is None


def test_a_challenge_that_was_never_given_is_nobodys(given: Challenges) -> None:
    assert given.take(bytes(32)) is None


def test_the_number_of_challenges_is_bounded(
    given: Challenges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenges, "MOST_CHALLENGES", 50)
    first = given.give(ALICE)
    last = [given.give(User(str(number))) for number in range(200)][-1]
    assert len(given) == 50
    assert given.take(first) is None
    assert given.take(last) == User("199")


def test_ended_challenges_are_forgotten(given: Challenges, clock: FakeClock) -> None:
    for _ in range(20):
        given.give(ALICE)
    clock.forward(120)
    given.give(ALICE)
    assert len(given) == 1
