"""An outlet that keeps everything on a shelf at once, and tells when it is told to.

For tests of what reads and places files, where answers must come at exact moments. The real
outlets are tested in test_sender.py and test_backup.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from backit.engine.levels import Sealable
from backit.ids import ChunkId
from tests.backit.client.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.crypto.primitives import Buffer
    from backit.format.node import Node

Value = TypeVar("Value")


class Slip(Generic[Value]):
    """A promise; it is kept when the outlet says so, or when somebody waits for it."""

    def __init__(self, paper: Paper, value: Value) -> None:
        self._paper = paper
        self._value = value
        self._is_kept = not paper.is_late

    def done(self) -> bool:
        return self._is_kept

    def keep(self) -> None:
        self._is_kept = True

    def result(self) -> Value:
        if self._paper.failure is not None:
            raise self._paper.failure
        if not self._is_kept:
            self._paper.waits += 1
            self._is_kept = True
        return self._value


@dataclass
class Paper:
    """What was submitted, and the levers."""

    shelf: Shelf = field(default_factory=Shelf)
    # What the appliance says it has when it is asked.
    alive: set[ChunkId] = field(default_factory=set[ChunkId])
    chunks: list[bytes] = field(default_factory=list[bytes])
    nodes: list[Sealable] = field(default_factory=list[Sealable])
    asked: list[ChunkId] = field(default_factory=list[ChunkId])
    slips: list[Slip[ChunkId] | Slip[bool]] = field(
        default_factory=list["Slip[ChunkId] | Slip[bool]"]
    )
    # Promises are kept only by keep_all, and by whoever waits; and how many had to be waited for.
    is_late: bool = False
    waits: int = 0
    failure: Exception | None = None

    def data(self, parts: Sequence[Buffer], size: int) -> Slip[ChunkId]:
        self.check()
        content = b"".join(parts)
        assert len(content) == size
        self.chunks.append(content)
        slip = Slip(self, self.shelf.put(content))
        self.slips.append(slip)
        return slip

    def node(self, node: Sealable) -> None:
        self.check()
        self.nodes.append(node)
        self.shelf.emit(node)

    def is_live(self, chunk: ChunkId) -> Slip[bool]:
        self.asked.append(chunk)
        slip = Slip(self, chunk in self.alive)
        self.slips.append(slip)
        return slip

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def keep_all(self) -> None:
        for slip in self.slips:
            slip.keep()

    def sound_nodes(self) -> list[Node]:
        """Every node as a reader decodes it. Raises Damaged for one that nobody could read."""
        return list(self.shelf.load([each.chunk for each in self.nodes]))
