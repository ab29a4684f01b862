"""The border between gRPC and backit.errors, from the client's side: one table, built from the
exception tree.

The twin of the daemon's table. Decisions are made by reason, never by text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from backit import errors
from backit.ids import ChunkId
from backit.v1 import chunks_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.rpc import status_pb2

DOMAIN = "backit"
INCIDENT_KEY = "incident"


def _below(kind: type[errors.BackitError]) -> Iterator[type[errors.BackitError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


# The reason that stands in google.rpc.ErrorInfo -> what it is here.
# Programs derive classes of their own, without a reason of their own: those are not meant.
BY_REASON: dict[str, type[errors.BackitError]] = {
    kind.reason: kind for kind in _below(errors.BackitError) if "reason" in vars(kind)
}

# For answers without a reason of ours: from gRPC itself, or from something that is no backitd.
BY_CODE: dict[grpc.StatusCode, type[errors.BackitError]] = {
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    # gRPC's own: too many calls at once, or a message beyond the limit.
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.UNAUTHENTICATED: errors.LoginNeeded,
    grpc.StatusCode.PERMISSION_DENIED: errors.Refused,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: errors.Invalid,
    grpc.StatusCode.DATA_LOSS: errors.Damaged,
}


def error_of(error: grpc.RpcError, method: str) -> errors.BackitError:
    """What a failed call means here; `method` is the call's name, for the text."""
    if not isinstance(error, grpc.Call):
        return errors.Internal(f"{method}: {error}")
    code, text = error.code(), error.details() or ""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        status = None  # its details contradict its code: only the code is believed
    reason = _reason(status) if status is not None else ""
    kind = BY_REASON.get(reason) or BY_CODE.get(code, errors.Internal)
    message = f"{method}: {_one_line(text) or code.name.lower()}"
    if incident := _incident(error):
        message += f" (incident {incident} in the appliance's log)"
    if issubclass(kind, errors.ReferencesMissing):
        return kind(message, _missing(status) if status is not None else ())
    return kind(message)


def _reason(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info.reason.removeprefix("REASON_")
    return ""


def _missing(status: status_pb2.Status) -> tuple[ChunkId, ...]:
    found = chunks_pb2.MissingReferences()
    for detail in status.details:
        if detail.Unpack(found):
            return tuple(ChunkId(raw) for raw in found.chunk_ids)
    return ()


def _incident(call: grpc.Call) -> str:
    for key, value in call.trailing_metadata() or ():
        if key == INCIDENT_KEY:
            return _one_line(str(value))[:80]
    return ""


def _one_line(text: str) -> str:
    """The other side's words without anything that could move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in text)[:500].strip()
