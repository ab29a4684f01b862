"""The scan of a tree merged with the parent snapshot's leaves: what is unchanged, what is new.

Both sides come in key order, so this is one pass and holds one leaf. The comparison is the hot loop
of an unattended run over an unchanged disk: per file it reads a few fields of a message and makes
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.engine.file_types import FORMAT_MASK, TYPE_OF
from backit.engine.tree import Leaf
from backit.format.node import TIME_OFFSET, entries
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from os import stat_result

Flat = list[tuple[bytes, pb.Entry]]

_REGULAR, _DIRECTORY = pb.FILE_TYPE_REGULAR, pb.FILE_TYPE_DIRECTORY

# Where an entry of the parent snapshot stands: its leaf, the leaf's entries, the position among
# them.
Parent = tuple[Leaf, Flat, int]


# A name and what lstat says of it. A plain tuple: there are millions.
Scanned = tuple[bytes, "stat_result"]


def is_unchanged(entry: pb.Entry, found: stat_result) -> bool:
    """Whether content and metadata can be taken over without looking at the file.

    ctime changes with every change of content, attributes, ACLs and flags; inode and mode guard
    against restored clocks and replaced files.
    """
    mode = found.st_mode
    kind = TYPE_OF.get(mode & FORMAT_MASK)
    return (
        entry.ctime == found.st_ctime_ns + TIME_OFFSET
        and entry.mtime == found.st_mtime_ns + TIME_OFFSET
        and entry.inode == found.st_ino
        and entry.mode == mode & 0o7777
        and entry.type == kind
        and (kind != _REGULAR or entry.size == found.st_size)
        and entry.uid == found.st_uid
        and entry.gid == found.st_gid
        and (kind == _DIRECTORY or (entry.links or 1) == found.st_nlink)
        and not entry.inconsistent
    )


class ParentCursor:
    """Walks the parent's leaves forward, directory by directory, name by name."""

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        self._leaves: Iterator[Leaf] = iter(leaves)
        self._leaf: Leaf | None = None
        self._flat: Flat = []
        self._index = 0
        # Whether nothing of the parent lies ahead.
        self.is_done = False
        self._next_leaf()

    def unchanged(
        self, directory: bytes, scanned: Sequence[Scanned], start: int
    ) -> tuple[Parent, int] | None:
        """How many of the scanned entries from `start` on stand next in the parent, unchanged, in
        one leaf, and where; None if the first does not. On most runs nearly all do: one call for
        them, not three for each.
        """
        while self._index == len(self._flat):
            if self._leaf is None:
                return None
            self._next_leaf()
        leaf, flat, index = self._leaf, self._flat, self._index
        ahead = flat[index:]
        count = 0
        for (at_directory, entry), (name, found) in zip(
            ahead, scanned[start : start + len(ahead)], strict=False
        ):
            if at_directory != directory or entry.name != name or not is_unchanged(entry, found):
                break
            count += 1
        if leaf is None or not count:
            return None
        self._index = index + count
        return (leaf, flat, index), count

    def find(self, directory: bytes, name: bytes) -> Parent | None:
        """The entry with this key, or None. Keys must be asked for in ascending order."""
        flat, index = self._flat, self._index
        if index < len(flat):
            at_directory, entry = flat[index]
            if at_directory == directory and entry.name == name and self._leaf is not None:
                self._index = index + 1
                return self._leaf, flat, index
        return self._search(directory, name)

    def _search(self, directory: bytes, name: bytes) -> Parent | None:
        """Find what does not stand right at the front."""
        while self._leaf is not None:
            flat = self._flat
            for index in range(self._index, len(flat)):
                at_directory, entry = flat[index]
                if at_directory == directory:
                    at_name = entry.name
                    if at_name == name:
                        self._index = index + 1
                        return self._leaf, flat, index
                    if at_name > name:
                        self._index = index
                        return None
                elif at_directory > directory:
                    self._index = index
                    return None
            self._next_leaf()
        return None

    def _next_leaf(self) -> None:
        self._leaf = next(self._leaves, None)
        self.is_done = self._leaf is None
        self._flat = list(entries(self._leaf.node)) if self._leaf is not None else []
        self._index = 0
