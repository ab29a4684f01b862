"""Messages full of records, put together and taken apart by hand.

They are byte for byte those of protobuf, which copies a record up to five times on its way out and
three times on its way in; here it is copied once, and never. Whatever is not of the plain form that
is made here is left to protobuf. Which calls carry them is for client and daemon to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.v1 import chunks_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.crypto.primitives import Buffer

_SERVICE = chunks_pb2.DESCRIPTOR.services_by_name["ChunkService"]
UPLOAD = f"/{_SERVICE.full_name}/Upload"
# Protocol Buffers, "Encoding": field number and wire type 2, length-delimited.
_RECORD_TAG = chunks_pb2.UploadRequest.RECORDS_FIELD_NUMBER << 3 | 2
_TAG = bytes([_RECORD_TAG])
# No message has a length of more bytes than this.
_VARINT_MAX = 4


@dataclass(frozen=True, slots=True)
class Records:
    """An UploadRequest that has records and nothing else."""

    records: Sequence[Buffer]


UploadMessage = chunks_pb2.UploadRequest | Records


def serialize_upload(request: UploadMessage) -> bytes:
    """What the appliance reads as an UploadRequest."""
    if isinstance(request, chunks_pb2.UploadRequest):
        return request.SerializeToString()
    pieces: list[Buffer] = []
    for record in request.records:
        pieces += (_TAG, _varint(len(record)), record)
    return b"".join(pieces)


def parse_upload(data: bytes) -> UploadMessage:
    """Undo serialize_upload; records are views of `data`. Raises protobuf's DecodeError."""
    view = memoryview(data)
    records: list[memoryview] = []
    at = 0
    while at < len(data):
        start, length = _read_varint(data, at + 1)
        end = start + length
        if data[at] != _RECORD_TAG or length < 0 or end > len(data):
            return chunks_pb2.UploadRequest.FromString(data)
        records.append(view[start:end])
        at = end
    return Records(records)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Where it ends, and the number; -1 where there is none that a message of ours could have."""
    number = 0
    for shift, byte in enumerate(data[at : at + _VARINT_MAX]):
        number |= (byte & 0x7F) << 7 * shift
        if byte <= 0x7F:
            return at + shift + 1, number
    return at, -1
