"""Where a growing tree sends its chunks: the port between those who read files and those who send.

`Courier` is the real one: it hands everything on to a `Sender` in another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.crypto.primitives import Buffer
    from backit.engine.levels import Sealable
    from backit.ids import ChunkId

Value_co = TypeVar("Value_co", covariant=True)


class Promise(Protocol[Value_co]):
    """Something that will be known later; a Future is one."""

    def done(self) -> bool: ...

    def result(self) -> Value_co:
        """Wait for it. Raises what kept it from coming."""
        ...


class Outlet(Protocol):
    """Takes chunks in an order in which none comes before what it refers to."""

    def data(self, parts: Sequence[Buffer], size: int) -> Promise[ChunkId]:
        """Submit one data chunk, the parts one after another. May wait for room.

        The parts may be written over once this returns.
        """
        ...

    def node(self, node: Sealable) -> None:
        """Submit a finished node."""
        ...

    def is_live(self, chunk: ChunkId) -> Promise[bool]:
        """Ask whether the appliance has a chunk; it then keeps it until the lease ends."""
        ...

    def check(self) -> None:
        """Raises what has gone wrong in the background, if anything has."""
        ...
