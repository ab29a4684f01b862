"""ChunkService: what is missing, records in, records out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from backit import wire
from backit.errors import Invalid
from backit.ids import DomainId, LeaseId, SessionId
from backit.v1 import chunks_pb2 as pb
from backit.v1 import chunks_pb2_grpc
from backit.wire import Download, Records
from backitd.auth.principals import current_caller
from backitd.services import parse
from backitd.services.receiving import Receiver
from backitd.store import FetchState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backit.wire import UploadMessage
    from backitd.store import Store

MOST_SESSIONS = 1024
STATES = {
    FetchState.PRESENT: pb.DownloadResponse.STATE_UNSPECIFIED,
    FetchState.MISSING: pb.DownloadResponse.STATE_MISSING,
    FetchState.DAMAGED: pb.DownloadResponse.STATE_DAMAGED,
}


def add_to(server: grpc.Server, service: ChunkService) -> None:
    """Have the server serve it. Messages full of records are not for protobuf, so two of the
    generated code's handlers are replaced.
    """
    chunks_pb2_grpc.add_ChunkServiceServicer_to_server(service, server)
    upload = grpc.stream_stream_rpc_method_handler(
        service.Upload,
        request_deserializer=wire.parse_upload,
        response_serializer=pb.UploadResponse.SerializeToString,
    )
    download = grpc.unary_stream_rpc_method_handler(
        service.Download,
        request_deserializer=pb.DownloadRequest.FromString,
        response_serializer=wire.serialize_download,
    )
    server.add_registered_method_handlers(
        wire.SERVICE, {wire.UPLOAD: upload, wire.DOWNLOAD: download}
    )


class ChunkService(chunks_pb2_grpc.ChunkServiceServicer):
    def __init__(self, store: Store) -> None:
        self._store = store

    def FindMissing(
        self, request: pb.FindMissingRequest, context: grpc.ServicerContext
    ) -> pb.FindMissingResponse:
        device = current_caller().as_device().device
        lease = parse.resource(LeaseId, request.lease)
        chunks = parse.chunks(request.chunk_ids)
        return pb.FindMissingResponse(missing=self._store.find_missing(lease, device, chunks))

    def Upload(
        self, request_iterator: Iterator[UploadMessage], context: grpc.ServicerContext
    ) -> Iterator[pb.UploadResponse]:
        caller = current_caller()
        device = caller.as_device().device
        opening = next(request_iterator)
        if isinstance(opening, Records) or opening.records or opening.flush:
            raise Invalid("the first message of an upload names its lease and carries nothing")
        upload = self._store.upload(parse.resource(LeaseId, opening.lease), device)
        receiver = Receiver(upload, request_iterator, caller.renew)
        for number in receiver.acknowledgements():
            yield pb.UploadResponse(acknowledged=number)

    def Download(
        self, request: pb.DownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[Any]:  # of wire's Download, which the generated types do not know
        caller = current_caller()
        domain = DomainId(request.domain_id)
        chunks = parse.distinct(parse.chunks(request.chunk_ids))
        for fetched in self._store.read(caller.account, domain, chunks):
            caller.renew()
            yield Download(fetched.chunk.raw, fetched.record or b"", STATES[fetched.state])

    def FindLost(
        self, request: pb.FindLostRequest, context: grpc.ServicerContext
    ) -> pb.FindLostResponse:
        domain = DomainId(request.domain_id)
        chunks = parse.chunks(request.chunk_ids)
        account = current_caller().account
        return pb.FindLostResponse(lost=self._store.find_lost(account, domain, chunks))

    def GetSessions(
        self, request: pb.GetSessionsRequest, context: grpc.ServicerContext
    ) -> pb.GetSessionsResponse:
        sessions = parse.ids(SessionId, request.session_ids, MOST_SESSIONS)
        return pb.GetSessionsResponse(
            sessions=self._store.sessions(current_caller().account, sessions)
        )
