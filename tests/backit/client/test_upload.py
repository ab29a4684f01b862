"""A message of records is what protobuf would have made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.client.upload import Records, serialize
from backit.format.magic import RECORD_LIMIT
from backit.v1 import chunks_pb2

RECORDS = st.lists(st.binary(max_size=300), max_size=20)


@given(records=RECORDS)
def test_the_bytes_are_those_of_protobuf(records: list[bytes]) -> None:
    expected = chunks_pb2.UploadRequest(records=records).SerializeToString()
    assert serialize(Records(records)) == expected


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 2_097_152, RECORD_LIMIT])
def test_a_record_of_any_length_arrives_whole(length: int) -> None:
    record = bytes(length)
    found = chunks_pb2.UploadRequest.FromString(serialize(Records([b"before", record, b"after"])))
    assert found == chunks_pb2.UploadRequest(records=[b"before", record, b"after"])


def test_every_other_message_is_left_to_protobuf() -> None:
    request = chunks_pb2.UploadRequest(lease="leases/1", flush=True)
    assert chunks_pb2.UploadRequest.FromString(serialize(request)) == request
