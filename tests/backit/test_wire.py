"""Messages of records are those of protobuf, in both directions; all others are left to it."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from backit.format.magic import RECORD_LIMIT
from backit.v1 import chunks_pb2
from backit.wire import (
    Download,
    Records,
    parse_download,
    parse_upload,
    serialize_download,
    serialize_upload,
)

RECORDS = st.lists(st.binary(max_size=300), max_size=20)


def parsed_by_protobuf(data: bytes) -> chunks_pb2.UploadRequest | None:
    try:
        return chunks_pb2.UploadRequest.FromString(data)
    except DecodeError:
        return None


def parsed(data: bytes) -> chunks_pb2.UploadRequest | None:
    """What we parse, as protobuf's message."""
    try:
        found = parse_upload(data)
    except DecodeError:
        return None
    if isinstance(found, Records):
        return chunks_pb2.UploadRequest(records=[bytes(record) for record in found.records])
    return found


@given(records=RECORDS)
def test_the_bytes_are_those_of_protobuf(records: list[bytes]) -> None:
    expected = chunks_pb2.UploadRequest(records=records).SerializeToString()
    assert serialize_upload(Records(records)) == expected


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 2_097_152, RECORD_LIMIT])
def test_a_record_of_any_length_arrives_whole(length: int) -> None:
    records = [b"before", bytes(length), b"after"]
    encoded = serialize_upload(Records(records))
    assert chunks_pb2.UploadRequest.FromString(encoded).records == records
    assert parse_upload(encoded) == Records([memoryview(record) for record in records])


def test_every_other_message_is_left_to_protobuf() -> None:
    request = chunks_pb2.UploadRequest(lease="leases/1", flush=True)
    assert chunks_pb2.UploadRequest.FromString(serialize_upload(request)) == request
    assert parse_upload(serialize_upload(request)) == request


@given(
    records=RECORDS,
    lease=st.text(max_size=5),
    flush=st.lists(st.booleans(), max_size=1),
    cut=st.integers(0, 50),
    strange=st.binary(max_size=20),
)
def test_whatever_arrives_is_read_as_protobuf_reads_it(
    records: list[bytes], lease: str, flush: list[bool], cut: int, strange: bytes
) -> None:
    request = chunks_pb2.UploadRequest(lease=lease, records=records, flush=any(flush))
    whole = request.SerializeToString()
    for data in (whole[: max(0, len(whole) - cut)], whole + strange, strange + whole):
        assert parsed(data) == parsed_by_protobuf(data)


@pytest.mark.parametrize(
    "length",
    [
        b"",
        b"\x80",
        b"\x80\x80\x80\x80\x01",
        b"\xff" * 9 + b"\x01",
        b"\xff" * 10,
        b"\x02",
        b"\x81\x00",
    ],
)
def test_a_length_that_nobody_would_write_is_read_as_protobuf_reads_it(length: bytes) -> None:
    data = b"\x12" + length + b"a"
    assert parsed(data) == parsed_by_protobuf(data)


ANSWERS = st.builds(
    chunks_pb2.DownloadResponse,
    chunk_id=st.one_of(st.binary(min_size=32, max_size=32), st.binary(max_size=40)),
    record=st.binary(max_size=300),
    state=st.sampled_from([0, 0, 1, 2]),
)


def answer_of(message: chunks_pb2.DownloadResponse) -> Download:
    return Download(message.chunk_id, message.record, message.state)


def answer_by_protobuf(data: bytes) -> Download | None:
    try:
        return answer_of(chunks_pb2.DownloadResponse.FromString(data))
    except DecodeError:
        return None


def answer(data: bytes) -> Download | None:
    try:
        found = parse_download(data)
    except DecodeError:
        return None
    return found._replace(record=bytes(found.record))


@given(message=ANSWERS)
def test_an_answer_has_the_bytes_of_protobuf(message: chunks_pb2.DownloadResponse) -> None:
    assert serialize_download(answer_of(message)) == message.SerializeToString()


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 2_097_152, RECORD_LIMIT])
def test_an_answer_arrives_whole(length: int) -> None:
    sent = Download(b"i" * 32, b"r" * length, chunks_pb2.DownloadResponse.STATE_UNSPECIFIED)
    assert answer(serialize_download(sent)) == sent


@given(message=ANSWERS, cut=st.integers(0, 50), strange=st.binary(max_size=20))
def test_whatever_is_answered_is_read_as_protobuf_reads_it(
    message: chunks_pb2.DownloadResponse, cut: int, strange: bytes
) -> None:
    whole = message.SerializeToString()
    for data in (whole[: max(0, len(whole) - cut)], whole + strange, strange + whole):
        assert answer(data) == answer_by_protobuf(data)
