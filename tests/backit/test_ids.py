"""Ids name one thing, print well, and are written in one way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit import ids
from backit.errors import Invalid
from backit.ids import AccountId, ChunkId, DeviceId, Id, SnapshotId

KINDS = [kind for kind in vars(ids).values() if isinstance(kind, type) and issubclass(kind, Id)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("difference", [-1, 1, 16])
def test_an_id_of_a_wrong_length_is_refused(kind: type[Id], difference: int) -> None:
    with pytest.raises(Invalid, match=f"{kind.__name__} needs {kind.LENGTH} bytes"):
        kind(bytes(kind.LENGTH + difference))


def test_ids_of_different_things_are_never_equal() -> None:
    assert len({AccountId(bytes(16)), DeviceId(bytes(16)), DeviceId(bytes(16))}) == 2


def test_no_two_kinds_share_a_name() -> None:
    assert len({kind.COLLECTION for kind in KINDS}) == len(KINDS)


@given(raw=st.binary(min_size=32, max_size=32))
def test_text_and_name_lead_back_to_the_id(raw: bytes) -> None:
    chunk = ChunkId(raw)
    assert ChunkId.from_hex(str(chunk)) == ChunkId.from_hex(chunk.hex) == chunk
    assert ChunkId.from_name(chunk.name) == chunk
    assert repr(chunk) == f"ChunkId({raw.hex()})"


@given(text=st.text(max_size=70))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        SnapshotId.from_hex(text)
    with pytest.raises(Invalid):
        SnapshotId.from_name(f"snapshots/{text}")


def test_the_name_of_something_else_is_refused() -> None:
    with pytest.raises(Invalid, match="does not name one of devices/"):
        DeviceId.from_name(AccountId(bytes(16)).name)


def test_ids_are_ordered_by_their_bytes() -> None:
    low, high = ChunkId(bytes(32)), ChunkId(b"\1" * 32)
    assert sorted([high, low]) == [low, high]
