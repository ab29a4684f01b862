"""Accounts and statements: who may say what, in which order, and what is kept of it."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest

from backit.crypto.keys import SigningKey, SlotKeys, succession_message
from backit.errors import (
    AlreadyExists,
    LastSlot,
    NotFound,
    StatementInvalid,
    StatementOutdated,
)
from backit.format import statement as statements
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import ChunkId, DeviceId, DomainId, SlotId
from tests.backitd.people import Person
from tests.backitd.store.boxes import succession

if TYPE_CHECKING:
    from tests.backitd.store.boxes import Box


@pytest.fixture
def anna(box: Box) -> Person:
    return box.person("anna")


def kit(person: Person, number: int = 1, slot: SlotId | None = None) -> Statement:
    """A recovery kit's slot."""
    keys = SlotKeys(person.random(32))
    slot = slot or SlotId(b"k" * 16)
    return person.slot_statement(slot, keys, number, pb.SLOT_KIND_RECOVERY)


def names(box: Box, person: Person) -> list[str]:
    folder = box.state / "store/accounts" / person.account.hex / "statements"
    return sorted(path.name for path in folder.iterdir())


# Signing up


def test_a_new_account_is_there_after_reopening(box: Box, anna: Person) -> None:
    row = box.reopen().account(anna.account)
    assert (row.user, row.owner_key) == ("anna", anna.root.owner.public)
    assert row.created == int(box.clock.now())
    assert row.stored_bytes == 0
    assert box.store.find_user("anna") == row


def test_signing_up_twice_with_the_same_statements_is_fine(box: Box, anna: Person) -> None:
    again = box.store.create_account(anna.account, anna.first_statements()[:1])
    assert again.account == anna.account


def test_an_account_id_is_taken_by_its_first_statements(box: Box, anna: Person) -> None:
    with pytest.raises(AlreadyExists):
        box.store.create_account(anna.account, [*anna.first_statements()[:1], kit(anna)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("anna", "anna"),
        ("anna", "ANNA"),
        ("Straße", "STRASSE"),
        ("zoë", unicodedata.normalize("NFD", "Zoë")),
        (unicodedata.normalize("NFD", "Ångström"), "ångström"),
    ],
)
def test_user_names_are_unique_in_any_case_and_any_unicode_form(
    box: Box, first: str, second: str
) -> None:
    holder = box.person(first)
    other = Person(second)
    other.account = type(other.account)(b"other account id")
    with pytest.raises(AlreadyExists):
        box.store.create_account(other.account, other.first_statements())
    found = box.store.find_user(second)
    assert found is not None
    assert found.account == holder.account


def test_a_signup_needs_account_slot_and_epoch(box: Box) -> None:
    person = Person("bert")
    first = person.first_statements()
    for missing in range(3):
        with pytest.raises((StatementInvalid, LastSlot)):
            box.store.create_account(person.account, first[:missing] + first[missing + 1 :])
    assert box.store.find_user("bert") is None
    with pytest.raises(NotFound):
        box.store.account(person.account)


def test_a_statement_of_another_account_is_refused(box: Box, anna: Person) -> None:
    bert = Person("bert")
    mixed = [*bert.first_statements(), kit(anna)]
    with pytest.raises(StatementInvalid):
        box.store.create_account(bert.account, mixed)


def test_too_many_statements_are_refused(box: Box) -> None:
    bert = Person("bert")
    many = [kit(bert, slot=SlotId(bytes([n]) * 16)) for n in range(32)]
    with pytest.raises(StatementInvalid):
        box.store.create_account(bert.account, [*bert.first_statements(), *many])


# Signers


def test_a_flipped_bit_in_a_signature_is_refused(box: Box, anna: Person) -> None:
    encoded = bytearray(kit(anna).encoded)
    encoded[-1] ^= 1
    with pytest.raises(StatementInvalid):
        box.store.put_statements(anna.account, [statements.parse(bytes(encoded))])


def test_nobody_but_the_owner_signs_statements(box: Box, anna: Person) -> None:
    stranger = SigningKey(b"s" * 32)
    for body, kind, number in (
        (pb.SlotBody(slot_id=anna.slot.raw, removed=True), StatementKind.SLOT, 2),
        (pb.RevocationBody(device_id=b"d" * 16), StatementKind.REVOCATION, 1),
    ):
        forged = statements.make(kind, anna.account, number, body, stranger)
        with pytest.raises(StatementInvalid):
            box.store.put_statements(anna.account, [forged])


def test_a_new_owner_key_needs_the_old_ones_consent(box: Box, anna: Person) -> None:
    stranger = SigningKey(b"s" * 32)
    body = pb.AccountBody(user="anna", owner_key=stranger.public, created=1)
    body.succession = stranger.sign(succession_message(anna.account, 2, stranger.public))
    forged = statements.make(StatementKind.ACCOUNT, anna.account, 2, body, stranger)
    with pytest.raises(StatementInvalid):
        box.store.put_statements(anna.account, [forged])
    assert box.store.account(anna.account).owner_key == anna.root.owner.public


def test_after_a_succession_only_the_new_owner_signs(box: Box, anna: Person) -> None:
    old_kit = kit(anna)
    box.store.put_statements(anna.account, succession(anna))
    assert box.store.account(anna.account).owner_key == anna.root.owner.public
    with pytest.raises(StatementInvalid):
        box.store.put_statements(anna.account, [old_kit])
    box.store.put_statements(anna.account, [kit(anna)])
    owner = anna.root.owner.public
    found = box.store.statements(anna.account)
    assert [s.number for s in found if s.kind is StatementKind.ACCOUNT] == [1, 2]
    assert box.rebuild().account(anna.account).owner_key == owner


def test_only_the_accounts_own_kinds_can_be_put(box: Box, anna: Person) -> None:
    run = anna.machine().run()
    header, _body = run.snapshot(ChunkId(bytes(32)), None)
    order = anna.order(bytes(32), 1, forgotten=True)
    for other in (run.session_statement, header, order):
        with pytest.raises(StatementInvalid):
            box.store.put_statements(anna.account, [other])


# Numbers


def test_numbers_go_up_by_one(box: Box, anna: Person) -> None:
    for number in (1, 3, 99):
        again = anna.slot_statement(anna.slot, SlotKeys(b"n" * 32), number)
        with pytest.raises(StatementOutdated):
            box.store.put_statements(anna.account, [again])
    box.store.put_statements(anna.account, [anna.slot_statement(anna.slot, anna.keys, 2)])


def test_putting_the_same_again_is_fine(box: Box, anna: Person) -> None:
    new = [kit(anna)]
    box.store.put_statements(anna.account, new)
    box.store.put_statements(anna.account, new)
    box.store.put_statements(anna.account, anna.first_statements()[:1])


def test_all_or_none(box: Box, anna: Person) -> None:
    before = names(box, anna)
    with pytest.raises(StatementOutdated):
        box.store.put_statements(
            anna.account, [kit(anna), anna.slot_statement(anna.slot, anna.keys, 7)]
        )
    assert names(box, anna) == before
    assert box.store.slot(SlotId(b"k" * 16)) is None


def test_every_epoch_stays(box: Box, anna: Person) -> None:
    """What was sealed to an old one is still to be opened."""
    body = pb.EpochBody(vault_key=b"v" * 32, wrapped_vault_secret=b"w" * 72, created=2)
    box.store.put_statements(anna.account, [anna.sign(StatementKind.EPOCH, 2, body)])
    for store in (box.store, box.reopen(), box.rebuild()):
        found = store.statements(anna.account)
        assert [s.number for s in found if s.kind is StatementKind.EPOCH] == [1, 2]
        assert [s.number for s in found if s.kind is StatementKind.ACCOUNT] == [1]


# Slots


def test_a_changed_password_replaces_the_old_slot_also_on_disk(box: Box, anna: Person) -> None:
    new = anna.slot_statement(anna.slot, SlotKeys(b"new".ljust(32)), 2)
    box.store.put_statements(anna.account, [new])
    assert box.store.password_slot(anna.account) == new
    assert box.store.slot(anna.slot) == (anna.account, new)
    slots = [name for name in names(box, anna) if name.startswith("slot")]
    assert slots == [f"slot-{anna.slot}-2"]
    assert box.rebuild().password_slot(anna.account) == new


def test_the_last_slot_cannot_be_removed(box: Box, anna: Person) -> None:
    with pytest.raises(LastSlot):
        box.store.put_statements(anna.account, [anna.slot_removed(anna.slot, 2)])


def test_a_slot_can_be_removed_when_another_is_left(box: Box, anna: Person) -> None:
    box.store.put_statements(anna.account, [kit(anna), anna.slot_removed(anna.slot, 2)])
    for store in (box.store, box.rebuild()):
        assert store.slot(anna.slot) is None
        assert store.password_slot(anna.account) is None
        assert store.slot(SlotId(b"k" * 16)) is not None
    removed = anna.slot_removed(SlotId(b"k" * 16), 2)
    with pytest.raises(LastSlot):
        box.store.put_statements(anna.account, [removed])


def test_there_is_one_password_slot(box: Box, anna: Person) -> None:
    second = anna.slot_statement(SlotId(b"2" * 16), anna.keys, 1)
    with pytest.raises(StatementInvalid):
        box.store.put_statements(anna.account, [second])


# Devices


def test_devices_are_found_with_their_domain(box: Box, anna: Person) -> None:
    machine = box.machine(anna)
    for store in (box.store, box.reopen(), box.rebuild()):
        row = store.device(machine.device)
        assert row is not None
        assert (row.account, row.domain, row.revoked) == (anna.account, machine.domain, None)
        assert row.statement.encoded == machine.certificate(1).encoded
        assert row.last_snapshot is None
        assert store.devices(anna.account) == [row]
    assert box.store.device(DeviceId(b"nobody's device!")) is None


def test_a_device_needs_its_domain(box: Box, anna: Person) -> None:
    with pytest.raises(StatementInvalid):
        box.store.put_statements(anna.account, [anna.machine().certificate(1)])


def test_a_revocation_is_final(box: Box, anna: Person) -> None:
    machine = box.machine(anna)
    box.store.put_statements(anna.account, [machine.revocation()])
    for store in (box.store, box.rebuild()):
        row = store.device(machine.device)
        assert row is not None
        assert row.revoked is not None
    with pytest.raises(StatementOutdated):
        box.store.put_statements(anna.account, [machine.certificate(2)])


def test_a_revocation_needs_a_device(box: Box, anna: Person) -> None:
    with pytest.raises(StatementInvalid):
        box.store.put_statements(anna.account, [anna.machine().revocation()])


def test_ids_of_another_account_cannot_be_claimed(box: Box, anna: Person) -> None:
    """Records are found by domain: whoever shared one could ask what others have."""
    victim = box.machine(anna)
    thief = box.person("thief")
    machine = thief.machine()
    machine.domain = victim.domain
    with pytest.raises(StatementInvalid):
        box.store.put_statements(thief.account, machine.statements())
    machine = thief.machine(device=victim.device)
    with pytest.raises(StatementInvalid):
        box.store.put_statements(thief.account, machine.statements())
    stolen = thief.slot_statement(anna.slot, thief.keys, 1, pb.SLOT_KIND_RECOVERY)
    with pytest.raises(StatementInvalid):
        box.store.put_statements(thief.account, [stolen])
    assert box.store.slot(anna.slot) is not None


def test_unknown_things_are_not_found(box: Box, anna: Person) -> None:
    nobody = Person("nobody")
    assert box.store.find_user("nobody") is None
    assert box.store.slot(nobody.slot) is None
    for ask in (box.store.account, box.store.statements, box.store.password_slot):
        with pytest.raises(NotFound):
            ask(nobody.account)
    with pytest.raises(NotFound):
        box.store.put_statements(nobody.account, nobody.first_statements())
    domain = DomainId(b"d" * 16)
    assert list(box.store.read(anna.account, domain, [])) == []
