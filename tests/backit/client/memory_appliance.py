"""An appliance in memory, behind a real gRPC server on a unix socket: what clients need of accounts
and devices.

It obeys where the real one decides, and has a lever for each lie that clients have to see through.
The real daemon is what tests/backitctl runs against.
"""

# gRPC names its methods and their arguments.

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from backit.crypto import primitives
from backit.crypto.keys import login_message
from backit.crypto.passphrase import SALT_BYTES, STANDARD
from backit.format import statement
from backit.format.statement import Statement, StatementKind
from backit.format.v1 import statement_pb2 as pb
from backit.ids import AccountId, DeviceId, EnrolmentId, IncarnationId, SlotId
from backit.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    appliance_pb2,
    appliance_pb2_grpc,
    devices_pb2,
    devices_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

CODES = {
    "LOGIN_NEEDED": code_pb2.UNAUTHENTICATED,
    "LOGIN_REFUSED": code_pb2.UNAUTHENTICATED,
    "STATEMENT_OUTDATED": code_pb2.ABORTED,
    "USER_EXISTS": code_pb2.ALREADY_EXISTS,
    "ENROLMENT_NOT_FOUND": code_pb2.NOT_FOUND,
}
KEEPS_HISTORY = (StatementKind.ACCOUNT, StatementKind.EPOCH)

RECEIPT_KEY = b"r" * 32


def refuse(context: grpc.ServicerContext, reason: str) -> NoReturn:
    """End a call as the daemon does: a status with our reason in its details."""
    status = status_pb2.Status(code=CODES[reason], message=reason.lower())
    info = error_details_pb2.ErrorInfo(reason=reason, domain="backit")
    status.details.add().Pack(info)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status returned")


@dataclass(slots=True)
class MemoryAppliance:
    """The state, and the levers."""

    ca_certificate: str
    ca_fingerprint: bytes
    accounts: dict[AccountId, list[Statement]] = field(
        default_factory=dict[AccountId, list[Statement]]
    )
    tokens: dict[str, AccountId] = field(default_factory=dict[str, AccountId])
    enrolments: dict[str, devices_pb2.Enrolment] = field(
        default_factory=dict[str, devices_pb2.Enrolment]
    )
    challenges: dict[bytes, str] = field(default_factory=dict[bytes, str])
    # What every signature in a login was made over.
    signed_with: list[bytes] = field(default_factory=list[bytes])
    logins: int = 0
    # Levers: each changes what the appliance says.
    lie_about_challenge: Callable[[accounts_pb2.Challenge], None] = lambda _challenge: None
    lie_about_itself: Callable[[appliance_pb2.Appliance], None] = lambda _appliance: None
    lie_about_statements: Callable[[list[bytes]], list[bytes]] = lambda encoded: encoded
    lie_about_enrolment: Callable[[devices_pb2.Enrolment], None] = lambda _enrolment: None

    def serve(self, socket: Path) -> grpc.Server:
        """Start to listen on this socket."""
        server = grpc.server(ThreadPoolExecutor(8))
        self.add_to(server)
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        return server

    def add_to(self, server: grpc.Server) -> None:
        """Serve there, too."""
        accounts_pb2_grpc.add_AccountServiceServicer_to_server(_Accounts(self), server)
        appliance_pb2_grpc.add_ApplianceServiceServicer_to_server(_Appliance(self), server)
        devices_pb2_grpc.add_DeviceServiceServicer_to_server(_Devices(self), server)

    def of_kind(self, account: AccountId, kind: StatementKind) -> list[Statement]:
        return [each for each in self.accounts[account] if each.kind is kind]

    def newest(self, account: AccountId) -> Iterator[Statement]:
        """The newest of each subject; of accounts and epochs, all."""
        found: dict[tuple[int, bytes, int], Statement] = {}
        for each in self.accounts[account]:
            number = each.number if each.kind in KEEPS_HISTORY else 0
            found[each.kind, each.subject, number] = each
        return iter(found.values())

    def put(
        self, context: grpc.ServicerContext, account: AccountId, encoded: Sequence[bytes]
    ) -> None:
        stored = list(self.accounts.get(account, []))
        for each in map(statement.parse, encoded):
            last = max(
                (s.number for s in stored if (s.kind, s.subject) == (each.kind, each.subject)),
                default=0,
            )
            if each.number != last + 1:
                refuse(context, "STATEMENT_OUTDATED")
            stored.append(each)
        self.accounts[account] = stored

    def find_user(self, user: str) -> AccountId | None:
        for account, statements in self.accounts.items():
            body = statements[0].body
            if isinstance(body, pb.AccountBody) and body.user == user:
                return account
        return None

    def slots(self) -> Iterator[tuple[AccountId, pb.SlotBody]]:
        """The slots of all accounts that have not been removed."""
        for account in self.accounts:
            for each in self.newest(account):
                if isinstance(each.body, pb.SlotBody) and not each.body.removed:
                    yield account, each.body

    def password_slot(self, user: str) -> tuple[AccountId, pb.SlotBody] | None:
        owner = self.find_user(user)
        found = ((a, b) for a, b in self.slots() if b.kind == pb.SLOT_KIND_PASSWORD)
        return next((each for each in found if each[0] == owner), None)

    def login_key(self, name: str) -> tuple[AccountId, bytes] | None:
        """Whose key a login by this name has to be signed with."""
        if name.startswith("user:"):
            found = self.password_slot(name.removeprefix("user:"))
            return (found[0], found[1].login_key) if found else None
        if name.startswith("slots/"):
            slot = SlotId.from_name(name)
            found = next((each for each in self.slots() if each[1].slot_id == slot.raw), None)
            return (found[0], found[1].login_key) if found else None
        device = DeviceId.from_name(name)
        for account in self.accounts:
            for each in self.newest(account):
                if isinstance(each.body, pb.DeviceBody) and each.body.device_id == device.raw:
                    return account, each.body.device_key
        return None

    def caller(self, context: grpc.ServicerContext) -> AccountId:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        token = metadata.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            refuse(context, "LOGIN_NEEDED")
        return self.tokens[token]


class _Accounts(accounts_pb2_grpc.AccountServiceServicer):
    def __init__(self, memory: MemoryAppliance) -> None:
        self._memory = memory

    def CreateAccount(
        self, request: accounts_pb2.CreateAccountRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.Account:
        first = statement.parse(request.statements[0])
        if isinstance(first.body, pb.AccountBody) and self._memory.find_user(first.body.user):
            refuse(context, "USER_EXISTS")
        self._memory.put(context, AccountId(request.account_id), request.statements)
        return accounts_pb2.Account()

    def CreateChallenge(
        self, request: accounts_pb2.CreateChallengeRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.Challenge:
        name = f"user:{request.user}" if request.user else request.slot or request.device
        challenge = accounts_pb2.Challenge(
            challenge=os.urandom(32), ca_fingerprint=self._memory.ca_fingerprint, scheme=1
        )
        if request.user:
            found = self._memory.password_slot(request.user)
            body = found[1] if found else None
            challenge.salt = body.salt if body else bytes(SALT_BYTES)
            challenge.memory_kib = body.memory_kib if body else STANDARD.memory_kib
            challenge.passes = body.passes if body else STANDARD.passes
        self._memory.challenges[challenge.challenge] = name
        self._memory.lie_about_challenge(challenge)
        return challenge

    def Login(
        self, request: accounts_pb2.LoginRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.Token:
        name = self._memory.challenges.pop(request.challenge)
        found = self._memory.login_key(name)
        message = login_message(request.challenge, self._memory.ca_fingerprint, name)
        if not found or not primitives.verifies(found[1], message, request.signature):
            refuse(context, "LOGIN_REFUSED")
        token = os.urandom(16).hex()
        self._memory.tokens[token] = found[0]
        self._memory.logins += 1
        return accounts_pb2.Token(token=token, account=found[0].name)

    def Logout(
        self, request: accounts_pb2.LogoutRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.LogoutResponse:
        self._memory.caller(context)
        self._memory.tokens.clear()
        return accounts_pb2.LogoutResponse()

    def GetAccount(
        self, request: accounts_pb2.GetAccountRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.Account:
        account = self._memory.caller(context)
        return accounts_pb2.Account(name=account.name)

    def ListStatements(
        self, request: accounts_pb2.ListStatementsRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.ListStatementsResponse:
        account = self._memory.caller(context)
        encoded = [each.encoded for each in self._memory.newest(account)]
        encoded = self._memory.lie_about_statements(encoded)
        # Two pages, so that readers have to ask again.
        start = int(request.page_token or "0")
        page = encoded[start : start + 3]
        rest = str(start + 3) if len(encoded) > start + 3 else ""
        return accounts_pb2.ListStatementsResponse(statements=page, next_page_token=rest)

    def PutStatements(
        self, request: accounts_pb2.PutStatementsRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.PutStatementsResponse:
        account = self._memory.caller(context)
        self._memory.put(context, account, request.statements)
        return accounts_pb2.PutStatementsResponse()


class _Appliance(appliance_pb2_grpc.ApplianceServiceServicer):
    def __init__(self, memory: MemoryAppliance) -> None:
        self._memory = memory

    def GetAppliance(
        self, request: appliance_pb2.GetApplianceRequest, context: grpc.ServicerContext
    ) -> appliance_pb2.Appliance:
        answer = appliance_pb2.Appliance(
            ca_certificate=self._memory.ca_certificate,
            version="0",
            oldest_api=1,
            newest_api=1,
            incarnation_id=bytes(IncarnationId.LENGTH),
            receipt_key=RECEIPT_KEY,
        )
        self._memory.lie_about_itself(answer)
        return answer

    def GetStatus(
        self, request: appliance_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> appliance_pb2.Status:
        self._memory.caller(context)
        return appliance_pb2.Status(version="0")


class _Devices(devices_pb2_grpc.DeviceServiceServicer):
    def __init__(self, memory: MemoryAppliance) -> None:
        self._memory = memory

    def CreateEnrolment(
        self, request: devices_pb2.CreateEnrolmentRequest, context: grpc.ServicerContext
    ) -> devices_pb2.Enrolment:
        answer = devices_pb2.Enrolment(
            name=EnrolmentId(os.urandom(16)).name,
            label=request.label,
            device_key=request.device_key,
            box_key=request.box_key,
            state=devices_pb2.Enrolment.STATE_WAITING,
        )
        self._memory.enrolments[answer.name] = answer
        return answer

    def GetEnrolment(
        self, request: devices_pb2.GetEnrolmentRequest, context: grpc.ServicerContext
    ) -> devices_pb2.Enrolment:
        if request.name not in self._memory.enrolments:
            refuse(context, "ENROLMENT_NOT_FOUND")
        answer = self._memory.enrolments[request.name]
        self._memory.lie_about_enrolment(answer)
        return answer

    def ListEnrolments(
        self, request: devices_pb2.ListEnrolmentsRequest, context: grpc.ServicerContext
    ) -> devices_pb2.ListEnrolmentsResponse:
        self._memory.caller(context)
        return devices_pb2.ListEnrolmentsResponse(enrolments=self._memory.enrolments.values())

    def ApproveEnrolment(
        self, request: devices_pb2.ApproveEnrolmentRequest, context: grpc.ServicerContext
    ) -> devices_pb2.Enrolment:
        account = self._memory.caller(context)
        self._memory.put(context, account, request.statements)
        found = self._memory.enrolments[request.name]
        found.state = devices_pb2.Enrolment.STATE_APPROVED
        seen = (StatementKind.ACCOUNT, StatementKind.EPOCH, StatementKind.DEVICE)
        found.statements.extend(
            each.encoded for each in self._memory.newest(account) if each.kind in seen
        )
        found.sealed_secrets = request.sealed_secrets
        return found

    def ListDevices(
        self, request: devices_pb2.ListDevicesRequest, context: grpc.ServicerContext
    ) -> devices_pb2.ListDevicesResponse:
        account = self._memory.caller(context)
        found = self._memory.of_kind(account, StatementKind.DEVICE)
        return devices_pb2.ListDevicesResponse(
            devices=[
                devices_pb2.Device(name=DeviceId(each.subject).name, statement=each.encoded)
                for each in found
            ]
        )
