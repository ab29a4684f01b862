"""One appliance, as a client talks to it: a pinned channel, a login kept fresh, and errors of our
own.

Every call made through an `Appliance` has a deadline (streams have keepalive instead), carries the
login's token, logs in again once if the appliance has forgotten it, and raises nothing but
backit.errors. Calls that may be repeated are, while the appliance is out of reach for a moment. No
keys are opened and no formats read here. Use the stubs' plain calls: `.future()` and `.with_call()`
are not mapped.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc

from backit import wire
from backit.client import tls
from backit.client.channel import open_channel
from backit.client.profile import fingerprint_of
from backit.client.status import error_of
from backit.crypto import primitives
from backit.errors import BackitError, LoginNeeded, Unavailable, Unsupported, Untrusted
from backit.ids import AccountId
from backit.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    appliance_pb2,
    appliance_pb2_grpc,
    chunks_pb2,
    chunks_pb2_grpc,
    devices_pb2_grpc,
    snapshots_pb2_grpc,
)

if TYPE_CHECKING:
    from types import TracebackType

    from backit.client.profile import Address, Profile
    from backit.crypto.keys import SigningKey

API_VERSION = 1
LOGIN_SCHEME = 1
DEADLINE_SECONDS = 10.0
# For what tidies up, all of it, when somebody wants to leave.
LEAVE_SECONDS = 1.0
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


@dataclass(frozen=True, slots=True)
class Credential:
    """Who logs in ("user:NAME", "slots/HEX" or "devices/HEX"), and the key that proves it."""

    name: str
    key: SigningKey


class _Details(NamedTuple):
    """What gRPC lets an interceptor change of a call; the fields are gRPC's."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class Appliance:
    """A connection to the appliance that a profile pins. A context manager; safe to share between
    threads.
    """

    def __init__(
        self,
        address: Address,
        ca_certificate: str,
        *,
        account: AccountId | None = None,
        receipt_key: bytes = b"",
    ) -> None:
        """`receipt_key`: the pinned one; without it receipts are not checked."""
        self.address = address
        self.receipt_key = receipt_key
        # Of the appliance's store, as `introduce` was told.
        self.incarnation = b""
        self.account: AccountId | None = account
        self.token = ""
        self._pinned = fingerprint_of(ca_certificate)
        self._credential: Credential | None = None
        self._login_lock = threading.Lock()
        self._ca_certificate = ca_certificate
        self._leave_by: float | None = None
        self._open()

    def _open(self) -> None:
        self._bare = open_channel(self.address, self._ca_certificate)
        channel = grpc.intercept_channel(self._bare, _Border(self))
        self.accounts = accounts_pb2_grpc.AccountServiceStub(channel)
        self.appliance = appliance_pb2_grpc.ApplianceServiceStub(channel)
        self.chunks = chunks_pb2_grpc.ChunkServiceStub(channel)
        upload: Any = channel.stream_stream(
            f"/{wire.SERVICE}/{wire.UPLOAD}",
            wire.serialize_upload,
            chunks_pb2.UploadResponse.FromString,
        )
        download: Any = channel.unary_stream(
            f"/{wire.SERVICE}/{wire.DOWNLOAD}",
            chunks_pb2.DownloadRequest.SerializeToString,
            wire.parse_download,
        )
        self.chunks.Upload, self.chunks.Download = upload, download
        self.devices = devices_pb2_grpc.DeviceServiceStub(channel)
        self.snapshots = snapshots_pb2_grpc.SnapshotServiceStub(channel)

    @classmethod
    def connect(
        cls, profile: Profile, key: Credential | None = None, *, token: str = ""
    ) -> Appliance:
        """Reach the profile's appliance, make sure that it is the pinned one, and log in.

        With `token`, from an earlier login with the same key, logs in only once that has ended.
        Raises Untrusted, Unavailable, Unsupported, LoginRefused.
        """
        appliance = cls(
            profile.address,
            profile.ca_certificate,
            account=profile.account,
            receipt_key=profile.receipt_key,
        )
        try:
            appliance.introduce(profile.ca_certificate)
            appliance.token, appliance._credential = token, key
            if key is not None and not token:
                appliance.login(key)
        except BaseException:
            appliance.close()
            raise
        return appliance

    def introduce(self, ca_certificate: str) -> appliance_pb2.Appliance:
        """Who the appliance is. Raises Untrusted if it is not the pinned one, Unsupported if too
        new or old.
        """
        try:
            found = self.appliance.GetAppliance(appliance_pb2.GetApplianceRequest())
        except Unavailable:
            if not self.address.is_local:
                # gRPC calls a certificate of somebody else unavailable, too; the handshake tells.
                tls.check_pin(self.address, ca_certificate)
            raise
        self._check_pinned(fingerprint_of(found.ca_certificate))
        if not found.oldest_api <= API_VERSION <= found.newest_api:
            raise Unsupported(
                f"the appliance speaks API {found.oldest_api} to {found.newest_api}, "
                f"this program {API_VERSION}"
            )
        self.incarnation = found.incarnation_id
        return found

    def challenge(self, name: str) -> accounts_pb2.Challenge:
        """Begin a login. Raises Untrusted if the challenge names another CA than the pinned one."""
        kind, _, user = name.partition(":")
        if kind == "user":
            request = accounts_pb2.CreateChallengeRequest(user=user)
        elif name.startswith("slots/"):
            request = accounts_pb2.CreateChallengeRequest(slot=name)
        else:
            request = accounts_pb2.CreateChallengeRequest(device=name)
        challenge = self.accounts.CreateChallenge(request)
        self._check_pinned(challenge.ca_fingerprint)
        if challenge.scheme != LOGIN_SCHEME:
            raise Unsupported(f"the appliance asks for login scheme {challenge.scheme}")
        return challenge

    def login(self, key: Credential, challenge: accounts_pb2.Challenge | None = None) -> None:
        """Prove who we are. Raises LoginRefused, TooManyAttempts."""
        if challenge is None:
            challenge = self.challenge(key.name)
        # What is signed is the fingerprint that was pinned, never one that a peer has claimed.
        signature = key.key.answer(challenge.challenge, self._pinned, key.name)
        answer = self.accounts.Login(
            accounts_pb2.LoginRequest(challenge=challenge.challenge, signature=signature)
        )
        account = AccountId.from_name(answer.account)
        if self.account is not None and account != self.account:
            raise Untrusted(
                f"the appliance logs {key.name} into account {account}, not {self.account}"
            )
        self.account, self.token, self._credential = account, answer.token, key

    def logout(self) -> None:
        """Make the token worthless, as far as the appliance can be told."""
        if self.token:
            with contextlib.suppress(BackitError):  # a token nobody uses ends by itself
                self.accounts.Logout(accounts_pb2.LogoutRequest())
            self.token = ""

    def login_again(self, ended: str) -> bool:
        """Log in again unless another thread has done so since `ended` was the token."""
        with self._login_lock:
            if self._credential is None:
                return False
            if self.token == ended:
                self.token = ""
                self.login(self._credential)
            return True

    def hurry(self) -> None:
        """Somebody wants to leave: end every call under way, and soon those that follow.

        From any thread. Ended calls raise Unavailable.
        """
        self._leave_by = time.monotonic() + LEAVE_SECONDS
        before = self._bare
        self._open()
        before.close()

    @property
    def is_leaving(self) -> bool:
        """Whether somebody wants to leave: a call that was under way may have been ended by it."""
        return self._leave_by is not None

    def seconds_left(self, usual: float | None) -> float | None:
        """How long a call may take: as usual, or what is left once somebody wants to leave."""
        if self._leave_by is None:
            return usual
        return max(self._leave_by - time.monotonic(), 0.0)

    def close(self) -> None:
        self._bare.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_pinned(self, claimed: bytes) -> None:
        if not primitives.equal(claimed, self._pinned):
            raise Untrusted(
                f"the appliance at {self.address} has CA {claimed.hex()[:16]}…, "
                f"but {self._pinned.hex()[:16]}… is pinned"
            )


# Calls that begin a login or need none.
_OPEN_CALLS = {
    "GetAppliance",
    "CreateAccount",
    "CreateChallenge",
    "Login",
    "CreateEnrolment",
    "GetEnrolment",
}


class _Border(
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
        try:
            try:
                answer = next(self._call)
            except grpc.RpcError as error:
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
