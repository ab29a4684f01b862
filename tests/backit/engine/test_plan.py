"""Decisions of a restore: what becomes of what is there, which chunk goes where, where holes go."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from backit.engine.plan import (
    CHUNKS_MAX,
    PIECES_MAX,
    Action,
    Here,
    Layout,
    Overwrite,
    Window,
    decide,
)
from backit.ids import ChunkId


@pytest.mark.parametrize("overwrite", Overwrite)
def test_what_is_missing_is_made_and_what_is_right_is_left_alone(overwrite: Overwrite) -> None:
    for here in (0, 1, 2):
        times = {"mtime_here": here, "mtime_wanted": 1}
        assert decide(Here.NOTHING, overwrite, **times) is Action.MAKE
        assert decide(Here.SAME, overwrite, **times) is Action.NOTHING


@pytest.mark.parametrize(
    ("overwrite", "mtime_here", "other", "same_content"),
    [
        (Overwrite.NEVER, 0, Action.KEEP, Action.KEEP),
        (Overwrite.NEVER, 2, Action.KEEP, Action.KEEP),
        (Overwrite.OLDER, 0, Action.REPLACE, Action.METADATA),
        (Overwrite.OLDER, 1, Action.REPLACE, Action.METADATA),
        (Overwrite.OLDER, 2, Action.KEEP, Action.METADATA),
        (Overwrite.ALWAYS, 0, Action.REPLACE, Action.METADATA),
        (Overwrite.ALWAYS, 2, Action.REPLACE, Action.METADATA),
    ],
)
def test_what_differs_is_replaced_as_far_as_it_may(
    overwrite: Overwrite, mtime_here: int, other: Action, same_content: Action
) -> None:
    times = {"mtime_here": mtime_here, "mtime_wanted": 1}
    assert decide(Here.OTHER, overwrite, **times) is other
    assert decide(Here.SAME_CONTENT, overwrite, **times) is same_content


def chunk(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


def test_a_chunk_is_wanted_once_with_all_that_it_goes_to() -> None:
    window: Window[str] = Window()
    window.add(chunk(2), ("a", 0, 0, 10))
    window.add(chunk(1), ("b", 0, 0, 5))
    window.add(chunk(2), ("c", 0, 10, 7))
    assert window.chunks == [chunk(2), chunk(1)]
    assert window.take(chunk(2)) == [("a", 0, 0, 10), ("c", 0, 10, 7)]
    assert window.take(chunk(2)) == []
    assert window.chunks == [chunk(1)]


def test_a_window_is_full_of_chunks_or_of_pieces() -> None:
    window: Window[int] = Window()
    for number in range(CHUNKS_MAX):
        assert not window.is_full
        window.add(chunk(number), (number, 0, 0, 1))
    assert window.is_full
    window = Window()
    for number in range(PIECES_MAX):
        assert not window.is_full
        window.add(chunk(0), (number, 0, 0, 1))
    assert window.is_full


HOLES = some.lists(some.tuples(some.integers(1, 9), some.integers(1, 9)), max_size=8)


def stretch(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(data before, length) pairs as (offset, length)."""
    at = 0
    found: list[tuple[int, int]] = []
    for before, length in holes:
        found.append((at + before, length))
        at += before + length
    return found


@given(holes=HOLES, tail=some.integers(0, 9), starts_with_hole=some.booleans(), data=some.data())
def test_pieces_put_together_are_the_file(
    holes: list[tuple[int, int]], tail: int, *, starts_with_hole: bool, data: some.DataObject
) -> None:
    offsets = stretch(holes)
    if starts_with_hole and offsets:
        first, length = offsets[0]
        offsets[0] = (0, first + length)
    size = (sum(offsets[-1]) if offsets else 0) + tail
    is_hole = [False] * size
    for offset, length in offsets:
        is_hole[offset : offset + length] = [True] * length
    layout = Layout(size, offsets)
    assert layout.data_size == is_hole.count(False)
    content = bytes(1 + number % 255 for number in range(layout.data_size))
    file = bytearray(size)
    at = 0
    while at < len(content):
        piece = content[at : at + data.draw(some.integers(1, 12))]
        for offset, start, length in layout.places(at, len(piece)):
            assert length > 0
            file[offset : offset + length] = piece[start : start + length]
        at += len(piece)
    assert bytes(byte for byte, hole in zip(file, is_hole, strict=True) if not hole) == content
    assert all(byte == 0 for byte, hole in zip(file, is_hole, strict=True) if hole)
    stretches = [at for start, length in layout.stretches() for at in range(start, start + length)]
    assert stretches == [at for at, hole in enumerate(is_hole) if not hole]
