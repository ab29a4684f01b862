"""A client as thin as can be: stubs, a token, and what errors say. No retries, no trust."""

from collections.abc import Iterable, Iterator
from typing import Self

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from backit.crypto.keys import SigningKey
from backit.format.statement import Statement
from backit.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    appliance_pb2_grpc,
    chunks_pb2,
    chunks_pb2_grpc,
    devices_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
)
from tests.backitd.people import Machine, Person, Run

MESSAGE_LIMIT = 8 * 1024 * 1024
OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", -1),  # tests send too much on purpose
    ("grpc.ssl_target_name_override", "backit-appliance"),
    ("grpc.use_local_subchannel_pool", 1),
]


class Client:
    """One connection, with or without a login."""

    def __init__(self, target: str, authority_pem: bytes | None = None) -> None:
        self.channel = (
            grpc.insecure_channel(target, OPTIONS)
            if authority_pem is None
            else grpc.secure_channel(target, grpc.ssl_channel_credentials(authority_pem), OPTIONS)
        )
        self.token = ""
        self.accounts = accounts_pb2_grpc.AccountServiceStub(self.channel)
        self.devices = devices_pb2_grpc.DeviceServiceStub(self.channel)
        self.chunks = chunks_pb2_grpc.ChunkServiceStub(self.channel)
        self.snapshots = snapshots_pb2_grpc.SnapshotServiceStub(self.channel)
        self.appliance = appliance_pb2_grpc.ApplianceServiceStub(self.channel)
        self.admin = appliance_pb2_grpc.AdminServiceStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.channel.close()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def sign_up(self, person: Person, invite: str = "") -> accounts_pb2.Account:
        return self.accounts.CreateAccount(
            accounts_pb2.CreateAccountRequest(
                account_id=person.account.raw,
                invite=invite,
                statements=[one.encoded for one in person.first_statements()],
            )
        )

    def challenge(self, **who: str) -> accounts_pb2.Challenge:
        return self.accounts.CreateChallenge(accounts_pb2.CreateChallengeRequest(**who))

    def answer(
        self, challenge: accounts_pb2.Challenge, name: str, key: SigningKey
    ) -> accounts_pb2.Token:
        signature = key.answer(challenge.challenge, challenge.ca_fingerprint, name)
        return self.accounts.Login(
            accounts_pb2.LoginRequest(challenge=challenge.challenge, signature=signature)
        )

    def log_in(self, person: Person) -> accounts_pb2.Token:
        challenge = self.challenge(user=person.user)
        token = self.answer(challenge, f"user:{person.user}", person.keys.login)
        self.token = token.token
        return token

    def log_in_machine(self, machine: Machine) -> accounts_pb2.Token:
        name = machine.device.name
        token = self.answer(self.challenge(device=name), name, machine.key)
        self.token = token.token
        return token

    def put(self, statements: Iterable[Statement]) -> None:
        request = accounts_pb2.PutStatementsRequest(statements=[one.encoded for one in statements])
        self.accounts.PutStatements(request, metadata=self.metadata)

    def lease(self, run: Run) -> snapshots_pb2.Lease:
        return self.snapshots.CreateLease(
            snapshots_pb2.CreateLeaseRequest(
                series_id=run.series.raw, session=run.session_statement.encoded
            ),
            metadata=self.metadata,
        )

    def upload(
        self, lease: str, messages: Iterable[chunks_pb2.UploadRequest]
    ) -> Iterator[chunks_pb2.UploadResponse]:
        return self.chunks.Upload(opened(lease, messages), metadata=self.metadata)

    def upload_records(self, lease: str, records: Iterable[bytes]) -> int:
        """One message a record; the last acknowledgement."""
        messages = (chunks_pb2.UploadRequest(records=[one]) for one in records)
        last = 0
        for answer in self.upload(lease, messages):
            last = answer.acknowledged
        return last

    def commit(self, lease: str, header: Statement, body: bytes) -> snapshots_pb2.Snapshot:
        return self.snapshots.CommitSnapshot(
            snapshots_pb2.CommitSnapshotRequest(
                lease=lease, header=header.encoded, sealed_body=body
            ),
            metadata=self.metadata,
        )


def opened(
    lease: str, messages: Iterable[chunks_pb2.UploadRequest]
) -> Iterator[chunks_pb2.UploadRequest]:
    """An upload's messages, with the one that opens it."""
    yield chunks_pb2.UploadRequest(lease=lease)
    yield from messages


def reason(error: grpc.RpcError) -> str:
    """ErrorInfo.reason of an error that the daemon made; empty if it carries none."""
    info = error_details_pb2.ErrorInfo()
    if not detail(error, info):
        return ""
    assert info.domain == "backit"
    return info.reason


def detail(error: grpc.RpcError, into: Message) -> bool:
    """Whether the error carries a detail of this kind, which is then filled in."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    return status is not None and any(one.Unpack(into) for one in status.details)


def code(error: grpc.RpcError) -> grpc.StatusCode:
    assert isinstance(error, grpc.Call)
    return error.code()
