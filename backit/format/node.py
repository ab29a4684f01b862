"""Nodes of the search trees: entries of a snapshot, extents of a large file (FORMAT.md section 6).

`decode` is the border: what passes it has sorted distinct keys, names that cannot leave a
directory, and references that are exactly those declared. Nobody behind it checks again. Whether a
node is what its parent says of it, only a walk can tell: backit.engine.walk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from backit.errors import Damaged
from backit.format import message
from backit.format.magic import (
    CHILDREN_LIMIT,
    DIRECTORY_LIMIT,
    ENTRIES_LIMIT,
    EXTENTS_LIMIT,
    INLINE_EXTENTS_LIMIT,
    LEVEL_LIMIT,
    NAME_LIMIT,
    PLAINTEXT_LIMIT,
    Kind,
)
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backit.format.record import Plain
    from backit.ids import ChunkId

# Nanoseconds between 1900-01-01 and 1970-01-01.
TIME_OFFSET = 2_208_988_800 * 1_000_000_000
TIME_LIMIT = 2**64 - 1

# Names as _check_name wants them, a zero byte behind each. In one go: of a path with 100,000
# components every directory below is checked from the root. No possessive quantifiers: beside a
# lookahead those of Python 3.11.2, which Debian 12 has, let ".." through.
DIRECTORY = re.compile(rb"(?:(?!\.{1,2}\0)[^/\0]{1,%d}\0)*" % NAME_LIMIT)

# FORMAT.md section 6.
FLAGS_MASK = (
    (0x20 | 0x10 | 0x40 | 0x80 | 0x8 | 0x10000 | 0x20000)
    | (0x800000 | 0x4 | 0x400)
    | (0x4000 | 0x8000 | 0x20000000)
)


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded node with the ids that its indexes mean."""

    message: pb.Node
    references: tuple[ChunkId, ...]

    @property
    def is_leaf(self) -> bool:
        return self.message.level == 0


def decode(plain: Plain, chunk: ChunkId) -> Node:
    """Raises Damaged, naming the chunk, for anything that FORMAT.md does not allow."""
    try:
        return _decode(plain)
    except Damaged as error:
        raise Damaged(f"node {chunk}: {error}") from None


def encode_time(nanoseconds: int) -> int:
    """Unix nanoseconds as an entry stores them, moved to the nearest end if outside."""
    stored = nanoseconds + TIME_OFFSET
    return stored if 0 <= stored <= TIME_LIMIT else min(max(stored, 0), TIME_LIMIT)


def decode_time(stored: int) -> int:
    """An entry's time as Unix nanoseconds."""
    return stored - TIME_OFFSET


def entry_key(directory: bytes, name: bytes) -> bytes:
    """The sort key; `directory` is components, each followed by a zero byte."""
    return b"".join((directory, b"\0", name))


def split_key(key: bytes) -> tuple[bytes, bytes]:
    """Undo entry_key."""
    if key.startswith(b"\0"):
        return b"", key[1:]
    head, _, name = key.rpartition(b"\0\0")
    return head + b"\0", name


def entries(node: Node) -> Iterator[tuple[bytes, pb.Entry]]:
    """(directory, entry) of an entry leaf, in key order."""
    for part in node.message.parts:
        directory = part.directory
        for entry in part.entries:
            yield directory, entry


def first_key(node: Node) -> bytes:
    """The smallest key in a leaf, or below an inner node as it says itself; empty where none is."""
    if node.message.parts:
        part = node.message.parts[0]
        return entry_key(part.directory, part.entries[0].name)
    return node.message.children[0].first_key if node.message.children else b""


def last_key(node: Node) -> bytes:
    """The greatest key that stands in the node itself; empty where none does."""
    if node.message.parts:
        part = node.message.parts[-1]
        return entry_key(part.directory, part.entries[-1].name)
    return node.message.children[-1].first_key if node.message.children else b""


def data_size(entry: pb.Entry) -> int:
    """Bytes of a file's data: its length without its holes."""
    if not entry.holes:
        return entry.size
    return entry.size - sum(hole.length for hole in entry.holes)


def _decode(plain: Plain) -> Node:
    if plain.kind is not Kind.NODE:
        raise Damaged("a data chunk where a node should be")
    node = message.decode(pb.Node, bytes(plain.plaintext))
    used = bytearray(len(plain.references))
    try:
        if node.level:
            _check_inner(node, used)
        elif node.parts:
            _check_entry_leaf(node, used)
        else:
            _check_extent_leaf(node, used)
    except IndexError:
        raise Damaged("an index is outside of the reference table") from None
    if not all(used):
        raise Damaged("the reference table declares what is not used")
    return Node(node, plain.references)


def _check_inner(node: pb.Node, used: bytearray) -> None:
    if node.level > LEVEL_LIMIT or node.parts or node.extents or node.users or node.groups:
        raise Damaged("an inner node holds what only leaves hold, or its level is absurd")
    if not 0 < len(node.children) <= CHILDREN_LIMIT:
        raise Damaged(f"an inner node has {len(node.children)} children")
    previous: bytes | None = None
    of_extents = not node.children[0].first_key
    for child in node.children:
        used[child.node] = 1
        if of_extents:
            if child.first_key:
                raise Damaged("an inner node mixes entries and extents")
        elif previous is not None and child.first_key <= previous:
            raise Damaged("an inner node's keys are not ascending")
        previous = child.first_key


def _check_extent_leaf(node: pb.Node, used: bytearray) -> None:
    """Of extents, or, without any, the tree of no entries."""
    if node.children or node.users or node.groups:
        raise Damaged("a leaf holds what it may not hold")
    if len(node.extents) > EXTENTS_LIMIT:
        raise Damaged(f"a leaf has {len(node.extents)} extents")
    _check_extents(node.extents, used)


def _check_entry_leaf(node: pb.Node, used: bytearray) -> None:
    if node.children or node.extents:
        raise Damaged("a leaf of entries holds children or extents as well")
    count = 0
    previous: bytes | None = None
    for part in node.parts:
        directory = part.directory
        _check_directory(directory)
        if not part.entries or (previous is not None and directory <= previous):
            raise Damaged("a leaf's directories are empty or not ascending")
        previous = directory
        count += len(part.entries)
        if count > ENTRIES_LIMIT:
            raise Damaged(f"a leaf has more than {ENTRIES_LIMIT} entries")
        _check_part(part, used)
    for owners in (node.users, node.groups):
        if any(left.id >= right.id for left, right in pairwise(owners)):
            raise Damaged("a leaf's owners are not ascending")
        if any(not owner.name or "\0" in owner.name for owner in owners):
            raise Damaged("a leaf's owner has no name, or a zero byte in it")


def _check_part(part: pb.DirectoryPart, used: bytearray) -> None:
    previous = b""
    for entry in part.entries:
        name = entry.name
        if name <= previous:
            raise Damaged(f"the names of a directory are not ascending at {name[:80]!r}")
        previous = name
        _check_name(name)
        try:
            _check_entry(entry, used)
        except Damaged as error:
            raise Damaged(f"{name!r}: {error}") from None


def _check_directory(directory: bytes) -> None:
    if len(directory) > DIRECTORY_LIMIT or DIRECTORY.fullmatch(directory) is None:
        raise Damaged(f"{directory[:80]!r} is not a directory")


def _check_name(name: bytes) -> None:
    if not name or len(name) > NAME_LIMIT or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise Damaged(f"{name[:80]!r} is not a name")


def _check_entry(entry: pb.Entry, used: bytearray) -> None:
    kind = entry.type
    if kind == pb.FILE_TYPE_REGULAR:
        _check_content(entry, used)
    elif not pb.FILE_TYPE_REGULAR < kind <= pb.FILE_TYPE_BLOCK:
        raise Damaged(f"of unknown type {kind}")
    elif _has_content(entry):
        raise Damaged("not a regular file, but has content")
    target = entry.target
    if bool(target) != (kind == pb.FILE_TYPE_SYMLINK) or b"\0" in target:
        raise Damaged("a target without a symbolic link, the other way round, or with a zero byte")
    if entry.mode & ~0o7777 or entry.flags & ~FLAGS_MASK:
        raise Damaged("mode or flags outside of their mask")
    if entry.links or entry.link_device:
        _check_links(entry)
    if (entry.device_major or entry.device_minor) and kind < pb.FILE_TYPE_CHARACTER:
        raise Damaged("a device number without a device")
    if entry.attributes:
        names = [attribute.name for attribute in entry.attributes]
        if any(not name or b"\0" in name for name in names) or names != sorted(set(names)):
            raise Damaged("attributes are not ascending, or without a name")


def _has_content(entry: pb.Entry) -> bool:
    return bool(
        entry.size
        or entry.content_hash
        or entry.extents
        or entry.extent_tree
        or entry.holes
        or entry.inconsistent
    )


def _check_links(entry: pb.Entry) -> None:
    if entry.links < 2 or entry.type == pb.FILE_TYPE_DIRECTORY:
        raise Damaged(f"of {entry.links} hard links")


def _check_content(entry: pb.Entry, used: bytearray) -> None:
    if entry.holes:
        _check_holes(entry)
    size = data_size(entry)
    if entry.extent_tree:
        used[entry.extent_tree - 1] = 1
        if entry.extents or not size:
            raise Damaged("an extent tree, and extents or no data")
    elif len(entry.extents) > INLINE_EXTENTS_LIMIT or _check_extents(entry.extents, used) != size:
        raise Damaged(f"extents are too many, or do not add up to its {size} bytes of data")
    if len(entry.content_hash) != (32 if size else 0):
        raise Damaged(f"a content hash of {len(entry.content_hash)} bytes")


def _check_holes(entry: pb.Entry) -> None:
    end = -1
    for hole in entry.holes:
        if hole.offset <= end or not hole.length:
            raise Damaged("holes touch, are empty or are not ascending")
        end = hole.offset + hole.length
    if end > entry.size:
        raise Damaged("a hole lies behind the end")


def _check_extents(extents: Sequence[pb.Extent], used: bytearray) -> int:
    """The bytes they hold together."""
    total = 0
    for extent in extents:
        used[extent.chunk] = 1
        length = extent.length
        if not length or extent.offset + length > PLAINTEXT_LIMIT:
            raise Damaged("an extent is empty, or longer than a chunk")
        total += length
    return total
