"""Whatever a client sends, to whatever method: the status means something and is never INTERNAL.

Bytes that are no message, messages with random fields, and messages that begin right.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backit.v1 import errors_pb2
from backitd.auth.rights import RULES, Right
from tests.backitd import daemons
from tests.backitd.clients import Client, code, reason
from tests.backitd.daemons import WAIT
from tests.backitd.test_rights import ELSEWHERE, FILES

METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
}
NAMES = sorted(set(RULES) - ELSEWHERE)
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
REASONS = {name.removeprefix("REASON_") for name in errors_pb2.Reason.keys()}  # noqa: SIM118

HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
COLLECTIONS = st.sampled_from(["accounts", "slots", "devices", "leases", "enrolments", "snapshots"])
TEXTS = st.one_of(st.text(max_size=80), st.builds("{}/{}".format, COLLECTIONS, HEX))
BYTES = st.one_of(
    st.binary(max_size=100),
    st.sampled_from([bytes(16), bytes(32), bytes(64)]),
    st.builds(bytes.__add__, st.sampled_from([b"BKST\1\2\0\0", b"BKRC\1\2\1\0"]), st.binary()),
)


PLAIN: dict[int, st.SearchStrategy[object]] = {
    FieldDescriptor.CPPTYPE_STRING: TEXTS,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}


def values(field: FieldDescriptor) -> st.SearchStrategy[object]:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BYTES
    if field.message_type is not None:
        return messages(field.message_type)
    return PLAIN[field.cpp_type]


def messages(kind: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of this kind with any of their fields set."""
    make = GetMessageClass(kind)
    fields: dict[str, st.SearchStrategy[object]] = {}
    for field in kind.fields:
        one = values(field)
        fields[field.name] = st.lists(one, max_size=5) if field.is_repeated else one
    chosen = st.fixed_dictionaries({}, optional=fields)

    def filled(given: dict[str, Any]) -> Message:
        return make(**one_of_each(kind, given))

    return st.builds(filled, chosen)


def one_of_each(kind: Descriptor, given: dict[str, Any]) -> dict[str, Any]:
    """Of the fields that exclude each other, the last one stays."""
    for group in kind.oneofs:
        names = [field.name for field in group.fields if field.name in given]
        for name in names[:-1]:
            del given[name]
    return given


@pytest.fixture(scope="module")
def callers() -> Iterator[dict[str, Client]]:
    with daemons.box() as box:
        person, client = box.person()
        machine, device = box.machine(person, client)
        lease = device.lease(machine.run())
        callers = {"nobody": box.client(), "person": client, "device": device, "admin": box.admin()}
        yield callers
        # After all that, everybody can still do what they came for.
        client.put([machine.certificate(2)])
        assert lease.name


def answer(client: Client, method: str, requests: list[bytes]) -> grpc.RpcError | None:
    stream = client.channel.stream_stream(method, bytes, bytes)
    try:
        for _answer in stream(iter(requests), metadata=client.metadata, timeout=WAIT):
            pass
    except grpc.RpcError as error:
        return error
    return None


def check_answer(client: Client, method: str, requests: list[bytes]) -> None:
    error = answer(client, method, requests)
    if error is None:
        return
    assert code(error) not in FAULTS, error
    # Health has codes of its own.
    if method.startswith("/backit.") and code(error) is not grpc.StatusCode.UNIMPLEMENTED:
        assert reason(error) in REASONS, error


THOROUGH = settings(
    deadline=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
WHO = st.sampled_from(["nobody", "person", "device"])


def caller_of(callers: dict[str, Client], method: str, who: str) -> Client:
    return callers["admin" if RULES[method].right is Right.ADMIN else who]


@THOROUGH
@given(st.sampled_from(NAMES), WHO, st.lists(st.binary(max_size=200), max_size=3))
def test_bytes_that_are_no_message(
    callers: dict[str, Client], method: str, who: str, requests: list[bytes]
) -> None:
    check_answer(caller_of(callers, method, who), method, requests)


@pytest.mark.parametrize("method", NAMES)
def test_no_message_at_all(callers: dict[str, Client], method: str) -> None:
    for who in ("nobody", "person", "device"):
        check_answer(caller_of(callers, method, who), method, [])


@pytest.mark.parametrize("method", NAMES)
@settings(parent=THOROUGH, max_examples=40)
@given(who=WHO, data=st.data())
def test_messages_with_random_fields(
    callers: dict[str, Client], method: str, who: str, data: st.DataObject
) -> None:
    kind = METHODS[method].input_type
    requests = data.draw(st.lists(messages(kind), min_size=1, max_size=2))
    encoded = [request.SerializeToString() for request in requests]
    check_answer(caller_of(callers, method, who), method, encoded)
