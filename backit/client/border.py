"""The border between this program and an appliance: what every call gets on its way out, and what
comes back in.

Out go a deadline (streams have keepalive instead) and the login's token; in come answers, or errors
of backit.errors. A call whose login the appliance has forgotten is made once more after a new one.
What a call means is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from backit.client.status import error_of
from backit.errors import LoginNeeded, Unavailable

if TYPE_CHECKING:
    from backit.client.remote import Appliance

DEADLINE_SECONDS = 10.0
# These wait for disks, or for a proof over many chunks.
DEADLINES = {
    "CreateAccount": 30.0,
    "PutStatements": 30.0,
    "ApproveEnrolment": 30.0,
    "CreateLease": 30.0,
    "FindMissing": 60.0,
    "FindLost": 60.0,
    "CommitSnapshot": 300.0,
}
# Calls that begin a login or need none.
_OPEN_CALLS = {
    "GetAppliance",
    "CreateAccount",
    "CreateChallenge",
    "Login",
    "CreateEnrolment",
    "GetEnrolment",
}


class _Details(NamedTuple):
    """What gRPC lets an interceptor change of a call; the fields are gRPC's."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class Border(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Deadline and token on the way out, backit.errors on the way in."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        method = _method(client_call_details)
        timeout = client_call_details.timeout or DEADLINES.get(method, DEADLINE_SECONDS)
        call = self._caller(continuation, client_call_details, request, timeout)

        def answer(token: str) -> Any:
            outcome = call(token)
            if outcome.exception() is not None:
                self._appliance.checkpoint()
            # What is raised before a call is made, gRPC gives back as its outcome.
            if isinstance(outcome.exception(), ValueError):
                raise _closed(method)
            if isinstance(outcome, grpc.RpcError):
                raise error_of(outcome, method)
            return outcome

        return self._logged_in(method, answer)

    def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        call = self._caller(continuation, client_call_details, request, None)
        return _Answers(_method(client_call_details), call, self._appliance)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        call = self._caller(continuation, client_call_details, request_iterator, None)
        method = _method(client_call_details)
        return _Answers(method, call, self._appliance, repeatable=False)

    def _caller(
        self, continuation: Any, details: Any, request: Any, timeout: float | None
    ) -> Callable[[str], Any]:
        """Makes the call, given a token."""
        method = _method(details)

        def call(token: str) -> Any:
            self._appliance.checkpoint()
            seconds = self._appliance.seconds_left(timeout)
            try:
                return continuation(_with(details, method, token, seconds), request)
            except ValueError:
                raise _closed(method) from None

        return call

    def _logged_in(self, method: str, call: Callable[[str], Any]) -> Any:
        token = self._appliance.token
        try:
            return call(token)
        except LoginNeeded:
            if method in _OPEN_CALLS or not self._appliance.login_again(token):
                raise
        return call(self._appliance.token)


class _Answers(Iterator[Any]):
    """A stream's answers; what else a call can do is passed on."""

    def __init__(
        self,
        method: str,
        call: Callable[[str], Any],
        appliance: Appliance,
        *,
        repeatable: bool = True,
    ) -> None:
        self._method = method
        self._open = call
        self._appliance = appliance
        self._may_repeat = repeatable
        self._token = appliance.token
        self._call = call(self._token)

    def __next__(self) -> Any:
        self._appliance.checkpoint()
        try:
            try:
                answer = next(self._call)
            except grpc.RpcError as error:
                self._appliance.checkpoint()
                raise error_of(error, self._method) from None
        except LoginNeeded:
            if not self._may_repeat or not self._appliance.login_again(self._token):
                raise
            self._may_repeat = False
            self._call = self._open(self._appliance.token)
            return next(self)
        self._may_repeat = False
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _closed(method: str) -> Unavailable:
    """gRPC says it with a ValueError."""
    return Unavailable(f"{method}: the connection was closed")


def _method(details: Any) -> str:
    return str(details.method).rpartition("/")[2]


def _with(details: Any, method: str, token: str, timeout: float | None) -> _Details:
    metadata: list[Any] = list(details.metadata or ())
    if token and method not in _OPEN_CALLS:
        metadata.append(("authorization", f"Bearer {token}"))
    return _Details(
        details.method,
        timeout,
        metadata,
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )
