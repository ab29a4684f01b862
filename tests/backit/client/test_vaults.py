"""Keyrings: what they open, and what they refuse to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from backit.client import account, devices
from backit.client.vaults import Keyring
from backit.crypto import primitives
from backit.crypto.keys import RootKey, session_commitment
from backit.errors import Damaged, NotFound
from backit.format import statement
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DomainId
from tests.backit.client.conftest import NOW

if TYPE_CHECKING:
    from backit.client.account import Person
    from backit.client.device import DeviceKeys

KEY = os.urandom(32)


def packet(anna: Person, keys: DeviceKeys) -> pb.SessionBody:
    return pb.SessionBody(
        session_id=os.urandom(16),
        device_id=keys.device.raw,
        domain_id=keys.domain.domain.raw,
        epoch=1,
        kem=1,
        commitment=session_commitment(KEY),
        sealed_key=primitives.box_seal(anna.ledger.epochs[1].body.vault_key, KEY),
    )


@pytest.fixture
def keys(anna: Person) -> DeviceKeys:
    """A device of anna's."""
    return devices.enrol(anna, "laptop", now=NOW)


def test_a_session_of_a_device_opens(anna: Person, keys: DeviceKeys) -> None:
    session = statement.make(
        StatementKind.SESSION, anna.account, 1, packet(anna, keys), keys.signing
    )
    assert anna.keyring().session_key(session) == KEY


def test_a_session_that_its_device_did_not_sign_is_refused(anna: Person, keys: DeviceKeys) -> None:
    other = devices.enrol(anna, "other", now=NOW)
    session = statement.make(
        StatementKind.SESSION, anna.account, 1, packet(anna, keys), other.signing
    )
    with pytest.raises(Damaged, match="signature"):
        anna.keyring().session_key(session)


def test_a_session_of_an_unknown_device_is_refused(anna: Person, keys: DeviceKeys) -> None:
    body = packet(anna, keys)
    body.device_id = bytes(16)
    session = statement.make(StatementKind.SESSION, anna.account, 1, body, keys.signing)
    with pytest.raises(Damaged, match="not one of the account"):
        anna.keyring().session_key(session)


def test_a_session_of_another_account_is_refused(anna: Person, keys: DeviceKeys) -> None:
    elsewhere = AccountId(bytes(16))
    session = statement.make(StatementKind.SESSION, elsewhere, 1, packet(anna, keys), keys.signing)
    with pytest.raises(Damaged):
        anna.keyring().session_key(session)


def test_a_session_key_that_is_not_the_committed_one_is_refused(
    anna: Person, keys: DeviceKeys
) -> None:
    body = packet(anna, keys)
    body.commitment = session_commitment(bytes(32))
    session = statement.make(StatementKind.SESSION, anna.account, 1, body, keys.signing)
    with pytest.raises(Damaged, match=body.session_id.hex()):
        anna.keyring().session_key(session)


def test_a_session_of_an_epoch_that_never_was_opens_with_the_right_key(
    anna: Person, keys: DeviceKeys
) -> None:
    """A succession renumbers epochs, so the number is a hint and the seal decides."""
    body = packet(anna, keys)
    body.epoch = 9
    session = statement.make(StatementKind.SESSION, anna.account, 1, body, keys.signing)
    assert anna.keyring().session_key(session) == KEY


def test_a_statement_that_is_no_session_is_refused(anna: Person, keys: DeviceKeys) -> None:
    device = statement.parse(anna.ledger.device(keys.device).encoded)
    with pytest.raises(Damaged, match="no session"):
        anna.keyring().session_key(device)


def test_every_epoch_has_its_vault_key(anna: Person) -> None:
    account.rotate_epoch(anna, now=NOW)
    vaults = anna.keyring().vaults
    assert list(vaults) == [1, 2]
    for epoch, vault in vaults.items():
        assert vault.public == anna.ledger.epochs[epoch].body.vault_key


def test_another_root_key_opens_nothing(anna: Person) -> None:
    with pytest.raises(Damaged, match="epoch 1"):
        Keyring(RootKey(os.urandom(32)), anna.ledger)


def test_an_unknown_domain_is_not_found(anna: Person) -> None:
    with pytest.raises(NotFound):
        anna.keyring().domain(DomainId(bytes(16)))
