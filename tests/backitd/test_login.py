"""Promises of the login, over a real connection."""

from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from backit.crypto import primitives
from backit.crypto.keys import SigningKey, SlotKeys
from backit.crypto.passphrase import STANDARD
from backit.format.v1 import statement_pb2
from backit.ids import SlotId
from backit.v1 import accounts_pb2
from backitd.config import LoginSettings
from backitd.store import Store
from tests.backitd import daemons
from tests.backitd.clients import Client, code, detail, reason
from tests.backitd.daemons import GENEROUS, Box
from tests.backitd.people import Person

WRONG = SigningKey(b"w" * 32)


def refused(client: Client, challenge: accounts_pb2.Challenge, name: str, key: SigningKey) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        client.answer(challenge, name, key)
    return reason(caught.value)


def who_am_i(client: Client) -> accounts_pb2.Account:
    return client.accounts.GetAccount(accounts_pb2.GetAccountRequest(), metadata=client.metadata)


def needs_login(client: Client) -> bool:
    try:
        who_am_i(client)
    except grpc.RpcError as error:
        return (code(error), reason(error)) == (grpc.StatusCode.UNAUTHENTICATED, "LOGIN_NEEDED")
    return False


def test_a_person_logs_in_with_the_password_slot(box: Box) -> None:
    person, client = box.person("Alice")
    assert who_am_i(client).name == person.account.name
    assert who_am_i(client).user == "Alice"
    assert who_am_i(client).principal == person.slot.name


def test_any_spelling_of_the_user_name_logs_in(box: Box) -> None:
    person, _client = box.person("Alice")
    other = box.client()
    token = other.answer(other.challenge(user="ALICE"), "user:ALICE", person.keys.login)
    assert token.account == person.account.name


def test_a_person_logs_in_with_any_slot(box: Box) -> None:
    person, client = box.person()
    kit, keys = SlotId(b"k" * 16), SlotKeys(b"k" * 32)
    client.put([person.slot_statement(kit, keys, 1, statement_pb2.SLOT_KIND_RECOVERY)])
    other = box.client()
    challenge = other.challenge(slot=kit.name)
    assert challenge.salt == b""
    other.token = other.answer(challenge, kit.name, keys.login).token
    assert who_am_i(other).principal == kit.name


def test_a_device_logs_in_with_its_key(box: Box) -> None:
    machine, client = box.machine(*box.person())
    assert who_am_i(client).principal == machine.device.name


def test_a_wrong_key_is_refused(box: Box) -> None:
    person, client = box.person()
    name = f"user:{person.user}"
    assert refused(client, client.challenge(user=person.user), name, WRONG) == "LOGIN_REFUSED"


def test_a_challenge_works_once(box: Box) -> None:
    person, client = box.person()
    challenge, name = client.challenge(user=person.user), f"user:{person.user}"
    client.answer(challenge, name, person.keys.login)
    assert refused(client, challenge, name, person.keys.login) == "LOGIN_REFUSED"


def test_a_challenge_ends_after_two_minutes(box: Box) -> None:
    person, client = box.person()
    challenge, name = client.challenge(user=person.user), f"user:{person.user}"
    box.clock.forward(120)
    assert refused(client, challenge, name, person.keys.login) == "LOGIN_REFUSED"


def test_a_challenge_works_for_the_name_it_was_asked_for_alone(box: Box) -> None:
    alice, client = box.person("alice")
    box.person("bob")
    challenge = client.challenge(user="bob")
    assert refused(client, challenge, "user:alice", alice.keys.login) == "LOGIN_REFUSED"


def test_a_signature_for_another_appliance_is_refused(box: Box) -> None:
    person, client = box.person()
    challenge = client.challenge(user=person.user)
    challenge.ca_fingerprint = bytes(32)
    refusal = refused(client, challenge, f"user:{person.user}", person.keys.login)
    assert refusal == "LOGIN_REFUSED"


def shape(challenge: accounts_pb2.Challenge) -> dict[str, object]:
    """What anybody sees of a challenge but the random parts."""
    return {
        field.name: len(value) if isinstance(value, bytes) else value
        for field, value in challenge.ListFields()
        if field.name != "ca_fingerprint"
    }


def test_an_unknown_user_looks_like_a_known_one(box: Box) -> None:
    client = box.client()
    client.sign_up(Person("alice", memory_kib=STANDARD.memory_kib, passes=STANDARD.passes))
    known, unknown = client.challenge(user="alice"), client.challenge(user="nobody")
    assert shape(known) == shape(unknown)
    assert known.ca_fingerprint == unknown.ca_fingerprint


def test_an_unknown_user_has_the_same_salt_each_time_and_after_a_restart() -> None:
    def salt(box: Box, user: str) -> bytes:
        return box.client().challenge(user=user).salt

    with daemons.short_folder() as folder:
        with daemons.box(state=folder / "state") as box:
            first = salt(box, "nobody")
            assert salt(box, "nobody") == first
            assert salt(box, "NOBODY") == first
            assert salt(box, "somebody") != first
        with daemons.box(state=folder / "state") as box:
            assert salt(box, "nobody") == first


@pytest.mark.parametrize("kind", ["user", "slot", "device"])
def test_an_unknown_name_is_refused_exactly_like_a_wrong_key(box: Box, kind: str) -> None:
    person, client = box.person()
    machine, _own = box.machine(person, client)
    known = {"user": person.user, "slot": person.slot.name, "device": machine.device.name}[kind]
    unknown = {"user": "nobody", "slot": f"slots/{'0' * 32}", "device": f"devices/{'0' * 32}"}[kind]
    seen: list[tuple[object, ...]] = []
    for name in (known, unknown):
        signed = f"user:{name}" if kind == "user" else name
        with pytest.raises(grpc.RpcError) as caught:
            client.answer(client.challenge(**{kind: name}), signed, WRONG)
        error = caught.value
        assert isinstance(error, grpc.Call)
        seen.append((error.code(), error.details(), error.trailing_metadata()))
    assert seen[0] == seen[1]


def test_an_unknown_name_costs_the_check_of_a_signature_too(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, client = box.person()
    checked: list[bytes] = []
    verifies = primitives.verifies

    def watched(public: bytes, message: bytes, signature: bytes) -> bool:
        checked.append(public)
        return verifies(public, message, signature)

    monkeypatch.setattr(primitives, "verifies", watched)
    for user in (person.user, "nobody"):
        refused(client, client.challenge(user=user), f"user:{user}", WRONG)
    assert len(checked) == 2
    assert checked[0] == person.keys.login.public


def test_an_unknown_user_costs_the_same_lookups(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    person, client = box.person()
    asked: list[str] = []
    for name in ("find_user", "account", "password_slot"):
        real = getattr(Store, name)

        def watched(*arguments: object, name: str = name, real: Any = real) -> object:
            asked.append(name)
            return real(*arguments)

        monkeypatch.setattr(Store, name, watched)
    costs: list[list[str]] = []
    for user in (person.user, "nobody"):
        client.challenge(user=user)
        costs.append(list(asked))
        asked.clear()
    assert costs[0] == costs[1] == ["find_user", "account", "password_slot"]


def test_a_login_of_nobody_is_malformed(box: Box) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        box.client().challenge()
    assert reason(caught.value) == "REQUEST_INVALID"


@pytest.mark.parametrize(
    "who",
    [
        {"user": ""},
        {"user": "x" * 65},
        {"user": "a\nb"},
        {"slot": "slots/00"},
        {"slot": "devices/" + "0" * 32},
        {"device": "devices/" + "A" * 32},
        {"device": "devices/ " + "0" * 32},
    ],
)
def test_a_malformed_name_is_refused_before_it_is_looked_up(box: Box, who: dict[str, str]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        box.client().challenge(**who)
    assert reason(caught.value) == "REQUEST_INVALID"


# Tokens


def test_a_token_ends_a_quarter_of_an_hour_after_its_last_use(box: Box) -> None:
    _person, client = box.person()
    box.clock.forward(899)
    who_am_i(client)
    box.clock.forward(899)
    who_am_i(client)
    box.clock.forward(900)
    assert needs_login(client)


def test_logout_makes_the_token_worthless(box: Box) -> None:
    _person, client = box.person()
    client.accounts.Logout(accounts_pb2.LogoutRequest(), metadata=client.metadata)
    assert needs_login(client)


@pytest.mark.parametrize("token", ["x", "a b", "A" * 43, "A" * 5000])
def test_a_made_up_token_is_none(box: Box, token: str) -> None:
    client = box.client()
    client.token = token
    assert needs_login(client)


def test_a_restart_logs_everybody_out() -> None:
    with daemons.short_folder() as folder:
        with daemons.box(state=folder / "state") as box:
            _person, client = box.person()
            token = client.token
        with daemons.box(state=folder / "state") as box:
            client = box.client()
            client.token = token
            assert needs_login(client)


# What ends logins


def test_revoking_a_device_ends_its_login_and_lets_it_in_no_more(box: Box) -> None:
    person, client = box.person()
    machine, own = box.machine(person, client)
    client.put([machine.revocation()])
    assert needs_login(own)
    name = machine.device.name
    assert refused(own, own.challenge(device=name), name, machine.key) == "DEVICE_REVOKED"
    assert refused(own, own.challenge(device=name), name, WRONG) == "LOGIN_REFUSED"
    who_am_i(client)


def test_a_changed_password_ends_other_logins_of_the_slot_and_not_its_own(box: Box) -> None:
    person, client = box.person()
    _machine, device = box.machine(person, client)
    other = box.client()
    other.log_in(person)
    keys = SlotKeys(b"n" * 32)
    client.put([person.slot_statement(person.slot, keys, 2)])
    who_am_i(client)
    who_am_i(device)
    assert needs_login(other)
    with pytest.raises(grpc.RpcError):
        other.log_in(person)
    person.keys = keys
    other.log_in(person)


def test_a_removed_slot_opens_nothing(box: Box) -> None:
    person, client = box.person()
    kit, keys = SlotId(b"k" * 16), SlotKeys(b"k" * 32)
    client.put([person.slot_statement(kit, keys, 1, statement_pb2.SLOT_KIND_RECOVERY)])
    client.put([person.slot_removed(kit, 2)])
    refusal = refused(client, client.challenge(slot=kit.name), kit.name, keys.login)
    assert refusal == "LOGIN_REFUSED"


# Limits


def test_wrong_passwords_are_slowed_down_by_name() -> None:
    settings = LoginSettings(address_burst=1000, name_burst=3, name_per_second=0.1)
    with daemons.box(replace(GENEROUS, login=settings)) as slow:
        person, client = slow.person("alice")
        other, _client = slow.person("bob")
        for _ in range(10):
            client.log_in(person)  # right ones do not count
        for user in ("alice", "nobody"):
            for _ in range(3):
                refused(client, client.challenge(user=user), f"user:{user}", WRONG)
            with pytest.raises(grpc.RpcError) as caught:
                client.answer(client.challenge(user=user), f"user:{user}", WRONG)
            assert code(caught.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason(caught.value) == "TOO_MANY_LOGINS"
            retry = error_details_pb2.RetryInfo()
            assert detail(caught.value, retry)
            assert retry.retry_delay.ToSeconds() == 10
        client.log_in(other)
        slow.clock.forward(10)
        client.log_in(person)


def test_one_address_cannot_ask_without_end() -> None:
    settings = LoginSettings(address_burst=5, address_per_second=1)
    with daemons.box(replace(GENEROUS, login=settings)) as slow:
        client = slow.client()
        for number in range(5):
            client.challenge(user=f"user{number}")
        with pytest.raises(grpc.RpcError) as caught:
            client.challenge(user="alice")
        assert reason(caught.value) == "TOO_MANY_LOGINS"
        slow.clock.forward(1)
        client.challenge(user="alice")
