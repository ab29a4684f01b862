"""Errors to gRPC status: the one table, and how a status is rendered.

Clients decide by `reason` (protos/backit/v1/errors.proto), never by text. What was not raised on
purpose becomes INTERNAL with an incident id: the client gets the id, the log gets the traceback.
"""

from __future__ import annotations

import logging
import math
import secrets
from typing import TYPE_CHECKING, NoReturn

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from backit import errors
from backit.v1 import chunks_pb2
from backitd.auth.buckets import Throttled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.message import Message

log = logging.getLogger(__name__)

DOMAIN = "backit"
LONGEST_TEXT = 1000
# Trailing metadata above 8 KiB does not reach a client that did not ask for more.
MOST_MISSING = 128

CODES: Mapping[type[errors.BackitError], grpc.StatusCode] = {
    errors.Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.StatementInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RecordInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unsupported: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Damaged: grpc.StatusCode.DATA_LOSS,
    errors.LoginNeeded: grpc.StatusCode.UNAUTHENTICATED,
    errors.LoginRefused: grpc.StatusCode.UNAUTHENTICATED,
    errors.TooManyAttempts: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyEnrolments: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotTheOwner: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotADevice: grpc.StatusCode.PERMISSION_DENIED,
    errors.DeviceRevoked: grpc.StatusCode.PERMISSION_DENIED,
    errors.InviteNeeded: grpc.StatusCode.PERMISSION_DENIED,
    errors.SnapshotNotFound: grpc.StatusCode.NOT_FOUND,
    errors.EnrolmentNotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.StatementOutdated: grpc.StatusCode.ABORTED,
    errors.LastSlot: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LeaseEnded: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SeriesBusy: grpc.StatusCode.ABORTED,
    errors.HeadMoved: grpc.StatusCode.ABORTED,
    errors.ReferencesMissing: grpc.StatusCode.ABORTED,
    errors.NoSpace: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def abort(context: grpc.ServicerContext, method: str, error: Exception) -> NoReturn:
    """End the call with what `error` means to the caller."""
    code = code_of(error)
    if code is None or not isinstance(error, errors.BackitError):
        _abort_internal(context, method, error)
    log.info("%s: %s", method, error.reason)
    _abort(context, code, reason=error.reason, text=str(error), details=_details(error))


def code_of(error: Exception) -> grpc.StatusCode | None:
    """None for what was not raised on purpose, or is no caller's business."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return None


def _abort_internal(context: grpc.ServicerContext, method: str, error: Exception) -> NoReturn:
    incident = secrets.token_hex(8)
    log.error("%s: incident %s", method, incident, exc_info=error)
    _abort(
        context,
        grpc.StatusCode.INTERNAL,
        reason=errors.Internal.reason,
        text=f"the appliance failed; its log says more under incident {incident}",
        metadata=(("incident", incident),),
    )


def _details(error: errors.BackitError) -> list[Message]:
    """What goes with the reason."""
    match error:
        case errors.ReferencesMissing():
            missing = [chunk.raw for chunk in error.missing[:MOST_MISSING]]
            return [chunks_pb2.MissingReferences(chunk_ids=missing)]
        case Throttled():
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(math.ceil(error.retry_after * 1000))
            return [error_details_pb2.RetryInfo(retry_delay=delay)]
        case _:
            return []


def _abort(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    *,
    reason: str,
    text: str,
    details: Sequence[Message] = (),
    metadata: tuple[tuple[str, str], ...] = (),
) -> NoReturn:
    status = status_pb2.Status(code=code.value[0], message=text[:LONGEST_TEXT])
    for detail in (error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN), *details):
        status.details.add().Pack(detail)
    rendered = rpc_status.to_status(status)
    context.set_trailing_metadata((*rendered.trailing_metadata, *metadata))
    context.abort(code, status.message)
