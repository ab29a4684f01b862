"""Errors on their way back from the daemon: every reason becomes the class that has it."""

# gRPC names its methods and their arguments.

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from backit import errors
from backit.client.status import BY_REASON, error_of
from backit.ids import ChunkId
from backit.v1 import appliance_pb2, appliance_pb2_grpc, chunks_pb2, errors_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

Abort = Callable[[grpc.ServicerContext], None]


class Refusing(appliance_pb2_grpc.ApplianceServiceServicer):
    """Ends every call as the test wants."""

    abort: Abort

    def GetAppliance(
        self, request: appliance_pb2.GetApplianceRequest, context: grpc.ServicerContext
    ) -> appliance_pb2.Appliance:
        self.abort(context)
        return appliance_pb2.Appliance()

    def GetStatus(
        self, request: appliance_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> appliance_pb2.Status:
        raise NotImplementedError


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Callable[[Abort], errors.BackitError]]:
    """Have a real server end a call, and give what the client makes of it."""
    service = Refusing()
    server = grpc.server(ThreadPoolExecutor(1))
    appliance_pb2_grpc.add_ApplianceServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{tmp_path}/sock")
    server.start()
    channel = grpc.insecure_channel(f"unix:{tmp_path}/sock")

    def answer(abort: Abort) -> errors.BackitError:
        service.abort = abort
        stub = appliance_pb2_grpc.ApplianceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetAppliance(appliance_pb2.GetApplianceRequest(), timeout=10)
        return error_of(caught.value, "GetAppliance")

    yield answer
    channel.close()
    server.stop(None).wait()


def with_details(*details: Message, code: int = code_pb2.ABORTED, text: str = "why") -> Abort:
    def abort(context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=code, message=text)
        for detail in details:
            status.details.add().Pack(detail)
        context.abort_with_status(rpc_status.to_status(status))

    return abort


def info(reason: str, domain: str = "backit") -> Message:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain)


def reasons() -> list[str]:
    names = [each.removeprefix("REASON_") for each in errors_pb2.Reason.keys()]  # noqa: SIM118 - an enum
    return [each for each in names if each != "UNSPECIFIED"]


@pytest.mark.parametrize("reason", reasons())
def test_every_reason_of_the_api_has_a_class(reason: str) -> None:
    assert BY_REASON[reason].reason == reason


def test_a_program_s_own_class_does_not_take_a_reason_over() -> None:
    class Special(errors.NotFound):
        """As programs make them."""

    assert Special.reason == errors.NotFound.reason
    assert BY_REASON["NOT_FOUND"] is errors.NotFound
    assert BY_REASON["INTERNAL"] is errors.Internal


@pytest.mark.parametrize("reason", reasons())
def test_a_reason_counts_more_than_the_code(
    call: Callable[[Abort], errors.BackitError], reason: str
) -> None:
    found = call(with_details(info(reason), code=code_pb2.UNKNOWN))
    assert type(found) is BY_REASON[reason]
    assert str(found) == "GetAppliance: why"


def test_missing_references_come_with_their_ids(
    call: Callable[[Abort], errors.BackitError],
) -> None:
    ids = [bytes([i]) * 32 for i in range(3)]
    missing = chunks_pb2.MissingReferences(chunk_ids=ids)
    found = call(with_details(info("REFERENCES_MISSING"), missing))
    assert isinstance(found, errors.ReferencesMissing)
    assert found.missing == tuple(ChunkId(raw) for raw in ids)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Unavailable),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unsupported),
        (grpc.StatusCode.UNAUTHENTICATED, errors.LoginNeeded),
        (grpc.StatusCode.PERMISSION_DENIED, errors.Refused),
        (grpc.StatusCode.DATA_LOSS, errors.Damaged),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
    ],
)
def test_without_a_reason_the_code_counts(
    call: Callable[[Abort], errors.BackitError],
    code: grpc.StatusCode,
    kind: type[errors.BackitError],
) -> None:
    assert type(call(lambda context: context.abort(code, "why"))) is kind


def test_a_reason_of_another_domain_is_not_ours(
    call: Callable[[Abort], errors.BackitError],
) -> None:
    found = call(with_details(info("LAST_SLOT", "elsewhere"), code=code_pb2.NOT_FOUND))
    assert type(found) is errors.NotFound


def test_an_unknown_reason_falls_back_to_the_code(
    call: Callable[[Abort], errors.BackitError],
) -> None:
    found = call(with_details(info("REASON_OF_TOMORROW"), code=code_pb2.INVALID_ARGUMENT))
    assert type(found) is errors.Invalid


def test_the_other_side_s_words_cannot_move_the_cursor(
    call: Callable[[Abort], errors.BackitError],
) -> None:
    found = call(with_details(info("LAST_SLOT"), text="a\x1b[2Jb\r\nc"))
    assert str(found).isprintable()


def test_an_incident_is_named(call: Callable[[Abort], errors.BackitError]) -> None:
    def abort(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("incident", "4711"),))
        context.abort(grpc.StatusCode.INTERNAL, "it failed")

    assert "4711" in str(call(abort))
