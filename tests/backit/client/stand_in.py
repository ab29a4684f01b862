"""Chunks and leases of an appliance, in memory, behind a real gRPC server on a unix socket.

It keeps what comes, notes in which order it came, and has a lever for each way in which an
appliance fails at an exact point. Nothing is signed or checked: what the daemon decides is tested
with the daemon.
"""

# gRPC names the methods and their arguments.

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from backit.client.profile import Address
from backit.client.remote import Appliance
from backit.errors import BackitError
from backit.format import record
from backit.format.magic import MESSAGE_LIMIT, Kind
from backit.v1 import chunks_pb2, chunks_pb2_grpc, snapshots_pb2
from backitd import status

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

LEASE = "leases/" + "0" * 32


def _nothing(_number: int) -> None:
    """A lever that nobody has pulled."""


@dataclass
class StandIn:
    """What it has, what it has seen, and the levers."""

    records: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    # Ids in the order in which their records came, and (node, reference) where the reference had
    # not come.
    arrived: list[bytes] = field(default_factory=list[bytes])
    premature: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    questions: list[list[bytes]] = field(default_factory=list[list[bytes]])
    message_sizes: list[list[int]] = field(default_factory=list[list[int]])
    sessions: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    renewals: int = 0
    # Called with the number of each call or message, from 1, before anything is done with it; what
    # they raise, the client gets.
    on_find: Callable[[int], None] = _nothing
    on_message: Callable[[int], None] = _nothing
    on_end: Callable[[int], None] = _nothing
    on_session: Callable[[int], None] = _nothing
    # Messages after which the upload ends as if all were well, and acknowledgements cease.
    ends_after: int | None = None
    silent_after: int | None = None
    # What a download says in place of the truth.
    answers: Callable[
        [list[chunks_pb2.DownloadResponse]], Iterable[chunks_pb2.DownloadResponse]
    ] = lambda responses: responses

    def take(self, message: chunks_pb2.UploadRequest) -> None:
        self.message_sizes.append([len(encoded) for encoded in message.records])
        for encoded in message.records:
            header = record.parse(encoded)
            if header.kind is Kind.NODE:
                self.premature += [
                    (header.chunk.raw, used.raw)
                    for used in record.references(encoded, header)
                    if used.raw not in self.records
                ]
            self.arrived.append(header.chunk.raw)
            self.records[header.chunk.raw] = encoded


@contextmanager
def serving(stand_in: StandIn, socket: Path, ca_certificate: str) -> Generator[Appliance]:
    """Serve it on this socket; gives a connection to it."""
    with ThreadPoolExecutor(8, thread_name_prefix="stand-in") as pool:
        server = grpc.server(pool, options=[("grpc.max_receive_message_length", MESSAGE_LIMIT)])
        chunks_pb2_grpc.add_ChunkServiceServicer_to_server(_Chunks(stand_in), server)
        server.add_generic_rpc_handlers([_leases(stand_in)])
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        try:
            with Appliance(Address(path=str(socket)), ca_certificate) as appliance:
                yield appliance
        finally:
            server.stop(None).wait()


def _leases(stand_in: StandIn) -> grpc.GenericRpcHandler:
    def renew(request: snapshots_pb2.RenewLeaseRequest, _context: object) -> snapshots_pb2.Lease:
        stand_in.renewals += 1
        return snapshots_pb2.Lease(name=request.name)

    handler = grpc.unary_unary_rpc_method_handler(
        renew,
        request_deserializer=snapshots_pb2.RenewLeaseRequest.FromString,
        response_serializer=snapshots_pb2.Lease.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(
        "backit.v1.SnapshotService", {"RenewLease": handler}
    )


class _Chunks(chunks_pb2_grpc.ChunkServiceServicer):
    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._lock = threading.Lock()

    def FindMissing(
        self, request: chunks_pb2.FindMissingRequest, context: grpc.ServicerContext
    ) -> chunks_pb2.FindMissingResponse:
        stand_in = self._stand_in
        with self._lock:
            stand_in.questions.append(list(request.chunk_ids))
            number = len(stand_in.questions)
        with _telling(context):
            stand_in.on_find(number)
        missing = [at for at, raw in enumerate(request.chunk_ids) if raw not in stand_in.records]
        return chunks_pb2.FindMissingResponse(missing=missing)

    def Upload(
        self,
        request_iterator: Iterator[chunks_pb2.UploadRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[chunks_pb2.UploadResponse]:
        stand_in = self._stand_in
        number = 0
        with _telling(context):
            assert next(request_iterator).lease == LEASE
            for number, message in enumerate(request_iterator, start=1):
                stand_in.on_message(number)
                stand_in.take(message)
                if stand_in.silent_after is None or number <= stand_in.silent_after:
                    yield chunks_pb2.UploadResponse(acknowledged=number)
                if number == stand_in.ends_after:
                    return
            stand_in.on_end(number)

    def Download(
        self, request: chunks_pb2.DownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[chunks_pb2.DownloadResponse]:
        missing = chunks_pb2.DownloadResponse.STATE_MISSING
        responses = [
            chunks_pb2.DownloadResponse(chunk_id=raw, record=self._stand_in.records[raw])
            if raw in self._stand_in.records
            else chunks_pb2.DownloadResponse(chunk_id=raw, state=missing)
            for raw in request.chunk_ids
        ]
        with _telling(context):
            yield from self._stand_in.answers(responses)

    def FindLost(
        self, request: chunks_pb2.FindLostRequest, context: grpc.ServicerContext
    ) -> chunks_pb2.FindLostResponse:
        lost = [at for at, raw in enumerate(request.chunk_ids) if raw not in self._stand_in.records]
        return chunks_pb2.FindLostResponse(lost=lost)

    def GetSessions(
        self, request: chunks_pb2.GetSessionsRequest, context: grpc.ServicerContext
    ) -> chunks_pb2.GetSessionsResponse:
        with _telling(context):
            self._stand_in.on_session(1)
        known = self._stand_in.sessions
        return chunks_pb2.GetSessionsResponse(
            sessions=[known[raw] for raw in request.session_ids if raw in known]
        )


@contextmanager
def _telling(context: grpc.ServicerContext) -> Generator[None]:
    """Errors go to the client as the daemon's do."""
    try:
        yield
    except BackitError as error:
        status.abort(context, "", error)
