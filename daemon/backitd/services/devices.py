"""DeviceService: how machines come into an account, and which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import StatementInvalid
from backit.format.statement import StatementKind
from backit.format.v1 import statement_pb2
from backit.ids import EnrolmentId
from backit.v1 import devices_pb2 as pb
from backit.v1 import devices_pb2_grpc
from backitd.auth.enrolments import Wish
from backitd.auth.principals import current_caller
from backitd.services import parse, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from backit.format.statement import Statement
    from backit.ids import DeviceId
    from backitd.auth.enrolments import Enrolment, Enrolments
    from backitd.auth.login import Logins
    from backitd.store import DeviceRow, Store

POLL_KEY_BYTES = 32
LONGEST_SEALED_SECRETS = 4096
MOST_APPROVAL_STATEMENTS = 8
FOR_THE_MACHINE = frozenset((StatementKind.ACCOUNT, StatementKind.EPOCH))


class DeviceService(devices_pb2_grpc.DeviceServiceServicer):
    def __init__(self, store: Store, *, enrolments: Enrolments, logins: Logins) -> None:
        self._store = store
        self._enrolments = enrolments
        self._logins = logins

    def CreateEnrolment(
        self, request: pb.CreateEnrolmentRequest, context: grpc.ServicerContext
    ) -> pb.Enrolment:
        wish = Wish(
            user=parse.text(request.user, "user name"),
            label=parse.text(request.label, "label"),
            device_key=parse.exactly(request.device_key, primitives.PUBLIC_KEY_BYTES, "device key"),
            box_key=parse.exactly(request.box_key, primitives.PUBLIC_KEY_BYTES, "box key"),
            poll_key=parse.exactly(request.poll_key, POLL_KEY_BYTES, "poll key"),
        )
        account = self._store.find_user(wish.user)
        created = self._enrolments.create(wish, None if account is None else account.account)
        return render.enrolment(created)

    def GetEnrolment(
        self, request: pb.GetEnrolmentRequest, context: grpc.ServicerContext
    ) -> pb.Enrolment:
        enrolment = parse.resource(EnrolmentId, request.name)
        return render.enrolment(self._enrolments.poll(enrolment, request.poll_key))

    def ListEnrolments(
        self, request: pb.ListEnrolmentsRequest, context: grpc.ServicerContext
    ) -> pb.ListEnrolmentsResponse:
        waiting = self._enrolments.waiting(current_caller().account)
        return pb.ListEnrolmentsResponse(enrolments=[render.enrolment(one) for one in waiting])

    def ApproveEnrolment(
        self, request: pb.ApproveEnrolmentRequest, context: grpc.ServicerContext
    ) -> pb.Enrolment:
        caller = current_caller()
        wanted = parse.resource(EnrolmentId, request.name)
        statements = parse.owned_statements(
            request.statements, caller.account, MOST_APPROVAL_STATEMENTS
        )
        sealed = parse.at_most(request.sealed_secrets, LONGEST_SEALED_SECRETS, "sealed secrets")
        enrolment = self._enrolments.of_account(wanted, caller.account)
        certificate = _certificate(enrolment, statements)
        if certificate in enrolment.statements:  # the same call again, its answer lost
            return render.enrolment(enrolment)
        self._store.put_statements(caller.account, statements)
        self._logins.statements_stored(statements, caller)
        stored = self._store.statements(caller.account)
        for_machine = [one for one in stored if one.kind in FOR_THE_MACHINE]
        approved = self._enrolments.approve(enrolment, [*for_machine, certificate], sealed)
        return render.enrolment(approved)

    def ListDevices(
        self, request: pb.ListDevicesRequest, context: grpc.ServicerContext
    ) -> pb.ListDevicesResponse:
        rows = sorted(self._store.devices(current_caller().account), key=_label)
        return pb.ListDevicesResponse(devices=[render.device(row) for row in rows])


def _label(row: DeviceRow) -> tuple[str, DeviceId]:
    body = row.statement.body
    label = body.label if isinstance(body, statement_pb2.DeviceBody) else ""
    return label, row.device


def _certificate(enrolment: Enrolment, statements: Sequence[Statement]) -> Statement:
    """The device statement that makes this very machine a device. Raises StatementInvalid."""
    for statement in statements:
        body = statement.body
        if (
            isinstance(body, statement_pb2.DeviceBody)
            and body.device_id == enrolment.id.raw
            and body.device_key == enrolment.wish.device_key
        ):
            return statement
    raise StatementInvalid("approving: no device statement with the machine's id and key")
