"""Messages full of records, put together and taken apart by hand.

They are byte for byte those of protobuf, which copies a record up to five times on its way out and
three times on its way in; here it is copied once, and never. Whatever is not of the plain form that
is made here is left to protobuf. Which calls carry them is for client and daemon to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from backit.ids import ChunkId
from backit.v1 import chunks_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.crypto.primitives import Buffer

SERVICE = chunks_pb2.DESCRIPTOR.services_by_name["ChunkService"].full_name
UPLOAD, DOWNLOAD = "Upload", "Download"
# Protocol Buffers, "Encoding": field number and wire type 2, length-delimited.
_RECORDS_TAG = chunks_pb2.UploadRequest.RECORDS_FIELD_NUMBER << 3 | 2
_UPLOADED = bytes([_RECORDS_TAG])
_CHUNK_ID_TAG = chunks_pb2.DownloadResponse.CHUNK_ID_FIELD_NUMBER << 3 | 2
_RECORD_TAG = chunks_pb2.DownloadResponse.RECORD_FIELD_NUMBER << 3 | 2
_PRESENT = chunks_pb2.DownloadResponse.STATE_UNSPECIFIED
# A DownloadResponse with a record begins with this, the chunk's id, and the tag of the record.
_DOWNLOADED = bytes([_CHUNK_ID_TAG, ChunkId.LENGTH])
# No message has a length of more bytes than this.
_VARINT_MAX = 4


@dataclass(frozen=True, slots=True)
class Records:
    """An UploadRequest that has records and nothing else."""

    records: Sequence[Buffer]


class Download(NamedTuple):
    """A DownloadResponse: either a record, or a state that says why there is none."""

    chunk_id: bytes
    record: Buffer
    state: chunks_pb2.DownloadResponse.State.ValueType


UploadMessage = chunks_pb2.UploadRequest | Records


def serialize_upload(request: UploadMessage) -> bytes:
    """What the appliance reads as an UploadRequest."""
    if isinstance(request, chunks_pb2.UploadRequest):
        return request.SerializeToString()
    pieces: list[Buffer] = []
    for record in request.records:
        pieces += (_UPLOADED, _varint(len(record)), record)
    return b"".join(pieces)


def parse_upload(data: bytes) -> UploadMessage:
    """Undo serialize_upload; records are views of `data`. Raises protobuf's DecodeError."""
    view = memoryview(data)
    records: list[memoryview] = []
    at = 0
    while at < len(data):
        start, length = _read_varint(data, at + 1)
        end = start + length
        if data[at] != _RECORDS_TAG or length < 0 or end > len(data):
            return chunks_pb2.UploadRequest.FromString(data)
        records.append(view[start:end])
        at = end
    return Records(records)


def serialize_download(answer: Download) -> bytes:
    """What a client reads as a DownloadResponse."""
    chunk_id, record, state = answer
    if state or len(chunk_id) != ChunkId.LENGTH or not len(record):
        return chunks_pb2.DownloadResponse(
            chunk_id=chunk_id, record=bytes(record), state=state
        ).SerializeToString()
    return b"".join((_DOWNLOADED, chunk_id, bytes([_RECORD_TAG]), _varint(len(record)), record))


def parse_download(data: bytes) -> Download:
    """Undo serialize_download; the record is a view of `data`. Raises protobuf's DecodeError."""
    id_end = len(_DOWNLOADED) + ChunkId.LENGTH
    if data.startswith(_DOWNLOADED) and data[id_end : id_end + 1] == bytes([_RECORD_TAG]):
        start, length = _read_varint(data, id_end + 1)
        if start + length == len(data):
            chunk_id = data[len(_DOWNLOADED) : id_end]
            return Download(chunk_id, memoryview(data)[start:], _PRESENT)
    found = chunks_pb2.DownloadResponse.FromString(data)
    return Download(found.chunk_id, found.record, found.state)


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
