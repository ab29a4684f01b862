"""What remains of the last tree on an appliance that has lost something.

A live node has a live subtree (DESIGN.md section 3), so only below a leaf that is not live is asked
further. Entries whose content is gone are left out, as if they were new; a leaf that is gone itself
is made anew from those that remain.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from backit.engine.tree import Leaf
from backit.format.node import Node
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backit.client.outlet import Promise
    from backit.ids import ChunkId

    Ask = Callable[[ChunkId], Promise[bool]]

# Leaves that have been asked about before the oldest answer is waited for.
AHEAD = 256


def remains(leaves: Iterable[Leaf], is_live: Ask) -> Iterator[Leaf]:
    """The leaves, without what the appliance does not have. Raises what keeps it from answering."""
    asked: deque[tuple[Leaf, Promise[bool]]] = deque()
    for leaf in leaves:
        asked.append((leaf, is_live(leaf.info.chunk)))
        if len(asked) > AHEAD:
            yield _remaining(*asked.popleft(), is_live)
    while asked:
        yield _remaining(*asked.popleft(), is_live)


def _remaining(leaf: Leaf, is_whole: Promise[bool], is_live: Ask) -> Leaf:
    if is_whole.result():
        return leaf
    answers = [is_live(chunk) for chunk in leaf.node.references]
    lost = {index for index, answer in enumerate(answers) if not answer.result()}
    message = pb.Node()
    message.CopyFrom(leaf.node.message)
    for part in message.parts:
        for position in reversed(range(len(part.entries))):
            if not lost.isdisjoint(_references(part.entries[position])):
                del part.entries[position]
    # As the last leaf of a tree: whatever is kept of it is encoded again, and so sent again.
    return Leaf(leaf.info, Node(message, leaf.node.references), is_last=True)


def _references(entry: pb.Entry) -> set[int]:
    """Indexes into the node's table."""
    found = {extent.chunk for extent in entry.extents}
    if entry.extent_tree:
        found.add(entry.extent_tree - 1)
    return found
