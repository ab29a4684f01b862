"""Which bundles are mostly dead, so that their living files are worth moving to new ones.

A bundle whose files change one by one keeps the dead ones on the appliance. What is said here is
advice to the next backup; a wrong answer costs space, never data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.format.magic import LARGE_FILE, MIB
from backit.format.node import Node, entries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backit.ids import ChunkId

# A bundle is worn when less than this part of it is alive.
ALIVE_MIN = 1 / 3
# What lives is counted again once more than this part of the tree has died since the last time:
# it takes a fifth of the time of a backup that finds little new.
DUE = 1 / 100
# How much a run may move: the larger of this and a tenth of what the last run stored.
BUDGET_MIN = 64 * MIB


def died_since(before: int, after: int, changed: int) -> int:
    """Bytes that went from a tree of `before` bytes when `changed` of `after` bytes are new.

    About: a file that has several names changes once.
    """
    return max(before - max(after - changed, 0), 0)


def is_due(died: int, size: int) -> bool:
    """Whether to count what lives, in a tree of that size."""
    return died > size * DUE


class Wear:
    """Counts the living bytes of each bundle of one tree."""

    def __init__(self) -> None:
        self._alive: dict[ChunkId, int] = {}
        self._length: dict[ChunkId, int] = {}

    def count(self, leaf: Node) -> None:
        """Take in the files of a leaf of the tree."""
        alive, reached = [0] * len(leaf.references), [0] * len(leaf.references)
        for _directory, entry in entries(leaf):
            extents = entry.extents
            # Not the file's size: what a sparse file holds besides its holes may lie in a bundle.
            if len(extents) == 1 and extents[0].length < LARGE_FILE:
                extent = extents[0]
                index, length = extent.chunk, extent.length
                alive[index] += length
                reached[index] = max(reached[index], extent.offset + length)
        for chunk, here, length in zip(leaf.references, alive, reached, strict=True):
            if here:
                self._alive[chunk] = self._alive.get(chunk, 0) + here
                self.reaches(chunk, length)

    def reaches(self, chunk: ChunkId, length: int) -> None:
        """A bundle is known to be at least so long; bundles without living files do not matter."""
        if chunk in self._alive:
            self._length[chunk] = max(self._length.get(chunk, 0), length)

    def worn(self, stored: int) -> list[ChunkId]:
        """The most worn bundles, as many as may be moved after a run that stored so many bytes."""
        budget = max(BUDGET_MIN, stored // 10)
        chosen: list[ChunkId] = []
        for share, chunk in sorted(self._shares()):
            budget -= self._alive[chunk]
            if share >= ALIVE_MIN or budget < 0:
                break
            chosen.append(chunk)
        return chosen

    def _shares(self) -> Iterable[tuple[float, ChunkId]]:
        return ((alive / self._length[chunk], chunk) for chunk, alive in self._alive.items())
