"""One appliance, as a client talks to it: a pinned channel, a login kept fresh, and errors of our
own.

Every call made through an `Appliance` crosses the border (border.py) and raises nothing but
backit.errors. Calls that may be repeated are, while the appliance is out of reach for a moment. No
keys are opened and no formats read here. Use the stubs' plain calls: `.future()` and `.with_call()`
are not mapped.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc

from backit import wire
from backit.client import tls
from backit.client.border import Border
from backit.client.channel import open_channel
from backit.client.profile import fingerprint_of
from backit.crypto import primitives
from backit.errors import BackitError, Unavailable, Unsupported, Untrusted
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
    from collections.abc import Callable, Generator
    from types import TracebackType

    from backit.client.profile import Address, Profile
    from backit.crypto.keys import SigningKey

API_VERSION = 1
LOGIN_SCHEME = 1
# For what tidies up, all of it, when somebody wants to leave.
LEAVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Credential:
    """Who logs in ("user:NAME", "slots/HEX" or "devices/HEX"), and the key that proves it."""

    name: str
    key: SigningKey


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
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """`receipt_key`: the pinned one; without it receipts are not checked.

        `checkpoint` is called between calls, in whatever thread makes them, and where long work
        needs no call; what it raises ends the work. It is not called in `tidying`.
        """
        self.address = address
        self.receipt_key = receipt_key
        self._checkpoint = checkpoint
        self._is_tidying = False
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
        channel = grpc.intercept_channel(self._bare, Border(self))
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
    def of(cls, profile: Profile, checkpoint: Callable[[], None] = lambda: None) -> Appliance:
        """The profile's appliance, not reached yet: see `begin`."""
        return cls(
            profile.address,
            profile.ca_certificate,
            account=profile.account,
            receipt_key=profile.receipt_key,
            checkpoint=checkpoint,
        )

    @classmethod
    def connect(
        cls, profile: Profile, key: Credential | None = None, *, token: str = ""
    ) -> Appliance:
        """The profile's appliance, reached; raises as `begin` does."""
        appliance = cls.of(profile)
        try:
            appliance.begin(key, token=token)
        except BaseException:
            appliance.close()
            raise
        return appliance

    def begin(self, key: Credential | None = None, *, token: str = "") -> None:
        """Reach it, make sure that it is the pinned one, and log in.

        With `token`, from an earlier login with the same key, logs in only once that has ended.
        Raises Untrusted, Unavailable, Unsupported, LoginRefused.
        """
        self.introduce(self._ca_certificate)
        self.token, self._credential = token, key
        if key is not None and not token:
            self.login(key)

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

    def checkpoint(self) -> None:
        """A place where the work may be ended. Raises what ends it."""
        if not self._is_tidying:
            self._checkpoint()

    @contextlib.contextmanager
    def tidying(self) -> Generator[None]:
        """For the block, calls are made that set right what ended, however it ended; best effort.

        Only its owner may tidy up, once other threads have ended.
        """
        self._is_tidying = True
        try:
            with contextlib.suppress(BackitError):
                yield
        finally:
            self._is_tidying = False

    def logout(self) -> None:
        """Make the token worthless, as far as the appliance can be told."""
        if self.token:
            with self.tidying():  # a token nobody uses ends by itself
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
