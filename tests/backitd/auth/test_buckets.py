"""Promises of the token buckets."""

import pytest

from backitd.auth import buckets
from backitd.auth.buckets import Buckets, Throttled, address_key
from tests.backitd.clocks import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def three(clock: FakeClock) -> Buckets:
    return Buckets(burst=3, rate=0.5, clock=clock)


def drain(bucket: Buckets, key: str) -> None:
    for _ in range(3):
        bucket.take(key)


def test_a_burst_is_allowed_and_no_more(three: Buckets) -> None:
    drain(three, "a")
    with pytest.raises(Throttled):
        three.take("a")


def test_it_says_when_to_try_again_and_that_is_true(three: Buckets, clock: FakeClock) -> None:
    drain(three, "a")
    with pytest.raises(Throttled) as caught:
        three.take("a")
    clock.forward(caught.value.retry_after)
    three.take("a")
    with pytest.raises(Throttled):
        three.take("a")


def test_an_empty_bucket_keeps_nobody_else_out(three: Buckets) -> None:
    drain(three, "a")
    three.take("b")


def test_what_is_given_back_can_be_taken_again(three: Buckets) -> None:
    drain(three, "a")
    three.give_back("a")
    three.take("a")


def test_giving_back_never_makes_more_than_a_burst(three: Buckets) -> None:
    for _ in range(10):
        three.give_back("a")
    drain(three, "a")
    with pytest.raises(Throttled):
        three.take("a")


def test_the_number_of_buckets_is_bounded(three: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "MOST_KEYS", 100)
    for number in range(500):
        three.take(str(number))
    assert len(three) == 100


def test_full_buckets_are_not_kept(three: Buckets, clock: FakeClock) -> None:
    three.take("a")
    clock.forward(1000)
    three.give_back("a")
    assert len(three) == 0


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("ipv4:192.0.2.7:50123", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50123", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:50123", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:192.0.2.7]:50123", "192.0.2.7"),
        ("ipv6:[fe80::1%25eth0]:50123", "fe80::/64"),
        ("unix:", "unix"),
        ("unix:/run/x", "unix"),
        ("ipv4:nonsense", "ipv4:nonsense"),
    ],
)
def test_a_peer_counts_by_what_it_cannot_choose(peer: str, key: str) -> None:
    assert address_key(peer) == key
