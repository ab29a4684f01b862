"""Any range of a file is put together from the right pieces, holes and extent trees included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backit.errors import Damaged
from backit.format.v1 import tree_pb2 as pb
from backitfs.layout import FileLayout, OnePiece, layout_of
from backitfs.view import Tree
from tests.backit.client.shelf import Item, Saver, Shelf
from tests.backitfs.hands import Hand

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Saved:
    """A file in a snapshot of its own."""

    layout: OnePiece | FileLayout
    hand: Hand
    shelf: Shelf

    def read(self, offset: int, size: int) -> bytes:
        pieces = self.hand.ask(self.layout.pieces, offset, size)
        return b"".join(
            bytes(piece.length)
            if piece.chunk is None
            else self.shelf.chunks_held[piece.chunk][piece.offset : piece.offset + piece.length]
            for piece in pieces
        )


def saved(data: bytes, holes: Sequence[tuple[int, int]] = (), cut: int = 100) -> Saved:
    """`data` without the holes, which are (offset, length) in the file."""
    saver = Saver(cut=cut, bundle=50)
    entry = pb.Entry(name=b"file", type=pb.FILE_TYPE_REGULAR, inode=1)
    entry.size = len(data) + sum(length for _offset, length in holes)
    for offset, length in holes:
        entry.holes.add(offset=offset, length=length)
    before = pb.Entry(name=b"a", type=pb.FILE_TYPE_REGULAR, inode=2, size=7)
    root = saver.save([Item(b"", before, b"another"), Item(b"", entry, data)])
    hand = Hand(saver.shelf.load)
    tree = Tree(root, hand.nodes)
    item = hand.ask(tree.find, b"", b"file")
    assert item is not None
    return Saved(layout_of(item, hand.nodes), hand, saver.shelf)


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]], bytes]:
    """Draw data, holes, and the bytes that both make."""
    whole, data = bytearray(), bytearray()
    holes: list[tuple[int, int]] = []
    is_hole = draw(st.booleans())
    for length in draw(st.lists(st.integers(1, 2000), max_size=8)):
        if is_hole:
            holes.append((len(whole), length))
            whole += bytes(length)
        else:
            piece = bytes((len(data) + n) % 251 for n in range(length))
            data += piece
            whole += piece
        is_hole = not is_hole
    return bytes(data), holes, bytes(whole)


@settings(deadline=None)
@given(file=files(), ranges=st.lists(st.tuples(st.integers(0, 17_000), st.integers(0, 5000))))
def test_every_range_is_what_the_file_holds(
    file: tuple[bytes, list[tuple[int, int]], bytes], ranges: list[tuple[int, int]]
) -> None:
    data, holes, whole = file
    made = saved(data, holes, cut=16)
    for offset, size in [*ranges, (0, len(whole) + 1)]:
        assert made.read(offset, size) == whole[offset : offset + size]


def test_a_small_file_is_a_part_of_a_bundle() -> None:
    made = saved(b"content")
    (piece,) = made.layout.pieces(2, 3)
    assert (piece.offset, piece.length) == (len(b"another") + 2, 3)


def test_a_file_of_many_extents_is_read_at_any_offset_with_few_nodes() -> None:
    data = b"".join(b"%08d" % n for n in range(6_000))
    made = saved(data, cut=8)
    made.hand.wanted.clear()
    assert made.read(8 * 4_321, 8) == b"%08d" % 4_321
    levels = [made.hand.opened[each].node.message.level for each in made.hand.wanted]
    assert levels == list(range(levels[0], -1, -1))
    assert made.read(0, len(data)) == data


def test_nothing_lies_behind_the_end() -> None:
    made = saved(b"content", [(7, 3)])
    assert made.read(7, 100) == bytes(3)
    assert made.layout.pieces(10, 1) == []
    assert made.layout.pieces(10**15, 10) == []


def test_a_tree_that_does_not_add_up_to_the_file_is_refused() -> None:
    saver = Saver(cut=8)
    entry = pb.Entry(name=b"file", type=pb.FILE_TYPE_REGULAR, inode=1, size=8 * 1000)
    root = saver.save([Item(b"", entry, bytes(range(250)) * 32)])
    hand = Hand(saver.shelf.load)
    tree = Tree(root, hand.nodes)
    item = hand.ask(tree.find, b"", b"file")
    assert item is not None
    item.entry.size += 1
    layout = layout_of(item, hand.nodes)
    with pytest.raises(Damaged, match="not 8001"):
        hand.ask(layout.pieces, 0, 10)


def test_a_tree_of_entries_in_place_of_extents_is_refused() -> None:
    made = saved(b"content")
    saver = Saver(cut=8)
    entry = pb.Entry(name=b"file", type=pb.FILE_TYPE_REGULAR, inode=1, size=8 * 100)
    root = saver.save([Item(b"", entry, bytes(range(100)) * 8)])
    hand = Hand(saver.shelf.load)
    tree = Tree(root, hand.nodes)
    item = hand.ask(tree.find, b"", b"file")
    assert item is not None
    leaf = hand.opened[root].node
    stolen = item._replace(leaf=type(leaf)(leaf.message, (root,) * len(leaf.references)))
    layout = layout_of(stolen, hand.nodes)
    with pytest.raises(Damaged, match="no extents"):
        hand.ask(layout.pieces, 0, 10)
    assert made.layout.size == 7
