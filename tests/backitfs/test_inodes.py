"""Numbers say what they mean, names of one file share one, and nothing forgotten is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backit.format.node import Node
from backit.format.v1 import tree_pb2 as pb
from backitfs import inodes
from backitfs.inodes import LINKED, Inodes
from backitfs.view import Item

LEAF = Node(pb.Node(), ())


def item(ordinal: int, *, inode: int = 0, device: int = 0, links: int = 0) -> Item:
    entry = pb.Entry(name=b"n", inode=inode, link_device=device, links=links)
    return Item(ordinal, b"", entry, LEAF)


@given(slot=st.integers(1, 2**23 - 1), ordinal=st.integers(0, 2**39 - 2))
def test_a_plain_number_needs_no_memory(slot: int, ordinal: int) -> None:
    table = Inodes()
    number = table.number(slot, item(ordinal))
    table.hold(number, item(ordinal))
    assert (inodes.slot_of(number), table.ordinal(number)) == (slot, ordinal)
    assert not inodes.is_root_of_snapshot(number)
    assert number < 2**63
    assert len(table) == 0


def test_names_of_one_file_share_a_number_until_it_is_forgotten() -> None:
    table = Inodes()
    one, other = item(5, inode=77, device=1, links=2), item(9, inode=77, device=1, links=2)
    number = table.number(3, one)
    table.hold(number, one)
    assert table.number(3, other) == number
    table.hold(number, other)
    assert table.ordinal(number) == 5
    table.forget([(number, 1)])
    assert table.ordinal(number) == 5
    table.forget([(number, 1)])
    assert table.ordinal(number) is None
    assert len(table) == 0


def test_files_that_end_alike_are_two_files() -> None:
    table = Inodes()
    one = item(1, inode=7, device=1, links=2)
    for other in (item(2, inode=7, device=2, links=2), item(3, inode=7 + LINKED, links=2)):
        first = table.number(3, one)
        table.hold(first, one)
        second = table.number(3, other)
        assert second != first
        table.hold(second, other)
        assert table.ordinal(second) == other.ordinal
        assert table.number(3, other) == second
    assert table.number(4, one) != table.number(3, one)


@given(folder=st.integers(0, 2**32 - 1))
def test_folders_and_their_links_have_numbers_of_their_own(folder: int) -> None:
    assert inodes.folder_of(inodes.folder_number(folder)) == (folder, False)
    assert inodes.folder_of(inodes.latest_number(folder)) == (folder, True)
    assert inodes.slot_of(inodes.latest_number(folder)) == 0
    assert inodes.folder_number(folder) > inodes.ROOT
