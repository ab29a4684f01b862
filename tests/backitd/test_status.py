"""Promises of the table from errors to status: complete, every reason in the contract."""

import inspect

import grpc
import pytest

from backit import errors
from backit.v1 import errors_pb2
from backitd import status

# What only clients raise, or is too general to tell a caller: the daemon answers it with INTERNAL.
NOT_FOR_CALLERS = {
    errors.BackitError,
    errors.WrongKey,
    errors.Refused,
    errors.Untrusted,
    errors.NotFound,
    errors.Conflict,
    errors.TargetFull,
    errors.Internal,
}
ALL = {
    kind
    for _name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.BackitError)
}


def test_every_error_has_been_decided_about() -> None:
    assert set(status.CODES) | NOT_FOR_CALLERS == ALL
    assert not set(status.CODES) & NOT_FOR_CALLERS


@pytest.mark.parametrize("kind", sorted(status.CODES, key=str))
def test_every_reason_we_give_is_in_the_contract(kind: type[errors.BackitError]) -> None:
    assert f"REASON_{kind.reason}" in errors_pb2.Reason.keys()  # noqa: SIM118 - protobuf's enum


def test_an_error_made_more_special_keeps_its_code() -> None:
    class Special(errors.HeadMoved):
        pass

    assert status.code_of(Special("x")) is grpc.StatusCode.ABORTED


@pytest.mark.parametrize("error", [ValueError("x"), errors.NotFound("x"), errors.Internal("x")])
def test_what_is_no_callers_business_has_no_code(error: Exception) -> None:
    assert status.code_of(error) is None
