"""Search trees of entries: how they grow (FORMAT.md section 6). How they are read is walk.py's.

A `TreeBuilder` takes a snapshot's entries in key order and hands out finished nodes, bottom up.
Entries kept from the parent snapshot are named by the leaf they stand in; a run of kept entries
that is a whole leaf again is referred to, not encoded again, so an unchanged tree costs one
comparison a file and nothing else.

Nothing here knows where nodes are stored: finished ones go to `emit`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from backit.crypto import primitives
from backit.errors import Invalid
from backit.format import message, record
from backit.format.magic import (
    CHILDREN_LIMIT,
    DIRECTORY_LIMIT,
    ENTRIES_LIMIT,
    ENTRY_LIMIT,
    INLINE_EXTENTS_LIMIT,
    KIB,
    LEVEL_LIMIT,
)
from backit.format.node import Node, data_size, entry_key
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId

if TYPE_CHECKING:
    from backit.crypto.keys import DomainKeys

LEAF_MIN, LEAF_MAX = 25, ENTRIES_LIMIT
LEAF_EXTENTS_MAX = 4096
LEAF_THRESHOLD = 2**32 // 75
INNER_MIN, INNER_MAX = 32, CHILDREN_LIMIT
INNER_THRESHOLD = 2**32 // 96
# A node ends at this weight; an inner node not before it has two children.
WEIGHT_MAX = 512 * KIB

# What things weigh: never less than their encoding takes, but for 100 bytes an entry.
ENTRY_WEIGHT = CHILD_WEIGHT = 64
ATTRIBUTE_WEIGHT = 12
EXTENT_WEIGHT = 48
HOLE_WEIGHT = 24

_U32 = struct.Struct("<I")


class Extent(NamedTuple):
    """A run of bytes in one chunk, the chunk by its id. A tuple: there is one for every file."""

    chunk: ChunkId
    offset: int
    length: int


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


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the parent snapshot."""

    info: ChildInfo
    node: Node
    is_last: bool


@dataclass(slots=True)
class NewEntry:
    """An entry that is not in the parent snapshot as it stands.

    `message` has everything but extents and extent_tree, which name chunks by index.
    """

    directory: bytes
    message: pb.Entry
    extents: Sequence[Extent] = ()
    extent_tree: ChunkId | None = None
    # What it counts towards the weight of a leaf, without its extents (FORMAT.md section 6).
    weight: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        entry = self.message
        weight = ENTRY_WEIGHT + len(self.directory) + len(entry.name) + len(entry.target)
        if entry.holes:
            weight += HOLE_WEIGHT * len(entry.holes)
        if entry.attributes:
            weight += sum(ATTRIBUTE_WEIGHT + len(a.name) + len(a.value) for a in entry.attributes)
        self.weight = weight


Emit = Callable[[Sealable], None]
# Told of every leaf in order, whether encoded now or taken over as it is.
OnLeaf = Callable[[ChildInfo, "Sealable | Leaf"], None]
OwnerNames = Callable[[int], str]


def detach(leaf: Node, directory: bytes, entry: pb.Entry) -> NewEntry:
    """An entry of a stored leaf, with its chunks by id again."""
    copy = pb.Entry()
    copy.CopyFrom(entry)
    table = leaf.references
    extents = tuple(Extent(table[e.chunk], e.offset, e.length) for e in entry.extents)
    tree = table[entry.extent_tree - 1] if entry.extent_tree else None
    del copy.extents[:]
    copy.extent_tree = 0
    return NewEntry(directory, copy, extents, tree)


def make_node(node: pb.Node, references: Sequence[ChunkId], keys: DomainKeys) -> Sealable:
    plaintext = message.encode(node)
    return Sealable(record.node_id(keys, references, plaintext), tuple(references), plaintext)


class TreeBuilder:
    """Takes entries in key order, hands out nodes bottom up. Its memory grows with their levels."""

    def __init__(
        self,
        keys: DomainKeys,
        emit: Emit,
        *,
        user_name: OwnerNames = lambda _uid: "",
        group_name: OwnerNames = lambda _gid: "",
        on_leaf: OnLeaf = lambda _info, _leaf: None,
    ) -> None:
        self._keys = keys
        self._emit = emit
        self._on_leaf = on_leaf
        self._user_name = user_name
        self._group_name = group_name
        self._pending: list[NewEntry] = []
        self._weight = 0
        self._extents = 0
        # Directory and name of the newest entry: a tree out of order could never be read again.
        self._last = (b"", b"")
        # A run of kept entries that may become a whole leaf again.
        self._run: Leaf | None = None
        self._run_flat: list[tuple[bytes, pb.Entry]] = []
        self._run_kept = 0
        boundary_key = keys.boundary_key
        self._levels = Levels(
            keys,
            emit,
            lambda level, child: _may_end(boundary_key, level, child.first_key, INNER_THRESHOLD),
        )

    def add(self, entry: NewEntry) -> None:
        """The next entry in key order. Raises Invalid if it is not, or larger than one may be."""
        if self._run is not None:
            self._break_run()
        self._append(entry)

    def keep(self, leaf: Leaf, flat: list[tuple[bytes, pb.Entry]], index: int) -> None:
        """The next entry is `flat[index]` of this leaf of the parent, unchanged.

        `flat` is the list of the leaf's (directory, entry), the same object for the same leaf.
        """
        if self._run is leaf and index == self._run_kept:
            self._run_kept += 1
        else:
            if self._run is not None:
                self._break_run()
            if index or self._pending or leaf.is_last:
                # Not at the start of a leaf: its end may lie elsewhere now.
                self._append(detach(leaf.node, *flat[index]))
                return
            key = flat[0][0], flat[0][1].name
            if key <= self._last:
                raise self._out_of_order(key)
            self._run, self._run_flat, self._run_kept = leaf, flat, 1
        if self._run_kept == len(flat):
            self._run = None
            self._last = (flat[-1][0], flat[-1][1].name)
            self._on_leaf(leaf.info, leaf)
            self._levels.add(leaf.info)

    def finish(self) -> ChildInfo:
        """The root. No more entries may follow."""
        if self._run is not None:
            self._break_run()
        if self._pending or self._levels.is_empty:
            self._flush()
        return self._levels.finish()

    def _break_run(self) -> None:
        leaf, flat, kept = self._run, self._run_flat, self._run_kept
        self._run = None
        if leaf is not None:
            for directory, entry in flat[:kept]:
                self._append(detach(leaf.node, directory, entry))

    def _append(self, entry: NewEntry) -> None:
        key = entry.directory, entry.message.name
        if key <= self._last:
            raise self._out_of_order(key)
        self._last = key
        count = len(entry.extents)
        weight = entry.weight + EXTENT_WEIGHT * count
        if weight > EXTENT_WEIGHT * INLINE_EXTENTS_LIMIT:
            _check_fits(entry, weight)
        pending = self._pending
        pending.append(entry)
        self._weight = weight = self._weight + weight
        self._extents = extents = self._extents + count
        if (
            weight >= WEIGHT_MAX
            or extents >= LEAF_EXTENTS_MAX
            or (
                (count := len(pending)) >= LEAF_MIN
                and (
                    count >= LEAF_MAX
                    or _may_end(self._keys.boundary_key, 0, entry_key(*key), LEAF_THRESHOLD)
                )
            )
        ):
            self._flush()

    def _out_of_order(self, key: tuple[bytes, bytes]) -> Invalid:
        return Invalid(f"{_path(*key)!r} comes after {_path(*self._last)!r}")

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self._weight = self._extents = 0
        node, references, size = _leaf_message(pending, self._user_name, self._group_name)
        sealable = make_node(node, references, self._keys)
        self._emit(sealable)
        first = entry_key(pending[0].directory, pending[0].message.name) if pending else b""
        info = ChildInfo(sealable.chunk, first, len(pending), size)
        self._on_leaf(info, sealable)
        self._levels.add(info)


def _leaf_message(
    pending: Sequence[NewEntry], user_name: OwnerNames, group_name: OwnerNames
) -> tuple[pb.Node, tuple[ChunkId, ...], int]:
    """The leaf, its sorted reference table, and the bytes of content below."""
    ids = {extent.chunk.raw for entry in pending for extent in entry.extents}
    ids.update(entry.extent_tree.raw for entry in pending if entry.extent_tree is not None)
    table = sorted(ids)
    index = {raw: position for position, raw in enumerate(table)}
    node = pb.Node()
    part: pb.DirectoryPart | None = None
    size = 0
    for new in pending:
        if part is None or part.directory != new.directory:
            part = node.parts.add(directory=new.directory)
        entry = part.entries.add()
        entry.CopyFrom(new.message)
        for extent in new.extents:
            chunk, offset, length = extent
            entry.extents.add(chunk=index[chunk.raw], offset=offset, length=length)
            size += length
        if new.extent_tree is not None:
            entry.extent_tree = index[new.extent_tree.raw] + 1
            size += data_size(entry)
    _add_owners(node.users, {new.message.uid for new in pending}, user_name)
    _add_owners(node.groups, {new.message.gid for new in pending}, group_name)
    return node, tuple(ChunkId(raw) for raw in table), size


def _add_owners(owners: MutableSequence[pb.OwnerName], ids: set[int], name_of: OwnerNames) -> None:
    named = ((number, name_of(number)) for number in sorted(ids))
    owners.extend(pb.OwnerName(id=number, name=name) for number, name in named if name)


def _check_fits(entry: NewEntry, weight: int) -> None:
    if (
        weight > ENTRY_LIMIT
        or len(entry.directory) > DIRECTORY_LIMIT
        or len(entry.extents) > INLINE_EXTENTS_LIMIT
    ):
        raise Invalid(
            f"{_path(entry.directory, entry.message.name)[:200]!r}: an entry of {weight} bytes "
            f"with {len(entry.extents)} extents, below a path of {len(entry.directory)}"
        )


def _path(directory: bytes, name: bytes) -> bytes:
    return b"/" + directory.replace(b"\0", b"/") + name


def _may_end(boundary_key: bytes, level: int, key: bytes, threshold: int) -> bool:
    """Whether a node of this level may end after the item with this key."""
    found = primitives.keyed_digest(boundary_key, bytes([level]) + key)
    return bool(_U32.unpack_from(found)[0] < threshold)


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
