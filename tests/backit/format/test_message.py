"""One encoding for one value: anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.errors import Damaged
from backit.format import message
from backit.format.v1 import cache_pb2, statement_pb2, tree_pb2

MESSAGES = (tree_pb2.Node, statement_pb2.SnapshotBody, statement_pb2.SlotBody, cache_pb2.CachedLeaf)

ATTRIBUTES = st.builds(
    tree_pb2.Attribute, name=st.binary(max_size=5), value=st.binary(max_size=200)
)
ENTRIES = st.builds(
    tree_pb2.Entry,
    name=st.binary(max_size=5),
    type=st.integers(0, 9),
    mtime=st.integers(0, 2**64 - 1),
    size=st.integers(0, 2**64 - 1),
    attributes=st.lists(ATTRIBUTES, max_size=3),
    inconsistent=st.booleans(),
)


@given(entry=ENTRIES)
def test_what_is_encoded_is_canonical(entry: tree_pb2.Entry) -> None:
    encoded = message.encode(entry)
    assert message.decode(tree_pb2.Entry, encoded) == entry
    assert message.encode(message.decode(tree_pb2.Entry, encoded)) == encoded


@given(entry=ENTRIES, number=st.integers(22, 1000), value=st.integers(0, 127))
def test_an_unknown_field_is_refused(entry: tree_pb2.Entry, number: int, value: int) -> None:
    key = number << 3
    extra = bytes([key & 0x7F | 0x80, key >> 7, value])
    with pytest.raises(Damaged, match="Entry: not in canonical form"):
        message.decode(tree_pb2.Entry, message.encode(entry) + extra)


@given(first=ENTRIES, second=ENTRIES)
def test_two_messages_one_after_another_are_not_one(
    first: tree_pb2.Entry, second: tree_pb2.Entry
) -> None:
    joined = message.encode(first) + message.encode(second)
    if not first.ByteSize() or not second.ByteSize():
        assert message.decode(tree_pb2.Entry, joined) in (first, second)
        return
    try:
        found = message.decode(tree_pb2.Entry, joined)
    except Damaged:
        return
    assert message.encode(found) == joined


@given(data=st.binary(max_size=60))
def test_garbage_is_damaged_or_canonical(data: bytes) -> None:
    for make in MESSAGES:
        try:
            found = message.decode(make, data)
        except Damaged:
            continue
        assert message.encode(found) == data
