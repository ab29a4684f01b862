"""The connection: who is at the other end, logins that stay fresh, errors of our own, bounded
waiting.
"""

# gRPC names its methods and their arguments.

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

from backit.client import account, border
from backit.client.profile import Address, Profile
from backit.client.remote import Appliance
from backit.errors import LoginNeeded, Unavailable, Unsupported, Untrusted
from backit.v1 import (
    accounts_pb2,
    appliance_pb2,
    appliance_pb2_grpc,
    chunks_pb2,
    chunks_pb2_grpc,
    snapshots_pb2,
)
from tests.backit.client import certificates
from tests.backit.client.conftest import PASSWORD
from tests.backit.client.memory_appliance import MemoryAppliance, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backit.client.account import Person


def statements(appliance: Appliance) -> int:
    answer = appliance.accounts.ListStatements(accounts_pb2.ListStatementsRequest())
    return len(answer.statements)


def test_a_forgotten_token_is_renewed_without_a_word(anna: Person, memory: MemoryAppliance) -> None:
    memory.tokens.clear()
    assert statements(anna.appliance) > 0


def test_many_threads_log_in_again_once(anna: Person, memory: MemoryAppliance) -> None:
    memory.tokens.clear()
    before = memory.logins
    start = threading.Barrier(8)

    def ask() -> int:
        start.wait(30)
        return statements(anna.appliance)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        assert all(answer.result(30) for answer in answers)
    # A thread may have asked with the new token's predecessor's successor: never one login each.
    assert 1 <= memory.logins - before <= 2


@pytest.mark.usefixtures("anna")
def test_without_a_key_nobody_logs_in_again(profile: Profile) -> None:
    with Appliance.connect(profile) as stranger, pytest.raises(LoginNeeded):
        statements(stranger)


def test_a_kept_token_saves_the_login(
    anna: Person, profile: Profile, memory: MemoryAppliance
) -> None:
    before = memory.logins
    with Appliance.connect(profile, anna.credential, token=anna.appliance.token) as appliance:
        assert statements(appliance) > 0
    assert memory.logins == before


def test_after_logout_the_token_is_worthless(anna: Person, profile: Profile) -> None:
    token = anna.appliance.token
    anna.appliance.logout()
    with Appliance.connect(profile, token=token) as appliance, pytest.raises(LoginNeeded):
        statements(appliance)


def test_an_appliance_with_another_ca_is_not_talked_to(
    profile: Profile, memory: MemoryAppliance
) -> None:
    other = certificates.make_authority("another")

    def pretend(answer: appliance_pb2.Appliance) -> None:
        answer.ca_certificate = other.pem

    memory.lie_about_itself = pretend
    with pytest.raises(Untrusted):
        Appliance.connect(profile)


@pytest.mark.parametrize(("oldest", "newest"), [(2, 9), (0, 0)])
def test_another_api_is_named(
    profile: Profile, memory: MemoryAppliance, oldest: int, newest: int
) -> None:
    def change(answer: appliance_pb2.Appliance) -> None:
        answer.oldest_api, answer.newest_api = oldest, newest

    memory.lie_about_itself = change
    with pytest.raises(Unsupported, match=f"API {oldest} to {newest}"):
        Appliance.connect(profile)


def test_an_appliance_that_is_down_is_unavailable(profile: Profile, tmp_path: Path) -> None:
    gone = Profile("default", Address(path=str(tmp_path / "none.sock")), profile.ca_certificate)
    with pytest.raises(Unavailable):
        Appliance.connect(gone)


def test_another_account_behind_the_same_login_is_refused(
    anna: Person, profile: Profile, memory: MemoryAppliance
) -> None:
    pinned = profile.belongs_to("anna", anna.account, anna.ledger.owner_key)
    other = type(anna.account)(bytes(16))
    memory.accounts[other] = memory.accounts.pop(anna.account)
    with Appliance.connect(pinned) as appliance, pytest.raises(Untrusted):
        account.open_with_password(appliance, "anna", PASSWORD)


# Streams, against a server that does as the test wants.


class Streams(chunks_pb2_grpc.ChunkServiceServicer):
    """Answers two messages, or asks for a login first."""

    def __init__(self, memory: MemoryAppliance) -> None:
        self.memory = memory
        self.fails = False

    def Download(
        self, request: chunks_pb2.DownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[chunks_pb2.DownloadResponse]:
        self.memory.caller(context)
        yield chunks_pb2.DownloadResponse(record=b"one")
        if self.fails:
            refuse(context, "LOGIN_NEEDED")
        yield chunks_pb2.DownloadResponse(record=b"two")

    def Upload(
        self, request_iterator: Iterator[chunks_pb2.UploadRequest], context: grpc.ServicerContext
    ) -> Iterator[chunks_pb2.UploadResponse]:
        self.memory.caller(context)
        for number, _request in enumerate(request_iterator):
            yield chunks_pb2.UploadResponse(acknowledged=number)

    def FindMissing(
        self, request: chunks_pb2.FindMissingRequest, context: grpc.ServicerContext
    ) -> chunks_pb2.FindMissingResponse:
        raise NotImplementedError

    def FindLost(
        self, request: chunks_pb2.FindLostRequest, context: grpc.ServicerContext
    ) -> chunks_pb2.FindLostResponse:
        raise NotImplementedError

    def GetSessions(
        self, request: chunks_pb2.GetSessionsRequest, context: grpc.ServicerContext
    ) -> chunks_pb2.GetSessionsResponse:
        raise NotImplementedError


@pytest.fixture
def streams(
    memory: MemoryAppliance, profile: Profile, tmp_path: Path, anna: Person
) -> Iterator[Callable[[], tuple[Streams, Appliance]]]:
    """A second server with streams, and somebody logged in on it."""
    service = Streams(memory)
    server = grpc.server(ThreadPoolExecutor(4))
    chunks_pb2_grpc.add_ChunkServiceServicer_to_server(service, server)
    memory.add_to(server)
    server.add_insecure_port(f"unix:{tmp_path}/streams.sock")
    server.start()
    address = Address(path=str(tmp_path / "streams.sock"))
    appliance = Appliance.connect(
        Profile("streams", address, profile.ca_certificate), anna.credential
    )
    yield lambda: (service, appliance)
    appliance.close()
    server.stop(None).wait()


def test_a_stream_carries_the_login(
    streams: Callable[[], tuple[Streams, Appliance]],
) -> None:
    _service, appliance = streams()
    answers = appliance.chunks.Download(chunks_pb2.DownloadRequest())
    assert [each.record for each in answers] == [b"one", b"two"]


def test_a_download_logs_in_again_before_its_first_answer(
    streams: Callable[[], tuple[Streams, Appliance]], memory: MemoryAppliance
) -> None:
    _service, appliance = streams()
    memory.tokens.clear()
    answers = appliance.chunks.Download(chunks_pb2.DownloadRequest())
    assert [each.record for each in answers] == [b"one", b"two"]


def test_a_download_never_gives_an_answer_twice(
    streams: Callable[[], tuple[Streams, Appliance]],
) -> None:
    service, appliance = streams()
    service.fails = True
    answers = appliance.chunks.Download(chunks_pb2.DownloadRequest())
    assert next(answers).record == b"one"
    with pytest.raises(LoginNeeded):
        next(answers)


def test_an_upload_says_that_the_login_ended(
    streams: Callable[[], tuple[Streams, Appliance]], memory: MemoryAppliance
) -> None:
    _service, appliance = streams()
    memory.tokens.clear()
    answers = appliance.chunks.Upload(iter([chunks_pb2.UploadRequest()]))
    with pytest.raises(LoginNeeded):
        next(answers)


def test_an_upload_can_be_cancelled(streams: Callable[[], tuple[Streams, Appliance]]) -> None:
    _service, appliance = streams()
    ended = threading.Event()

    def requests() -> Iterator[chunks_pb2.UploadRequest]:
        yield chunks_pb2.UploadRequest()
        ended.wait(30)

    answers = appliance.chunks.Upload(requests())
    next(answers)
    answers.cancel()
    with pytest.raises(Unavailable):
        next(answers)
    ended.set()


def test_a_call_that_the_appliance_does_not_know_is_unsupported(
    streams: Callable[[], tuple[Streams, Appliance]],
) -> None:
    _service, appliance = streams()
    with pytest.raises(Unsupported):
        appliance.snapshots.ListSnapshots(snapshots_pb2.ListSnapshotsRequest())


class Slow(appliance_pb2_grpc.ApplianceServiceServicer):
    """Never answers while the test runs."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def GetAppliance(
        self, request: appliance_pb2.GetApplianceRequest, context: grpc.ServicerContext
    ) -> appliance_pb2.Appliance:
        self.ended.wait(60)
        return appliance_pb2.Appliance()

    def GetStatus(
        self, request: appliance_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> appliance_pb2.Status:
        raise NotImplementedError


def test_no_call_waits_for_ever(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(border, "DEADLINE_SECONDS", 0.3)
    service = Slow()
    server = grpc.server(ThreadPoolExecutor(1))
    appliance_pb2_grpc.add_ApplianceServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{tmp_path}/slow.sock")
    server.start()
    address = Address(path=str(tmp_path / "slow.sock"))
    try:
        with pytest.raises(Unavailable):
            Appliance.connect(Profile("slow", address, profile.ca_certificate))
    finally:
        service.ended.set()
        server.stop(None).wait()
