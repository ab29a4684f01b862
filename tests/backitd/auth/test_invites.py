"""Promises of invites: one signup each, only hashes stored, nothing lost or doubled by a crash."""

from pathlib import Path

import pytest

from backit.errors import Invalid, InviteNeeded
from backit.ids import AccountId
from backitd.auth.invites import LONGEST_LIFETIME, Invites
from backitd.folder import SmallFiles
from tests.backitd.clocks import FakeClock, FakeRandom

ACCOUNT = AccountId(b"a" * 16)
OTHER = AccountId(b"o" * 16)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "invites"


@pytest.fixture
def invites(folder: Path, clock: FakeClock) -> Invites:
    return Invites(SmallFiles(folder, clock), clock=clock, random=FakeRandom())


def after_a_crash(folder: Path, clock: FakeClock) -> Invites:
    return Invites(SmallFiles(folder, clock), clock=clock, random=FakeRandom("again"))


def test_an_invite_is_used_once(invites: Invites) -> None:
    code, _expires = invites.create()
    invites.spend(invites.claim(code, ACCOUNT))
    with pytest.raises(InviteNeeded):
        invites.claim(code, OTHER)


def test_a_failed_signup_leaves_its_invite(invites: Invites) -> None:
    code, _expires = invites.create()
    invites.release(invites.claim(code, ACCOUNT))
    invites.claim(code, OTHER)


def test_while_one_signup_runs_no_other_has_its_invite(invites: Invites) -> None:
    code, _expires = invites.create()
    invites.claim(code, ACCOUNT)
    with pytest.raises(InviteNeeded):
        invites.claim(code, OTHER)
    invites.claim(code, ACCOUNT)


@pytest.mark.parametrize(("old", "new"), [("-", " "), ("-", ""), ("O", "0"), ("B", "8")])
def test_a_code_may_be_typed_as_people_type(invites: Invites, old: str, new: str) -> None:
    code, _expires = invites.create()
    invites.claim(code.replace(old, new).lower(), ACCOUNT)


@pytest.mark.parametrize("code", ["", "AAAA-BBBB-CCCC-DDDD", "../../etc/passwd", "\0"])
def test_what_is_no_code_is_refused(invites: Invites, code: str) -> None:
    invites.create()
    with pytest.raises(InviteNeeded):
        invites.claim(code, ACCOUNT)


def test_an_invite_ends(invites: Invites, clock: FakeClock) -> None:
    code, expires = invites.create(60)
    assert expires == clock.now() + 60
    clock.forward(60)
    with pytest.raises(InviteNeeded):
        invites.claim(code, ACCOUNT)


def test_ended_invites_are_swept_with_the_next(
    invites: Invites, folder: Path, clock: FakeClock
) -> None:
    invites.create(60)
    clock.forward(60)
    invites.create()
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("lifetime", [-1, 0, LONGEST_LIFETIME + 1, float("inf")])
def test_an_absurd_lifetime_is_refused(invites: Invites, lifetime: float) -> None:
    with pytest.raises(Invalid):
        invites.create(lifetime)


def test_a_crash_before_the_account_stood_gives_the_invite_back(
    invites: Invites, folder: Path, clock: FakeClock
) -> None:
    code, _expires = invites.create()
    invites.claim(code, ACCOUNT)
    restarted = after_a_crash(folder, clock)
    restarted.settle(lambda _account: False)
    restarted.claim(code, OTHER)


def test_a_crash_after_the_account_stood_spends_the_invite(
    invites: Invites, folder: Path, clock: FakeClock
) -> None:
    code, _expires = invites.create()
    invites.claim(code, ACCOUNT)
    restarted = after_a_crash(folder, clock)
    restarted.settle(lambda account: account == ACCOUNT)
    assert list(folder.iterdir()) == []
    with pytest.raises(InviteNeeded):
        restarted.claim(code, OTHER)


def test_the_code_is_not_stored(invites: Invites, folder: Path) -> None:
    code, _expires = invites.create()
    stored = b"".join(bytes(path) + path.read_bytes() for path in folder.iterdir()).upper()
    for group in code.split("-"):
        assert group.encode() not in stored


def test_other_files_in_the_folder_do_no_harm(invites: Invites, folder: Path) -> None:
    (folder / "README").write_text("hello")
    code, _expires = invites.create()
    invites.settle(lambda _account: True)
    invites.claim(code, ACCOUNT)
    assert (folder / "README").exists()
