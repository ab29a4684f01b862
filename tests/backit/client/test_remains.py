"""What may be kept of a tree when the appliance has lost parts of it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

import pytest

from backit.client.remains import AHEAD, remains
from backit.engine.leaf import Extent, NewEntry
from backit.engine.levels import ChildInfo, Sealable
from backit.engine.tree import Leaf, TreeBuilder
from backit.format import node as nodes
from backit.format.magic import Kind
from backit.format.node import entries
from backit.format.record import Plain
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId
from tests.backit.client.shelf import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.outlet import Promise

FILES = 300


def chunk_of(number: int) -> ChunkId:
    """Three files share a chunk."""
    return ChunkId((number // 3).to_bytes(32, "big"))


def grow(leaves: list[Leaf] | None = None) -> list[Sealable]:
    """A tree of files, or one of what these leaves hold, and the nodes that were encoded for it."""
    sent: list[Sealable] = []
    builder = TreeBuilder(KEYS, sent.append)
    if leaves is None:
        for number in range(FILES):
            entry = pb.Entry(
                name=b"f%05d" % number,
                type=pb.FILE_TYPE_REGULAR,
                size=1,
                inode=1,
                content_hash=bytes(32),
            )
            builder.add(NewEntry(b"", entry, (Extent(chunk_of(number), 0, 1),)))
    else:
        for leaf in leaves:
            flat = list(entries(leaf.node))
            for index in range(len(flat)):
                builder.keep(leaf, flat, index)
    builder.finish()
    return sent


def leaves_of(sent: list[Sealable]) -> list[Leaf]:
    found: list[Leaf] = []
    for each in sent:
        node = nodes.decode(Plain(Kind.NODE, each.references, each.plaintext), each.chunk)
        if node.is_leaf:
            found.append(Leaf(ChildInfo(each.chunk, b"", 0, 0), node, is_last=False))
    return found


def without(*lost: ChunkId) -> Callable[[ChunkId], Promise[bool]]:
    def is_live(chunk: ChunkId) -> Promise[bool]:
        answer: Future[bool] = Future()
        answer.set_result(chunk not in lost)
        return answer

    return is_live


TREE = grow()
LEAVES = leaves_of(TREE)


def names(leaves: list[Leaf]) -> list[bytes]:
    return [entry.name for leaf in leaves for _directory, entry in entries(leaf.node)]


def test_what_is_live_is_kept_as_it_is() -> None:
    assert list(remains(LEAVES, without())) == LEAVES
    assert list(remains(LEAVES * (AHEAD + 1), without())) == LEAVES * (AHEAD + 1)


def test_a_lost_leaf_is_made_again_and_nothing_has_to_be_read() -> None:
    lost = LEAVES[1].info.chunk
    found = list(remains(LEAVES, without(lost)))
    assert names(found) == names(LEAVES)
    assert lost in {each.chunk for each in grow(found)}
    assert LEAVES[0].info.chunk not in {each.chunk for each in grow(found)}


@pytest.mark.parametrize("number", [0, 150, FILES - 1])
def test_files_whose_content_is_lost_are_left_out(number: int) -> None:
    chunk = chunk_of(number)
    # As the appliance sees it, no leaf above is live either.
    above = [leaf.info.chunk for leaf in LEAVES if chunk in leaf.node.references]
    found = list(remains(LEAVES, without(chunk, *above)))
    gone = {b"f%05d" % each for each in range(FILES) if chunk_of(each) == chunk}
    assert names(found) == [name for name in names(LEAVES) if name not in gone]
    assert names(leaves_of(TREE)) == names(LEAVES), "the leaves themselves stay as they are"
