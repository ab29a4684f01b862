"""What changed between two snapshots: both trees walked at once, equal subtrees never opened.

Trees of different domains share no ids, so all of both is read; their content hashes are made with
different keys and cannot be compared, so there sizes and times decide.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from backit.engine.walk import Found, Load, Subtree
from backit.format.magic import LEVEL_LIMIT
from backit.format.node import entries, entry_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backit.format.v1 import tree_pb2 as pb
    from backit.ids import ChunkId


class ChangeKind(Enum):
    """How an entry differs: content, or only what is said about it."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs; `before` and `after` are None where it does not exist."""

    kind: ChangeKind
    path: bytes
    before: pb.Entry | None
    after: pb.Entry | None


def changes(
    old: ChunkId, new: ChunkId, load_old: Load, load_new: Load, *, one_domain: bool = True
) -> Iterator[Change]:
    """Every difference, in key order. Raises Damaged for a tree that is not in order."""
    left, right = _Cursor(old, load_old), _Cursor(new, load_new)
    while True:
        _skip_equal(left, right)
        before, after = left.entry, right.entry
        if before is None and after is None:
            return
        if after is None or (before is not None and left.key < right.key):
            left.advance()
            yield _removed(before)
        elif before is None or right.key < left.key:
            right.advance()
            yield Change(ChangeKind.ADDED, after.path, None, after.entry)
        else:
            left.advance()
            right.advance()
            kind = compare(before.entry, after.entry, one_domain=one_domain)
            if kind is not None:
                yield Change(kind, after.path, before.entry, after.entry)


def compare(before: pb.Entry, after: pb.Entry, *, one_domain: bool = True) -> ChangeKind | None:
    """How two entries of one path differ; inode, ctime and where the content is do not count."""
    if (
        before.type != after.type
        or before.size != after.size
        or _other_content(before, after, one_domain=one_domain)
        or before.target != after.target
        or (before.device_major, before.device_minor) != (after.device_major, after.device_minor)
        or list(before.holes) != list(after.holes)
    ):
        return ChangeKind.MODIFIED
    if (
        (before.mode, before.uid, before.gid, before.mtime, before.flags, before.links)
        != (after.mode, after.uid, after.gid, after.mtime, after.flags, after.links)
    ) or list(before.attributes) != list(after.attributes):
        return ChangeKind.METADATA
    return None


def _other_content(before: pb.Entry, after: pb.Entry, *, one_domain: bool) -> bool:
    if one_domain:
        return before.content_hash != after.content_hash
    return bool(before.content_hash) and before.mtime != after.mtime


def _removed(before: Found | None) -> Change:
    if before is None:
        raise ValueError("nothing was removed")
    return Change(ChangeKind.REMOVED, before.path, before.entry, None)


def _skip_equal(left: _Cursor, right: _Cursor) -> None:
    """Bring both to an entry (or the end), dropping subtrees that both have."""
    while True:
        one, other = left.subtree, right.subtree
        if one is not None and other is not None and one.chunk == other.chunk:
            left.advance()
            right.advance()
        elif one is not None and not right.is_before(one):
            left.open()
        elif other is not None and not left.is_before(other):
            right.open()
        else:
            return


class _Cursor:
    """A tree as a sequence of entries and unopened subtrees."""

    def __init__(self, root: ChunkId, load: Load) -> None:
        self._load = load
        self._items: deque[tuple[bytes, Found | Subtree]] = deque([(b"", Subtree(root))])

    @property
    def key(self) -> bytes:
        return self._items[0][0]

    @property
    def entry(self) -> Found | None:
        head = self._items[0][1] if self._items else None
        return head if isinstance(head, Found) else None

    @property
    def subtree(self) -> Subtree | None:
        head = self._items[0][1] if self._items else None
        return head if isinstance(head, Subtree) else None

    def is_before(self, subtree: Subtree) -> bool:
        """Whether the front is to be dealt with before the other side's subtree is opened.

        Of two subtrees with the same first key the higher one may hold the other.
        """
        if not self._items:
            return False
        if self.key != subtree.first_key:
            return self.key < subtree.first_key
        front = self.subtree
        return front is not None and _height(front) > _height(subtree)

    def advance(self) -> None:
        self._items.popleft()

    def open(self) -> None:
        """Replace the subtree at the front by what is in it."""
        subtree = self.subtree
        if subtree is None:
            raise TypeError("only a subtree can be opened")
        self.advance()
        (node,) = self._load([subtree.chunk])
        subtree.check(node)
        below: list[tuple[bytes, Found | Subtree]]
        if node.is_leaf:
            below = [
                (entry_key(directory, entry.name), Found(directory, entry, node))
                for directory, entry in entries(node)
            ]
        else:
            below = [(child.first_key, child) for child in subtree.below(node)]
        self._items.extendleft(reversed(below))


def _height(subtree: Subtree) -> int:
    """A root may be of any level."""
    return LEVEL_LIMIT + 1 if subtree.level is None else subtree.level
