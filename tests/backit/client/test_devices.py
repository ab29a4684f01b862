"""Machines of an account: what they hold, what they open, and whom they believe."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import pytest

from backit.client import account, device, devices
from backit.client.device import DeviceKeys, KeyFile
from backit.client.devices import Request
from backit.client.remote import Appliance
from backit.crypto import primitives
from backit.crypto.passphrase import FLOOR
from backit.errors import (
    AlreadyExists,
    Damaged,
    DeviceRevoked,
    EnrolmentNotFound,
    Invalid,
    LoginRefused,
    NotFound,
    Untrusted,
    WrongKey,
)
from backit.format import message
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId
from tests.backit.client.conftest import NOW

if TYPE_CHECKING:
    from backit.client.account import Person
    from backit.client.home import Home
    from backit.client.profile import Profile
    from backit.v1 import devices_pb2
    from tests.backit.client.memory_appliance import MemoryAppliance


def test_a_device_logs_in_with_its_own_key(anna: Person, profile: Profile) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    with Appliance.connect(profile, keys.credential) as appliance:
        followed, book = devices.follow_owner(appliance, keys)
    assert (followed, book.newest_epoch) == (keys, 1)


def test_a_device_has_a_domain_of_its_own(anna: Person) -> None:
    first, second = (devices.enrol(anna, name, now=NOW) for name in ("a", "b"))
    assert first.domain.domain != second.domain.domain
    assert anna.keyring().domain(second.domain.domain).secret == second.domain.secret


def test_a_device_s_file_holds_no_key_that_opens_anything(anna: Person, home: Home) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    keys.save(home, "default")
    content = home.device("default").read_text()
    secrets = [anna.root.secret, anna.root.wrap_key, anna.root.owner.seed]
    secrets += [vault.secret for vault in anna.keyring().vaults.values()]
    assert not any(secret.hex() in content for secret in secrets)
    assert DeviceKeys.load(home, "default") == keys


def test_a_full_device_opens_the_account_until_it_is_revoked(
    anna: Person, profile: Profile, home: Home
) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    devices.make_full(anna, keys.device).save(home, "default")
    key_file = KeyFile.load(home, "default")
    assert key_file is not None
    with Appliance.connect(profile) as appliance:
        opened = account.open_with(appliance, key_file.credential, key_file.keys)
        assert opened.root == anna.root
    assert anna.ledger.device(keys.device).body.role == pb.DEVICE_ROLE_FULL
    with pytest.raises(AlreadyExists):
        devices.make_full(anna, keys.device)
    devices.revoke(anna, keys.device, since=NOW)
    with Appliance.connect(profile) as appliance, pytest.raises(LoginRefused):
        account.open_with(appliance, key_file.credential, key_file.keys)


def test_a_revoked_device_believes_it(anna: Person, profile: Profile) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    devices.revoke(anna, keys.device, since=NOW)
    with Appliance.connect(profile, keys.credential) as appliance, pytest.raises(DeviceRevoked):
        devices.follow_owner(appliance, keys)
    with pytest.raises(AlreadyExists):
        devices.revoke(anna, keys.device, since=NOW)


def test_devices_are_found_by_what_people_call_them(anna: Person) -> None:
    laptop, _other = (devices.enrol(anna, name, now=NOW).device for name in ("laptop", "other"))
    for text in ("laptop", laptop.hex, laptop.hex[:12].upper()):
        assert anna.ledger.find_device(text) == laptop
    with pytest.raises(NotFound):
        anna.ledger.find_device("nothing")
    with pytest.raises(NotFound):
        anna.ledger.find_device("")


def test_a_label_that_two_devices_have_is_ambiguous_until_one_is_revoked(anna: Person) -> None:
    first, second = (devices.enrol(anna, "laptop", now=NOW).device for _ in range(2))
    with pytest.raises(Invalid, match=first.hex):
        anna.ledger.find_device("laptop")
    devices.revoke(anna, first, since=NOW)
    assert anna.ledger.find_device("laptop") == second


@pytest.mark.parametrize("label", ["", " ", "a" * 65, "a\nb", "\x1b[2J"])
def test_a_label_is_one_printable_line(anna: Person, label: str) -> None:
    with pytest.raises(Invalid):
        devices.enrol(anna, label, now=NOW)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"version": 1}', b'{"version": 1, "device": "x"}']
)
def test_a_damaged_file_is_named_and_not_shown(home: Home, content: bytes) -> None:
    for path in (home.device("default"), home.key_file("default")):
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(Damaged, match=r"devices/default"):
        DeviceKeys.load(home, "default")
    with pytest.raises(Damaged, match=r"keys/default"):
        KeyFile.load(home, "default")


def test_a_machine_that_is_none_has_no_keys(home: Home) -> None:
    assert KeyFile.load(home, "default") is None
    with pytest.raises(NotFound):
        DeviceKeys.load(home, "default")


def test_forgetting_takes_the_keys_away(anna: Person, home: Home) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    keys.save(home, "default")
    devices.make_full(anna, keys.device).save(home, "default")
    device.forget(home, "default")
    assert not home.device("default").exists()
    assert not home.key_file("default").exists()


def test_keys_print_without_their_secrets(anna: Person) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    key_file = devices.make_full(anna, keys.device)
    for secret in (keys.signing.seed, keys.domain.secret, key_file.keys.secret):
        assert repr(secret) not in repr((keys, key_file))
        assert secret.hex() not in repr((keys, key_file))


# Machines that ask.


@pytest.fixture
def wish(appliance: Appliance) -> Request:
    """A machine that has asked to be anna's."""
    return devices.ask(appliance, "anna", "kiosk")


def test_a_machine_that_asked_gets_what_a_device_needs(
    anna: Person, profile: Profile, wish: Request, home: Home
) -> None:
    assert devices.poll(anna.appliance, wish) is None
    wish.save(home, "default")
    found = devices.find_waiting(anna, wish.code.upper().replace("-", " "))
    devices.approve(anna, found, now=NOW)
    granted = devices.poll(anna.appliance, Request.load(home, "default"))
    assert granted is not None
    assert (granted.user, granted.label) == ("anna", "kiosk")
    assert granted.owner_code == devices.owner_code(anna.root.owner.public)
    with Appliance.connect(profile, granted.keys.credential) as appliance:
        devices.follow_owner(appliance, granted.keys)
    assert anna.keyring().domain(granted.keys.domain.domain) == granted.keys.domain


def test_the_code_names_the_keys(wish: Request) -> None:
    other = dataclasses.replace(wish, box_secret=os.urandom(32))
    assert other.code != wish.code


def test_a_code_that_nobody_shows_is_not_found(anna: Person, wish: Request) -> None:
    assert wish.code != "00000-00000-00000-00000"
    with pytest.raises(EnrolmentNotFound):
        devices.find_waiting(anna, "00000-00000-00000-00000")


def test_the_appliance_cannot_give_a_machine_to_another_owner_unseen(
    anna: Person, wish: Request, profile: Profile
) -> None:
    """It can approve by itself: the owner's code is what shows that."""
    with Appliance.connect(profile) as appliance:
        own = account.sign_up(appliance, "box", "x", invite="", now=NOW, cost=FLOOR)
        devices.approve(own, next(devices.waiting(own)), now=NOW)
    granted = devices.poll(anna.appliance, wish)
    assert granted is not None
    assert granted.owner_code != devices.owner_code(anna.root.owner.public)


def test_secrets_for_another_account_are_refused(
    anna: Person, wish: Request, memory: MemoryAppliance
) -> None:
    devices.approve(anna, devices.find_waiting(anna, wish.code), now=NOW)

    def swap(answer: devices_pb2.Enrolment) -> None:
        plain = primitives.box_open(wish.box_secret, answer.sealed_secrets)
        secrets = message.decode(pb.DeviceSecrets, plain)
        secrets.account_id = AccountId(bytes(16)).raw
        box_key = primitives.box_public(wish.box_secret)
        answer.sealed_secrets = primitives.box_seal(box_key, message.encode(secrets))

    memory.lie_about_enrolment = swap
    with pytest.raises(Untrusted):
        devices.poll(anna.appliance, wish)


def test_secrets_that_are_not_for_us_do_not_open(anna: Person, wish: Request) -> None:
    devices.approve(anna, devices.find_waiting(anna, wish.code), now=NOW)
    other = dataclasses.replace(wish, box_secret=os.urandom(32))
    with pytest.raises(WrongKey):
        devices.poll(anna.appliance, other)


def test_a_certificate_for_other_keys_is_refused(anna: Person, wish: Request) -> None:
    devices.approve(anna, devices.find_waiting(anna, wish.code), now=NOW)
    other = dataclasses.replace(wish, signing=devices.enrol(anna, "x", now=NOW).signing)
    with pytest.raises(Untrusted, match="not this machine"):
        devices.poll(anna.appliance, other)
