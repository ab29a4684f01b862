"""Promises of AccountService over a real connection: signup and statements."""

import threading
from dataclasses import replace
from typing import Any

import grpc
import pytest

from backit.crypto.keys import SlotKeys
from backit.format import statement
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2
from backit.ids import SlotId
from backit.v1 import accounts_pb2 as pb
from backit.v1 import appliance_pb2
from tests.backitd import daemons
from tests.backitd.clients import Client, code, reason
from tests.backitd.daemons import GENEROUS, Box
from tests.backitd.people import Person

BY_INVITATION = replace(GENEROUS, open_signup=False)


def invite(box: Box) -> str:
    return box.admin().admin.CreateInvite(appliance_pb2.CreateInviteRequest()).code


def refused(client: Client, person: Person, code: str = "") -> str:
    with pytest.raises(grpc.RpcError) as caught:
        client.sign_up(person, code)
    return reason(caught.value)


# Signup


def test_signing_up_makes_an_account(box: Box) -> None:
    person = Person("alice")
    account = box.client().sign_up(person)
    assert (account.name, account.user) == (person.account.name, "alice")
    assert (account.principal, account.stored_bytes) == ("", 0)
    assert account.create_time.seconds == int(box.clock.now())


def test_the_same_signup_again_is_fine(box: Box) -> None:
    person = Person("alice")
    first, second = person.first_statements(), []
    request = pb.CreateAccountRequest(
        account_id=person.account.raw, statements=[one.encoded for one in first]
    )
    second = [box.client().accounts.CreateAccount(request) for _ in range(2)]
    assert second[0] == second[1]


def test_a_taken_name_is_refused(box: Box) -> None:
    box.client().sign_up(Person("alice"))
    other = Person("Alice")
    with pytest.raises(grpc.RpcError) as caught:
        box.client().sign_up(other)
    assert (code(caught.value), reason(caught.value)) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "USER_EXISTS",
    )


def test_signing_up_needs_an_invite_unless_it_is_open() -> None:
    with daemons.box(BY_INVITATION) as box:
        client = box.client()
        assert not client.appliance.GetAppliance(appliance_pb2.GetApplianceRequest()).open_signup
        assert refused(client, Person("alice")) == "INVITE_NEEDED"
        assert refused(client, Person("alice"), "AAAA-BBBB-CCCC-DDDD") == "INVITE_NEEDED"
        client.sign_up(Person("alice"), invite(box))


def test_an_invite_is_used_once_also_by_many_at_the_same_time() -> None:
    with daemons.box(BY_INVITATION) as box:
        shared = invite(box)
        made: list[str] = []

        def sign_up(client: Client, user: str) -> None:
            try:
                made.append(client.sign_up(Person(user), shared).user)
            except grpc.RpcError as error:
                assert reason(error) == "INVITE_NEEDED"  # noqa: PT017 - in a thread

        threads = [
            threading.Thread(target=sign_up, args=(box.client(), f"user{number}"))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1


def test_a_signup_that_fails_leaves_its_invite() -> None:
    with daemons.box(BY_INVITATION) as box:
        shared = invite(box)
        unsigned = Person("alice")
        unsigned.first_statements = list  # type: ignore[method-assign]
        client = box.client()
        assert refused(client, unsigned, shared) == "REQUEST_INVALID"
        broken = Person("bob")
        statements = broken.first_statements()[:2]
        broken.first_statements = lambda: statements  # type: ignore[method-assign]
        assert refused(client, broken, shared) == "STATEMENT_INVALID"
        client.sign_up(Person("carol"), shared)


def test_a_signup_whose_answer_was_lost_may_be_repeated() -> None:
    with daemons.box(BY_INVITATION) as box:
        client, person, shared = box.client(), Person("alice"), invite(box)
        request = pb.CreateAccountRequest(
            account_id=person.account.raw,
            invite=shared,
            statements=[one.encoded for one in person.first_statements()],
        )
        assert client.accounts.CreateAccount(request) == client.accounts.CreateAccount(request)
        assert refused(client, Person("bob"), shared) == "INVITE_NEEDED"


def test_an_invite_outlives_the_daemon() -> None:
    with daemons.short_folder() as folder:
        with daemons.box(BY_INVITATION, state=folder / "state") as box:
            shared = invite(box)
        with daemons.box(BY_INVITATION, state=folder / "state") as box:
            box.client().sign_up(Person("alice"), shared)


@pytest.mark.parametrize(
    "changes",
    [
        {"account_id": b"short"},
        {"statements": []},
        {"statements": [b"x"] * 33},
        {"statements": [b"BKST" + bytes(60_000)]},
        {"invite": "x" * 1000},
    ],
)
def test_a_malformed_signup_is_refused(box: Box, changes: dict[str, Any]) -> None:
    person = Person("alice")
    fields: dict[str, Any] = {
        "account_id": person.account.raw,
        "statements": [one.encoded for one in person.first_statements()],
    }
    with pytest.raises(grpc.RpcError) as caught:
        box.client().accounts.CreateAccount(pb.CreateAccountRequest(**(fields | changes)))
    assert code(caught.value) in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    )


# Statements


def listed(client: Client, page_size: int = 0) -> list[list[bytes]]:
    """The pages."""
    pages: list[list[bytes]] = []
    token = ""
    while True:
        answer = client.accounts.ListStatements(
            pb.ListStatementsRequest(page_size=page_size, page_token=token),
            metadata=client.metadata,
        )
        pages.append(list(answer.statements))
        token = answer.next_page_token
        if not token:
            return pages


def kinds(statements: list[bytes]) -> list[StatementKind]:
    return [statement.parse(one).kind for one in statements]


def test_the_person_sees_all_statements_and_a_device_no_slots_and_domains(box: Box) -> None:
    person, client = box.person()
    _machine, device = box.machine(person, client)
    (mine,), (its,) = listed(client), listed(device)
    account, slot, epoch, domain, certificate = (
        StatementKind.ACCOUNT,
        StatementKind.SLOT,
        StatementKind.EPOCH,
        StatementKind.DOMAIN,
        StatementKind.DEVICE,
    )
    assert kinds(mine) == [account, slot, epoch, domain, certificate]
    assert kinds(its) == [account, epoch, certificate]


@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 1000, 2**31 - 1])
def test_pages_together_are_the_whole(box: Box, page_size: int) -> None:
    person, client = box.person()
    box.machine(person, client)
    (whole,) = listed(client)
    pages = listed(client, page_size)
    assert [one for page in pages for one in page] == whole
    assert max(len(page) for page in pages) == min(page_size, len(whole))


def test_all_epochs_are_listed(box: Box) -> None:
    person, client = box.person()
    for number in (2, 3):
        epoch = statement_pb2.EpochBody(
            vault_key=person.vault.public,
            wrapped_vault_secret=person.wrap(StatementKind.EPOCH, b"", number, bytes(32)),
        )
        client.put([person.sign(StatementKind.EPOCH, number, epoch)])
    epochs = [statement.parse(one) for page in listed(client, 1) for one in page]
    numbers = [one.number for one in epochs if one.kind is StatementKind.EPOCH]
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize(
    "token", ["x", "1-2", "1--1-1", "1-zz-", "9" * 200, "1-" + "a" * 200 + "-1"]
)
def test_a_made_up_page_token_is_refused(box: Box, token: str) -> None:
    _person, client = box.person()
    with pytest.raises(grpc.RpcError) as caught:
        client.accounts.ListStatements(
            pb.ListStatementsRequest(page_token=token), metadata=client.metadata
        )
    assert reason(caught.value) == "REQUEST_INVALID"


def put_refused(client: Client, statements: list[bytes]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        client.accounts.PutStatements(
            pb.PutStatementsRequest(statements=statements), metadata=client.metadata
        )
    return reason(caught.value)


def test_statements_must_follow_each_other(box: Box) -> None:
    person, client = box.person()
    skipped = person.slot_statement(person.slot, person.keys, 3)
    assert put_refused(client, [skipped.encoded]) == "STATEMENT_OUTDATED"


def test_the_last_slot_stays(box: Box) -> None:
    person, client = box.person()
    removed = person.slot_removed(person.slot, 2)
    assert put_refused(client, [removed.encoded]) == "LAST_SLOT"


def test_nobody_puts_statements_into_another_account(box: Box) -> None:
    alice, _client = box.person("alice")
    mallory, client = box.person("mallory")
    forged = alice.slot_statement(SlotId(b"m" * 16), mallory.keys, 1)
    assert put_refused(client, [forged.encoded]) == "STATEMENT_INVALID"


def test_what_the_owner_did_not_sign_is_refused(box: Box) -> None:
    person, client = box.person()
    stranger = Person("stranger")
    stranger.account = person.account
    keys = SlotKeys(b"n" * 32)
    kind = statement_pb2.SLOT_KIND_RECOVERY
    forged = stranger.slot_statement(SlotId(b"m" * 16), keys, 1, kind)
    assert put_refused(client, [forged.encoded]) == "STATEMENT_INVALID"


def test_kinds_that_have_ways_of_their_own_are_not_put_this_way(box: Box) -> None:
    person, client = box.person()
    machine, _device = box.machine(person, client)
    for one in (machine.run().session_statement, person.order(bytes(32), 1, forgotten=True)):
        assert put_refused(client, [one.encoded]) == "STATEMENT_INVALID"


def test_how_much_is_put_at_once_is_bounded(box: Box) -> None:
    _person, client = box.person()
    assert put_refused(client, []) == "REQUEST_INVALID"
    assert put_refused(client, [b"x"] * 1001) == "REQUEST_INVALID"
    assert put_refused(client, [bytes(60_000)] * 80) == "REQUEST_INVALID"
