"""What a person can do with an account, and what no appliance can talk a client into."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from backit.client import account, devices
from backit.client.account import Person, user_credential
from backit.client.remote import Appliance
from backit.crypto import passphrase, primitives
from backit.crypto.keys import SlotKeys, session_commitment
from backit.crypto.passphrase import FLOOR
from backit.errors import (
    AlreadyExists,
    BackitError,
    Damaged,
    LoginRefused,
    Refused,
    StatementOutdated,
    Untrusted,
    WrongKey,
)
from backit.format import statement
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from tests.backit.client.conftest import NOW, PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.profile import Profile
    from backit.v1 import accounts_pb2
    from tests.backit.client.memory_appliance import MemoryAppliance


def open_again(profile: Profile, password: str = PASSWORD) -> Person:
    """A new connection, closed again once the account is open."""
    with Appliance.connect(profile) as appliance:
        return account.open_with_password(appliance, "anna", password)


def test_whoever_signs_up_can_log_in_elsewhere(anna: Person, profile: Profile) -> None:
    assert open_again(profile).root == anna.root


@pytest.mark.usefixtures("anna")
def test_a_wrong_password_is_refused(profile: Profile) -> None:
    with pytest.raises(LoginRefused):
        open_again(profile, PASSWORD + "!")


@pytest.mark.usefixtures("anna")
def test_an_unknown_name_fails_like_a_wrong_password(profile: Profile) -> None:
    with Appliance.connect(profile) as appliance, pytest.raises(LoginRefused):
        account.open_with_password(appliance, "nobody", PASSWORD)


@pytest.mark.usefixtures("anna")
def test_a_name_is_given_once(appliance: Appliance) -> None:
    with pytest.raises(AlreadyExists):
        account.sign_up(appliance, "anna", "another", invite="", now=NOW, cost=FLOOR)


def test_a_password_may_be_typed_in_either_unicode_form(anna: Person, profile: Profile) -> None:
    account.change_password(anna, "Zo\u00eb", FLOOR)
    assert open_again(profile, "Zoe\u0308").root == anna.root


def test_after_a_change_only_the_new_password_opens(anna: Person, profile: Profile) -> None:
    account.change_password(anna, "another", FLOOR)
    with pytest.raises(LoginRefused):
        open_again(profile, PASSWORD)
    assert open_again(profile, "another").root == anna.root


def test_a_changed_password_leaves_the_connection_usable(anna: Person) -> None:
    account.change_password(anna, "another", FLOOR)
    account.rotate_epoch(anna, now=NOW)


def test_two_clients_cannot_both_change_the_password(anna: Person, profile: Profile) -> None:
    with Appliance.connect(profile) as appliance:
        other = account.open_with_password(appliance, "anna", PASSWORD)
        account.change_password(anna, "first", FLOOR)
        with pytest.raises(StatementOutdated):
            account.change_password(other, "second", FLOOR)
    assert open_again(profile, "first").root == anna.root


def test_a_recovery_kit_opens_the_account(anna: Person, profile: Profile) -> None:
    secret = account.make_kit(anna, replace=False)
    with Appliance.connect(profile) as appliance:
        assert account.open_with_kit(appliance, secret).root == anna.root


def test_a_new_kit_leaves_the_old_one_unless_told(anna: Person, profile: Profile) -> None:
    first = account.make_kit(anna, replace=False)
    second = account.make_kit(anna, replace=False)
    third = account.make_kit(anna, replace=True)
    with Appliance.connect(profile) as appliance:
        for ended in (first, second):
            with pytest.raises(LoginRefused):
                account.open_with_kit(appliance, ended)
        assert account.open_with_kit(appliance, third).root == anna.root


def test_a_kit_sets_a_new_password(anna: Person, profile: Profile) -> None:
    secret = account.make_kit(anna, replace=False)
    with Appliance.connect(profile) as appliance:
        account.change_password(account.open_with_kit(appliance, secret), "regained", FLOOR)
    assert open_again(profile, "regained").root == anna.root


@pytest.mark.usefixtures("anna")
def test_a_foreign_kit_opens_nothing(profile: Profile) -> None:
    with Appliance.connect(profile) as appliance, pytest.raises(LoginRefused):
        account.open_with_kit(appliance, bytes(32))


def session_of(anna: Person, epoch: int) -> tuple[statement.Statement, bytes]:
    """A backup run's key packet as a device makes it, and the key in it."""
    keys = devices.enrol(anna, "laptop", now=NOW)
    key = os.urandom(32)
    vault = anna.ledger.epochs[epoch].body.vault_key
    body = pb.SessionBody(
        session_id=os.urandom(16),
        device_id=keys.device.raw,
        domain_id=keys.domain.domain.raw,
        epoch=epoch,
        kem=1,
        commitment=session_commitment(key),
        sealed_key=primitives.box_seal(vault, key),
    )
    return statement.make(StatementKind.SESSION, anna.account, 1, body, keys.signing), key


def test_rotated_keys_open_what_was_written_before(anna: Person, profile: Profile) -> None:
    session, key = session_of(anna, 1)
    epoch = account.rotate_epoch(anna, now=NOW)
    later, later_key = session_of(anna, epoch)
    account.rotate_root(anna, "fresh", now=NOW, cost=FLOOR)
    newest, newest_key = session_of(anna, anna.ledger.newest_epoch)
    keyring = open_again(profile, "fresh").keyring()
    assert keyring.session_key(session) == key
    assert keyring.session_key(later) == later_key
    assert keyring.session_key(newest) == newest_key


def test_a_new_epoch_has_a_key_that_no_epoch_before_had(anna: Person) -> None:
    before = {each.body.vault_key for each in anna.ledger.epochs.values()}
    newest = account.rotate_root(anna, "fresh", now=NOW, cost=FLOOR)
    assert anna.ledger.epochs[newest].body.vault_key not in before


def test_rotation_ends_kits_key_files_and_the_old_password(anna: Person, profile: Profile) -> None:
    secret = account.make_kit(anna, replace=False)
    keys = devices.enrol(anna, "laptop", now=NOW)
    key_file = devices.make_full(anna, keys.device)
    account.rotate_root(anna, "fresh", now=NOW, cost=FLOOR)
    with Appliance.connect(profile) as appliance:
        with pytest.raises(LoginRefused):
            account.open_with_kit(appliance, secret)
        with pytest.raises(LoginRefused):
            account.open_with(appliance, key_file.credential, key_file.keys)
        with pytest.raises(LoginRefused):
            account.open_with_password(appliance, "anna", PASSWORD)


def test_rotation_keeps_devices_and_their_domains(anna: Person) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    account.rotate_root(anna, "fresh", now=NOW, cost=FLOOR)
    assert anna.keyring().domain(keys.domain.domain) == keys.domain
    assert anna.ledger.device(keys.device).body.device_key == keys.signing.public


def test_a_device_follows_the_owner_through_several_rotations(
    anna: Person, profile: Profile
) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    account.rotate_root(anna, "second", now=NOW, cost=FLOOR)
    account.rotate_root(anna, "third", now=NOW, cost=FLOOR)
    with Appliance.connect(profile, keys.credential) as appliance:
        followed, book = devices.follow_owner(appliance, keys)
    assert followed.owner_key == anna.root.owner.public == book.owner_key


def test_revoking_survives_a_rotation(anna: Person) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    devices.revoke(anna, keys.device, since=NOW)
    account.rotate_root(anna, "fresh", now=NOW, cost=FLOOR)
    assert keys.device in anna.ledger.revocations
    # Its certificate stays as well: what it saved before is still to be read.
    assert anna.ledger.device(keys.device).number == 1


# What an appliance may try.


@pytest.mark.usefixtures("anna")
def test_the_appliance_cannot_ask_for_cheap_password_hashing(
    profile: Profile, memory: MemoryAppliance
) -> None:
    def cheapen(challenge: accounts_pb2.Challenge) -> None:
        challenge.memory_kib = passphrase.FLOOR_MEMORY_KIB - 1

    memory.lie_about_challenge = cheapen
    with pytest.raises(Refused, match="floor"):
        open_again(profile)


@pytest.mark.usefixtures("anna")
def test_a_login_is_signed_for_the_pinned_appliance_alone(
    profile: Profile, memory: MemoryAppliance
) -> None:
    def relay(challenge: accounts_pb2.Challenge) -> None:
        challenge.ca_fingerprint = bytes(32)

    memory.lie_about_challenge = relay
    logins = memory.logins
    with pytest.raises(Untrusted):
        open_again(profile)
    assert memory.logins == logins


def corrupt(kind: StatementKind) -> Callable[[list[bytes]], list[bytes]]:
    """Flip a bit in the body of each statement of this kind."""

    def lie(encoded: list[bytes]) -> list[bytes]:
        return [
            each[:50] + bytes([each[50] ^ 1]) + each[51:]
            if statement.parse(each).kind is kind
            else each
            for each in encoded
        ]

    return lie


@pytest.mark.parametrize(
    "kind", [StatementKind.ACCOUNT, StatementKind.SLOT, StatementKind.EPOCH, StatementKind.DOMAIN]
)
def test_a_flipped_bit_in_a_statement_is_named(
    anna: Person, profile: Profile, memory: MemoryAppliance, kind: StatementKind
) -> None:
    devices.enrol(anna, "laptop", now=NOW)
    memory.lie_about_statements = corrupt(kind)
    with pytest.raises(Damaged, match=kind.name.lower()):
        open_again(profile)


def test_the_appliance_cannot_enrol_a_device_of_its_own(
    anna: Person, profile: Profile, memory: MemoryAppliance
) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    body = pb.DeviceBody(
        device_id=keys.device.raw,
        label="laptop",
        device_key=bytes(32),
        role=pb.DEVICE_ROLE_FULL,
        domain_id=keys.domain.domain.raw,
    )
    forged = statement.make(StatementKind.DEVICE, anna.account, 2, body, keys.signing)
    memory.lie_about_statements = lambda encoded: [*encoded, forged.encoded]
    with pytest.raises(Damaged, match="owner has not signed"):
        open_again(profile)


@pytest.mark.parametrize("hides_the_owner", [False, True])
def test_the_appliance_cannot_make_itself_the_owner(
    anna: Person, profile: Profile, memory: MemoryAppliance, *, hides_the_owner: bool
) -> None:
    keys = devices.enrol(anna, "laptop", now=NOW)
    body = pb.AccountBody(
        user="anna", owner_key=keys.signing.public, created=NOW, succession=bytes(64)
    )
    forged = statement.make(StatementKind.ACCOUNT, anna.account, 2, body, keys.signing)
    memory.lie_about_statements = lambda encoded: [
        *([] if hides_the_owner else encoded),
        forged.encoded,
    ]
    with (
        Appliance.connect(profile, keys.credential) as appliance,
        pytest.raises(Untrusted if hides_the_owner else Damaged),
    ):
        devices.follow_owner(appliance, keys)


def test_a_slot_of_before_a_rotation_opens_nothing_any_more(
    anna: Person, profile: Profile, memory: MemoryAppliance
) -> None:
    old = {account: list(statements) for account, statements in memory.accounts.items()}
    login = user_credential("anna", SlotKeys(passphrase.stretch(PASSWORD, _salt(anna), FLOOR)))
    account.rotate_root(anna, "fresh", now=NOW, cost=FLOOR)
    account_statement = memory.of_kind(anna.account, StatementKind.ACCOUNT)[-1]
    # The appliance goes back to the old state, but for the account statement, which it cannot hide.
    memory.accounts = old
    memory.accounts[anna.account].append(account_statement)
    with Appliance.connect(profile, login) as appliance, pytest.raises(BackitError) as caught:
        account.open_with(
            appliance, login, SlotKeys(passphrase.stretch(PASSWORD, _salt(anna), FLOOR))
        )
    assert isinstance(caught.value, Untrusted | Damaged | WrongKey)


def _salt(anna: Person) -> bytes:
    return anna.ledger.slots[anna.slot].body.salt
