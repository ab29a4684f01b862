"""Promises of DeviceService over a real connection: a machine comes in without the password."""

from typing import Any

import grpc
import pytest

from backit.crypto.keys import SigningKey
from backit.format import statement
from backit.format.statement import StatementKind
from backit.ids import DeviceId, EnrolmentId
from backit.v1 import devices_pb2 as pb
from tests.backitd.clients import Client, code, reason
from tests.backitd.daemons import Box
from tests.backitd.people import Machine, Person

WAITING = pb.Enrolment.STATE_WAITING
APPROVED = pb.Enrolment.STATE_APPROVED
DEVICE = SigningKey(b"d" * 32)
POLL_KEY = b"p" * 32


def wish(user: str = "alice", **changes: Any) -> pb.CreateEnrolmentRequest:
    fields: dict[str, Any] = {
        "user": user,
        "label": "laptop",
        "device_key": DEVICE.public,
        "box_key": b"b" * 32,
        "poll_key": POLL_KEY,
    }
    return pb.CreateEnrolmentRequest(**(fields | changes))


def poll(client: Client, name: str, poll_key: bytes = POLL_KEY) -> pb.Enrolment:
    return client.devices.GetEnrolment(pb.GetEnrolmentRequest(name=name, poll_key=poll_key))


def waiting(client: Client) -> list[pb.Enrolment]:
    answer = client.devices.ListEnrolments(pb.ListEnrolmentsRequest(), metadata=client.metadata)
    return list(answer.enrolments)


def machine_for(person: Person, enrolment: pb.Enrolment) -> Machine:
    machine = person.machine(device=DeviceId(EnrolmentId.from_name(enrolment.name).raw))
    machine.key = DEVICE
    return machine


def approve(client: Client, enrolment: pb.Enrolment, machine: Machine) -> pb.Enrolment:
    request = pb.ApproveEnrolmentRequest(
        name=enrolment.name,
        statements=[one.encoded for one in machine.statements()],
        sealed_secrets=b"sealed",
    )
    return client.devices.ApproveEnrolment(request, metadata=client.metadata)


def test_a_machine_waits_is_approved_and_logs_in(box: Box) -> None:
    person, client = box.person()
    stranger = box.client()
    created = stranger.devices.CreateEnrolment(wish())
    assert (created.state, created.label) == (WAITING, "laptop")
    assert waiting(client) == [created]
    assert poll(stranger, created.name) == created
    machine = machine_for(person, created)
    approve(client, created, machine)
    assert waiting(client) == []
    approved = poll(stranger, created.name)
    assert (approved.state, approved.sealed_secrets) == (APPROVED, b"sealed")
    kinds = [statement.parse(one).kind for one in approved.statements]
    assert kinds == [StatementKind.ACCOUNT, StatementKind.EPOCH, StatementKind.DEVICE]
    stranger.log_in_machine(machine)


def test_approving_again_changes_nothing(box: Box) -> None:
    person, client = box.person()
    created = box.client().devices.CreateEnrolment(wish())
    machine = machine_for(person, created)
    request = pb.ApproveEnrolmentRequest(
        name=created.name,
        statements=[one.encoded for one in machine.statements()],
        sealed_secrets=b"sealed",
    )
    first = client.devices.ApproveEnrolment(request, metadata=client.metadata)
    assert client.devices.ApproveEnrolment(request, metadata=client.metadata) == first


def test_an_unknown_user_is_waited_for_like_a_known_one(box: Box) -> None:
    box.person("alice")
    stranger = box.client()
    answers = [stranger.devices.CreateEnrolment(wish(user)) for user in ("alice", "nobody")]
    for answer in answers:
        assert poll(stranger, answer.name) == answer
        answer.name = ""
    assert answers[0] == answers[1]


def test_eight_machines_wait_for_a_user_and_no_more(box: Box) -> None:
    box.person("alice")
    stranger = box.client()
    for user in ("alice", "nobody"):
        for number in range(8):
            stranger.devices.CreateEnrolment(wish(user, label=f"machine {number}"))
        with pytest.raises(grpc.RpcError) as caught:
            stranger.devices.CreateEnrolment(wish(user, label="one more"))
        assert code(caught.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(caught.value) == "TOO_MANY_ENROLMENTS"


def test_only_who_asked_can_poll_and_only_for_an_hour(box: Box) -> None:
    box.person()
    stranger = box.client()
    created = stranger.devices.CreateEnrolment(wish())
    for name, key in (
        (created.name, b"q" * 32),
        (created.name, b""),
        ("enrolments/" + "0" * 32, POLL_KEY),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            poll(stranger, name, key)
        assert code(caught.value) is grpc.StatusCode.NOT_FOUND
        assert reason(caught.value) == "ENROLMENT_NOT_FOUND"
    box.clock.forward(3600)
    with pytest.raises(grpc.RpcError):
        poll(stranger, created.name)


def refused(client: Client, enrolment: pb.Enrolment, machine: Machine) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        approve(client, enrolment, machine)
    return reason(caught.value)


def test_a_certificate_for_another_key_or_machine_is_refused(box: Box) -> None:
    person, client = box.person()
    created = box.client().devices.CreateEnrolment(wish())
    other_key = machine_for(person, created)
    other_key.key = SigningKey(b"x" * 32)
    assert refused(client, created, other_key) == "STATEMENT_INVALID"
    assert refused(client, created, person.machine()) == "STATEMENT_INVALID"
    assert waiting(client) == [created]


def test_nobody_approves_for_another_account(box: Box) -> None:
    box.person("alice")
    mallory, client = box.person("mallory")
    created = box.client().devices.CreateEnrolment(wish("alice"))
    assert waiting(client) == []
    assert refused(client, created, machine_for(mallory, created)) == "ENROLMENT_NOT_FOUND"


@pytest.mark.parametrize(
    "changes",
    [
        {"user": ""},
        {"label": ""},
        {"label": "x" * 65},
        {"label": "a\x1b[31mb"},
        {"device_key": b"short"},
        {"box_key": bytes(33)},
        {"poll_key": b""},
    ],
)
def test_a_malformed_wish_is_refused(box: Box, changes: dict[str, Any]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        box.client().devices.CreateEnrolment(wish(**({"user": "alice"} | changes)))
    assert reason(caught.value) == "REQUEST_INVALID"


def test_secrets_beyond_4_kib_are_refused(box: Box) -> None:
    person, client = box.person()
    created = box.client().devices.CreateEnrolment(wish())
    request = pb.ApproveEnrolmentRequest(
        name=created.name,
        statements=[one.encoded for one in machine_for(person, created).statements()],
        sealed_secrets=bytes(4097),
    )
    with pytest.raises(grpc.RpcError) as caught:
        client.devices.ApproveEnrolment(request, metadata=client.metadata)
    assert reason(caught.value) == "REQUEST_INVALID"


def test_devices_are_listed_by_label_with_what_the_box_knows(box: Box) -> None:
    person, client = box.person()
    zebra, ant = person.machine("zebra"), person.machine("ant")
    client.put([*zebra.statements(), *ant.statements()])
    client.put([zebra.revocation()])
    answer = client.devices.ListDevices(pb.ListDevicesRequest(), metadata=client.metadata)
    assert [device.name for device in answer.devices] == [ant.device.name, zebra.device.name]
    first, second = answer.devices
    assert first.statement == ant.certificate(1).encoded
    assert (first.revocation, second.revocation) == (b"", zebra.revocation().encoded)
    assert not first.HasField("last_snapshot_time")
