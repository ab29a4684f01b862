"""A leaf of a snapshot's tree while it grows: entries whose chunks may get their names late, what
they weigh, and the node that they become (FORMAT.md section 6).

Where a leaf ends is decided here by weight and number, and by key in tree.py. Nothing here waits
for anything but the names of chunks.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from backit.engine.levels import WEIGHT_MAX
from backit.errors import Invalid
from backit.format.magic import (
    DIRECTORY_LIMIT,
    ENTRIES_LIMIT,
    ENTRY_LIMIT,
    INLINE_EXTENTS_LIMIT,
)
from backit.format.node import Node, data_size
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId

if TYPE_CHECKING:
    from collections.abc import Iterable

LEAF_MAX = ENTRIES_LIMIT
LEAF_EXTENTS_MAX = 4096

# What things weigh: never less than their encoding takes, but for 100 bytes an entry.
ENTRY_WEIGHT = 64
ATTRIBUTE_WEIGHT = 12
EXTENT_WEIGHT = 48
HOLE_WEIGHT = 24

OwnerNames = Callable[[int], str]


class Extent(NamedTuple):
    """A run of bytes in one chunk, the chunk by its id. A tuple: there is one for every file."""

    chunk: ChunkId
    offset: int
    length: int


# Extents that stand in the entry itself, or the root of their tree; and the content hash, if the
# entry has none yet.
Where = tuple[Sequence[Extent], ChunkId | None, bytes]


class Content(Protocol):
    """The data of a new entry, which is still on its way."""

    @property
    def count(self) -> int:
        """Extents that will stand in the entry itself: none if they have a tree of their own."""
        ...

    @property
    def burden(self) -> int:
        """Bytes of memory that it takes while its chunks have no names."""
        ...

    def where(self, *, wait: bool) -> Where | None:
        """Where it lies; None if that is not known yet, unless it is to be waited for."""
        ...


@dataclass(slots=True)
class NewEntry:
    """An entry that is not in the parent snapshot as it stands.

    `message` has everything but extents and extent_tree, which name chunks by index. With `content`
    those are not known yet, nor is the content hash of a large file. `is_plain` entries are known
    to have no attributes and no holes: to ask a message is dear.
    """

    directory: bytes
    message: pb.Entry
    extents: Sequence[Extent] = ()
    extent_tree: ChunkId | None = None
    content: Content | None = None
    is_plain: bool = field(default=False, compare=False)


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


@dataclass(slots=True)
class GrowingLeaf:
    """Entries that follow one another, and how many bytes of memory they hold, about."""

    entries: list[NewEntry] = field(default_factory=list[NewEntry])
    held: int = 0
    _weight: int = 0
    _extents: int = 0
    _named: int = 0

    def add(self, entry: NewEntry) -> bool:
        """Take one more; says whether the leaf is full then. Raises Invalid for one too large."""
        message, content = entry.message, entry.content
        count = len(entry.extents) if content is None else content.count
        weight = ENTRY_WEIGHT + len(entry.directory) + len(message.name) + len(message.target)
        weight += EXTENT_WEIGHT * count
        if not entry.is_plain:
            weight += HOLE_WEIGHT * len(message.holes)
            weight += sum(ATTRIBUTE_WEIGHT + len(a.name) + len(a.value) for a in message.attributes)
        if weight > EXTENT_WEIGHT * INLINE_EXTENTS_LIMIT:
            _check_fits(entry, weight, count)
        self.entries.append(entry)
        self._weight += weight
        self._extents += count
        self.held += weight if content is None else weight + content.burden
        return (
            self._weight >= WEIGHT_MAX
            or self._extents >= LEAF_EXTENTS_MAX
            or len(self.entries) >= LEAF_MAX
        )

    def name_chunks(self, *, wait: bool) -> bool:
        """Have the entries say where their data lie, as far as that is known. Whether all do."""
        for position in range(self._named, len(self.entries)):
            entry = self.entries[position]
            if entry.content is not None:
                where = entry.content.where(wait=wait)
                if where is None:
                    self._named = position
                    return False
                entry.extents, entry.extent_tree, content_hash = where
                if content_hash:
                    entry.message.content_hash = content_hash
                entry.content = None
        self._named = len(self.entries)
        return True

    def message(
        self, user_name: OwnerNames, group_name: OwnerNames
    ) -> tuple[pb.Node, tuple[ChunkId, ...], int]:
        """The node, its sorted reference table, and the bytes of data below. All must be named."""
        ids = {extent.chunk.raw for entry in self.entries for extent in entry.extents}
        ids.update(each.extent_tree.raw for each in self.entries if each.extent_tree is not None)
        table = sorted(ids)
        index = {raw: position for position, raw in enumerate(table)}
        node = pb.Node()
        directory: bytes | None = None
        part = pb.DirectoryPart()
        size = 0
        for new in self.entries:
            if new.directory != directory:
                directory = new.directory
                part = node.parts.add(directory=directory)
            entry = part.entries.add()
            entry.CopyFrom(new.message)
            for chunk, offset, length in new.extents:
                entry.extents.add(chunk=index[chunk.raw], offset=offset, length=length)
                size += length
            if new.extent_tree is not None:
                entry.extent_tree = index[new.extent_tree.raw] + 1
                size += data_size(entry)
        _add_owners(node.users, {new.message.uid for new in self.entries}, user_name)
        _add_owners(node.groups, {new.message.gid for new in self.entries}, group_name)
        return node, tuple(ChunkId(raw) for raw in table), size


def _add_owners(
    owners: MutableSequence[pb.OwnerName], ids: Iterable[int], name_of: OwnerNames
) -> None:
    named = ((number, name_of(number)) for number in sorted(ids))
    owners.extend(pb.OwnerName(id=number, name=name) for number, name in named if name)


def _check_fits(entry: NewEntry, weight: int, extents: int) -> None:
    if (
        weight > ENTRY_LIMIT
        or len(entry.directory) > DIRECTORY_LIMIT
        or extents > INLINE_EXTENTS_LIMIT
    ):
        raise Invalid(
            f"{shown_path(entry.directory, entry.message.name)[:200]!r}: an entry of {weight} "
            f"bytes with {extents} extents, below a path of {len(entry.directory)}"
        )


def shown_path(directory: bytes, name: bytes) -> bytes:
    return b"/" + directory.replace(b"\0", b"/") + name
