"""The upload on the wire. A message of records is put together here, byte for byte what protobuf
would make of it: protobuf copies every record five times on the way, this once, and the thread that
does it is the one that the upload waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backit.v1 import chunks_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

_SERVICE = chunks_pb2.DESCRIPTOR.services_by_name["ChunkService"].full_name
# Protocol Buffers, "Encoding": field number and wire type 2, length-delimited.
_RECORD_TAG = bytes([chunks_pb2.UploadRequest.RECORDS_FIELD_NUMBER << 3 | 2])


@dataclass(frozen=True, slots=True)
class Records:
    """An UploadRequest that has records and nothing else."""

    records: Sequence[bytes]


def serialize(request: chunks_pb2.UploadRequest | Records) -> bytes:
    """What the appliance reads as an UploadRequest."""
    if isinstance(request, chunks_pb2.UploadRequest):
        return request.SerializeToString()
    pieces: list[bytes] = []
    for record in request.records:
        pieces += (_RECORD_TAG, _varint(len(record)), record)
    return b"".join(pieces)


def upload_call(channel: grpc.Channel) -> Any:
    """The stub's Upload, which takes `Records` too."""
    return channel.stream_stream(
        f"/{_SERVICE}/Upload",
        request_serializer=serialize,
        response_deserializer=chunks_pb2.UploadResponse.FromString,
    )


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
