"""The nodes of a search tree above its leaves, and what each node is made of (FORMAT.md section 6).

Both kinds of trees have them: of a snapshot's entries (tree.py) and of a large file's extents
(extents.py). Nothing here knows what is in a leaf, or where nodes are stored: finished ones go to
`emit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.errors import Invalid
from backit.format import message, record
from backit.format.magic import CHILDREN_LIMIT, KIB, LEVEL_LIMIT
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.crypto.keys import DomainKeys

INNER_MIN, INNER_MAX = 32, CHILDREN_LIMIT
# A node ends at this weight; an inner node not before it has two children.
WEIGHT_MAX = 512 * KIB
CHILD_WEIGHT = 64


@dataclass(frozen=True, slots=True)
class Sealable:
    """A finished node, ready to be sealed into a record."""

    chunk: ChunkId
    references: tuple[ChunkId, ...]
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """A finished node as its parent will mention it."""

    chunk: ChunkId
    first_key: bytes
    count: int
    size: int


Emit = Callable[[Sealable], None]


def make_node(node: pb.Node, references: Sequence[ChunkId], keys: DomainKeys) -> Sealable:
    plaintext = message.encode(node)
    return Sealable(record.node_id(keys, references, plaintext), tuple(references), plaintext)


@dataclass(slots=True)
class _OpenNode:
    """An inner node that is still growing."""

    children: list[ChildInfo] = field(default_factory=list[ChildInfo])
    weight: int = 0


class Levels:
    """The inner nodes above the leaves of a tree: one open node a level."""

    def __init__(
        self, keys: DomainKeys, emit: Emit, may_end: Callable[[int, ChildInfo], bool]
    ) -> None:
        self._keys = keys
        self._emit = emit
        self._may_end = may_end
        self._open: list[_OpenNode] = []

    @property
    def is_empty(self) -> bool:
        return not self._open

    def add(self, child: ChildInfo, level: int = 1) -> None:
        """The next node of the level below."""
        if len(self._open) < level:
            self._open.append(_OpenNode())
        node = self._open[level - 1]
        node.children.append(child)
        node.weight += CHILD_WEIGHT + len(child.first_key)
        count = len(node.children)
        if (
            count >= INNER_MAX
            or (count > 1 and node.weight >= WEIGHT_MAX)
            or (count >= INNER_MIN and self._may_end(level, child))
        ):
            self._close(level)

    def finish(self) -> ChildInfo:
        """The root."""
        level = 1
        while True:
            children = self._open[level - 1].children
            if level == len(self._open) and len(children) == 1:
                return children[0]
            if children:
                self._close(level)
            level += 1

    def _close(self, level: int) -> None:
        children, self._open[level - 1] = self._open[level - 1].children, _OpenNode()
        if level > LEVEL_LIMIT:
            raise Invalid(f"a tree of more than {LEVEL_LIMIT} levels")
        table = sorted({child.chunk.raw for child in children})
        index = {raw: position for position, raw in enumerate(table)}
        node = pb.Node(level=level)
        for child in children:
            node.children.add(
                node=index[child.chunk.raw],
                first_key=child.first_key,
                count=child.count,
                size=child.size,
            )
        sealable = make_node(node, tuple(ChunkId(raw) for raw in table), self._keys)
        self._emit(sealable)
        count, size = sum(c.count for c in children), sum(c.size for c in children)
        self.add(ChildInfo(sealable.chunk, children[0].first_key, count, size), level + 1)
