"""What is at hand of a tree in memory, and how a question is asked until all it needs is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from backitfs.view import NotLoaded, Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backit.engine.walk import Load
    from backit.ids import ChunkId

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Hand:
    """Nodes that have been brought, by `load`; `wanted` is each one that was asked for."""

    load: Load
    opened: dict[ChunkId, Opened] = field(default_factory=dict["ChunkId", Opened])
    wanted: list[ChunkId] = field(default_factory=list["ChunkId"])
    following: list[Sequence[ChunkId]] = field(default_factory=list["Sequence[ChunkId]"])

    def nodes(self, chunk: ChunkId) -> Opened | None:
        return self.opened.get(chunk)

    def ask(self, question: Callable[P, T], *about: P.args, **more: P.kwargs) -> T:
        while True:
            try:
                return question(*about, **more)
            except NotLoaded as missing:
                self.wanted.append(missing.wanted)
                self.following.append(missing.following)
                (node,) = self.load([missing.wanted])
                self.opened[missing.wanted] = Opened.of(node)
