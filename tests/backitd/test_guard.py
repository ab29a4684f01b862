"""Promises of the guard: silent clients keep nobody waiting, failures tell only their id."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from backit.v1 import appliance_pb2
from backitd.store import Store
from tests.backitd import daemons
from tests.backitd.clients import Client, code, reason
from tests.backitd.daemons import GENEROUS, WAIT, Box

IMPATIENT = replace(GENEROUS, limits=replace(GENEROUS.limits, request_seconds=0.2, strangers=2))
GET_APPLIANCE = "/backit.v1.ApplianceService/GetAppliance"
GET_STATUS = "/backit.v1.ApplianceService/GetStatus"


def metadata(error: grpc.Call) -> tuple[Any, ...]:
    return tuple(error.trailing_metadata() or ())


class Silent:
    """A call that is announced, and whose request never comes."""

    def __init__(self, client: Client, method: str) -> None:
        self._enough = threading.Event()
        call = client.channel.stream_unary(method, bytes, bytes)
        self.answer = call.future(self._requests(), metadata=client.metadata)

    def _requests(self) -> Iterator[bytes]:
        self._enough.wait(WAIT)
        yield from ()

    def stop(self) -> None:
        self._enough.set()


def test_a_request_that_does_not_come_is_not_waited_for() -> None:
    with daemons.box(IMPATIENT) as box:
        silent = Silent(box.client(), GET_APPLIANCE)
        while not silent.answer.done():
            box.clock.forward(0.1)
            threading.Event().wait(0.01)
        assert silent.answer.code() is grpc.StatusCode.CANCELLED
        silent.stop()


def test_silent_strangers_cannot_keep_anybody_waiting_who_is_logged_in() -> None:
    with daemons.box(IMPATIENT) as box:
        _person, client = box.person()
        silent = [Silent(box.client(), GET_APPLIANCE) for _ in range(20)]
        client.appliance.GetStatus(
            appliance_pb2.GetStatusRequest(), metadata=client.metadata, timeout=WAIT
        )
        for one in silent:
            one.stop()


def test_silence_without_a_login_is_answered_at_once(box: Box) -> None:
    silent = Silent(box.client(), GET_STATUS)
    assert silent.answer.exception() is not None
    assert silent.answer.code() is grpc.StatusCode.UNAUTHENTICATED
    silent.stop()


@pytest.mark.logs_warnings
def test_a_bug_of_ours_is_answered_with_an_incident_and_nothing_else(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_store: Store, _account: object) -> None:
        raise RuntimeError("the inside of the box")

    monkeypatch.setattr(Store, "usage", broken)
    _person, client = box.person()
    with pytest.raises(grpc.RpcError) as caught:
        client.appliance.GetStatus(appliance_pb2.GetStatusRequest(), metadata=client.metadata)
    error = caught.value
    assert isinstance(error, grpc.Call)
    assert (code(error), reason(error)) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    (incident,) = (entry.value for entry in metadata(error) if entry.key == "incident")
    said = f"{error.details()} {metadata(error)}"
    assert "inside" not in said
    assert "RuntimeError" not in said
    assert incident in caplog.text
    assert "RuntimeError: the inside of the box" in caplog.text
