"""An appliance that goes back to an older state is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit.client import account, devices, seen
from backit.client.home import write_private
from backit.client.ledger import Ledger, fetch, parse, verify
from backit.client.remote import Appliance
from backit.crypto.passphrase import FLOOR
from backit.errors import Damaged, Untrusted
from tests.backit.client.conftest import NOW

if TYPE_CHECKING:
    from backit.client.account import Person
    from backit.client.home import Home
    from backit.client.profile import Profile


def shown(anna: Person) -> Ledger:
    """What the appliance shows right now."""
    return verify(parse(fetch(anna.appliance)), anna.root.owner.public)


def test_the_same_state_and_newer_ones_are_fine(anna: Person, home: Home) -> None:
    for _ in range(2):
        seen.check(home, "default", shown(anna), is_person=True)
    account.rotate_epoch(anna, now=NOW)
    devices.enrol(anna, "laptop", now=NOW)
    seen.check(home, "default", shown(anna), is_person=True)


def test_an_old_password_does_not_come_back(anna: Person, home: Home) -> None:
    old = shown(anna)
    account.change_password(anna, "another", FLOOR)
    seen.check(home, "default", shown(anna), is_person=True)
    with pytest.raises(Untrusted, match="slot"):
        seen.check(home, "default", old, is_person=True)


def test_a_revocation_does_not_go_away(anna: Person, home: Home) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    old = shown(anna)
    devices.revoke(anna, keys.device, since=NOW)
    seen.check(home, "default", shown(anna), is_person=True)
    for is_person in (True, False):
        with pytest.raises(Untrusted, match="revocation"):
            seen.check(home, "default", old, is_person=is_person)


def test_an_old_epoch_does_not_come_back_for_a_device(anna: Person, home: Home) -> None:
    old = shown(anna)
    account.rotate_epoch(anna, now=NOW)
    seen.check(home, "default", shown(anna), is_person=False)
    with pytest.raises(Untrusted, match="epoch"):
        seen.check(home, "default", old, is_person=False)


def test_a_device_does_not_miss_what_only_persons_see(anna: Person, home: Home) -> None:
    seen.check(home, "default", shown(anna), is_person=True)
    for_device = shown(anna)
    for_device.slots.clear()
    for_device.domains.clear()
    seen.check(home, "default", for_device, is_person=False)


def test_profiles_and_accounts_are_kept_apart(anna: Person, home: Home, profile: Profile) -> None:
    account.rotate_epoch(anna, now=NOW)
    seen.check(home, "default", shown(anna), is_person=True)
    with Appliance.connect(profile) as appliance:
        other = account.sign_up(appliance, "bert", "x", invite="", now=NOW, cost=FLOOR)
        seen.check(home, "work", shown(other), is_person=True)
        seen.check(home, "default", shown(other), is_person=True)


@pytest.mark.parametrize("numbers", ['"x"', '{"account-": "x"}', "[]"])
def test_a_damaged_list_is_named(anna: Person, home: Home, numbers: str) -> None:
    content = f'{{"version": 1, "account": "{anna.account.hex}", "numbers": {numbers}}}'
    write_private(home.seen("default"), content.encode())
    with pytest.raises(Damaged):
        seen.check(home, "default", shown(anna), is_person=True)
