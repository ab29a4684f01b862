"""Promises about who may call what: the table is the daemon's, its meaning is tried by calling."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from backit.v1 import accounts_pb2, appliance_pb2, chunks_pb2, devices_pb2, snapshots_pb2
from backitd.auth.rights import RULES, Right
from tests.backitd import daemons
from tests.backitd.clients import Client, code, reason
from tests.backitd.daemons import WAIT, Box

FILES: list[Any] = [
    accounts_pb2.DESCRIPTOR,
    appliance_pb2.DESCRIPTOR,
    chunks_pb2.DESCRIPTOR,
    devices_pb2.DESCRIPTOR,
    snapshots_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
]


# Declared by the library and not implemented in it.
NOT_SERVED = {"/grpc.health.v1.Health/List"}


def methods() -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_every_method_of_every_service_has_its_rule_and_there_are_no_others() -> None:
    assert set(RULES) == methods() - NOT_SERVED


@pytest.fixture(scope="module")
def callers() -> Iterator[dict[str, Client]]:
    with daemons.box() as box:
        person, client = box.person()
        _machine, device = box.machine(person, client)
        yield {
            "nobody": box.client(),
            "person": client,
            "device": device,
            "admin": box.admin(),
        }


def call(client: Client, method: str) -> grpc.RpcError | None:
    """What came of a call with an empty request, whatever kind of method it is."""
    stream = client.channel.stream_stream(method, bytes, bytes)
    try:
        for _answer in stream(iter([b""]), metadata=client.metadata, timeout=WAIT):
            pass
    except grpc.RpcError as error:
        return error
    return None


LET_IN = {
    Right.ANYONE: {"nobody", "person", "device"},
    Right.LOGIN: {"person", "device"},
    Right.PERSON: {"person"},
    Right.DEVICE: {"device"},
    Right.ADMIN: {"admin"},
}
KEPT_OUT = {"LOGIN_NEEDED", "NOT_THE_OWNER", "NOT_A_DEVICE"}


# One never ends, the other ends the caller's login; tests of their own show them.
ELSEWHERE = {"/grpc.health.v1.Health/Watch", "/backit.v1.AccountService/Logout"}


@pytest.mark.parametrize("method", sorted(set(RULES) - ELSEWHERE))
@pytest.mark.parametrize("who", ["nobody", "person", "device"])
def test_only_those_come_in_who_may(callers: dict[str, Client], method: str, who: str) -> None:
    right = RULES[method].right
    error = call(callers[who], method)
    if who in LET_IN[right]:
        assert error is None or reason(error) not in KEPT_OUT
        return
    assert error is not None
    if right is Right.ADMIN:
        assert code(error) is grpc.StatusCode.UNIMPLEMENTED
    elif who == "nobody":
        assert (code(error), reason(error)) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "LOGIN_NEEDED",
        )
    else:
        wanted = "NOT_THE_OWNER" if who == "device" else "NOT_A_DEVICE"
        assert (code(error), reason(error)) == (grpc.StatusCode.PERMISSION_DENIED, wanted)


def test_a_method_that_is_not_in_the_table_is_not_there(
    callers: dict[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RULES, "/backit.v1.ApplianceService/GetAppliance")
    error = call(callers["person"], "/backit.v1.ApplianceService/GetAppliance")
    assert error is not None
    assert code(error) is grpc.StatusCode.UNIMPLEMENTED


def test_the_admin_socket_serves_the_administrator_alone(callers: dict[str, Client]) -> None:
    admin = callers["admin"]
    assert admin.admin.CreateInvite(appliance_pb2.CreateInviteRequest()).code
    error = call(admin, "/backit.v1.ApplianceService/GetAppliance")
    assert error is not None
    assert code(error) is grpc.StatusCode.UNIMPLEMENTED


def services(client: Client) -> list[str]:
    ask = client.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = list(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    return [service.name for service in answers[0].list_services_response.service]


def test_reflection_is_on_the_admin_socket_and_nowhere_else(box: Box) -> None:
    assert "backit.v1.AdminService" in services(box.admin())
    with pytest.raises(grpc.RpcError) as caught:
        services(box.client())
    assert code(caught.value) is grpc.StatusCode.UNIMPLEMENTED
