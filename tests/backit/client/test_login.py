"""A kept login: it comes back whole, ends in time, and never shows what is in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from backit.client import account, login
from backit.client.login import LIFETIME_SECONDS, KeptLogin
from backit.client.remote import Appliance
from backit.errors import Damaged, Refused
from tests.backit.client.conftest import NOW

if TYPE_CHECKING:
    from backit.client.account import Person
    from backit.client.home import Home
    from backit.client.profile import Profile


@pytest.fixture
def kept(anna: Person, home: Home) -> KeptLogin:
    """A login that was kept at NOW."""
    found = KeptLogin.of(anna, NOW)
    found.save(home, "default")
    return found


def test_a_kept_login_opens_the_account_again(
    anna: Person, kept: KeptLogin, home: Home, profile: Profile
) -> None:
    found = KeptLogin.load(home, "default", NOW + 1)
    assert found is not None
    assert found == kept
    with Appliance.connect(profile, found.credential, token=found.token) as appliance:
        person = account.reopen(appliance, found.credential, found.slot, found.root)
    assert person.keyring().vaults == anna.keyring().vaults


@pytest.mark.parametrize("moment", [NOW + LIFETIME_SECONDS, NOW + 10 * LIFETIME_SECONDS, NOW - 1])
def test_a_login_that_has_ended_is_taken_away(kept: KeptLogin, home: Home, moment: int) -> None:
    assert kept.ends == NOW + LIFETIME_SECONDS
    assert KeptLogin.load(home, "default", moment) is None
    assert not home.login("default").exists()


def test_logging_out_takes_it_away(kept: KeptLogin, home: Home) -> None:
    assert kept.user == "anna"
    assert login.forget(home, "default")
    assert not login.forget(home, "default")
    assert KeptLogin.load(home, "default", NOW) is None


def test_a_login_that_others_could_read_is_refused(kept: KeptLogin, home: Home) -> None:
    home.login("default").chmod(0o644)
    with pytest.raises(Refused):
        KeptLogin.load(home, "default", kept.ends - 1)


def test_a_login_prints_without_its_secrets(kept: KeptLogin) -> None:
    for secret in (kept.root.secret, kept.credential.key.seed):
        assert secret.hex() not in repr(kept)
        assert repr(secret) not in repr(kept)
    assert kept.token not in repr(kept)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("field", ["slot", "root_key", "ends", "login_seed"])
def test_a_damaged_login_is_named_and_not_shown(home: Home, field: str) -> None:
    path = home.login("default")
    document = json.loads(path.read_text())
    document[field] = "secret"
    path.write_text(json.dumps(document))
    with pytest.raises(Damaged, match="default") as caught:
        KeptLogin.load(home, "default", NOW)
    assert "secret" not in str(caught.value)
