"""An outlet in the reading process: hands chunks to the process that sends, through the arena.

One thread, no locks: answers are read when somebody looks for one. See frames.py for what is said.
"""

from __future__ import annotations

import os
import pickle
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from backit.client.arena import Arena, Stretches
from backit.client.frames import (
    DOWN,
    Down,
    Frame,
    Note,
    Up,
    pack_frame,
    unpack_notes,
    write_all,
)
from backit.errors import Unavailable
from backit.ids import ChunkId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.client.growth import Counts
    from backit.crypto.primitives import Buffer
    from backit.engine.levels import Sealable

Value = TypeVar("Value")

PROGRESS_SECONDS = 0.1
READ_BYTES = DOWN.size * 1024


class Awaited(Generic[Value]):
    """A promise that is kept when the courier next reads its mail."""

    __slots__ = ("_courier", "value")

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self.value: Value | None = None

    def done(self) -> bool:
        if self.value is None:
            self._courier.look()
        return self.value is not None

    def result(self) -> Value:
        while self.value is None:
            self._courier.wait()
        return self.value


class Courier:
    """The outlet; `up` and `down` are the pipes' descriptors."""

    def __init__(self, arena: Arena, up: int, down: int, counts: Counts) -> None:
        self._arena = arena
        self._up = up
        self._down = down
        self._counts = counts
        self._stretches = Stretches(arena.size)
        self._number = 0
        self._names: dict[int, Awaited[ChunkId]] = {}
        self._answers: dict[int, Awaited[bool]] = {}
        self._rest = b""
        self._last_progress = 0.0
        self.committed: Note | None = None
        os.set_blocking(down, False)

    def data(self, parts: Sequence[Buffer], size: int) -> Awaited[ChunkId]:
        """Copy a chunk into the arena, once there is room."""
        self.look()
        while (start := self._stretches.take(size)) is None:
            self.wait()
        view, at = self._arena.stretch(start, size), 0
        for part in parts:
            view[at : at + len(part)] = part
            at += len(part)
        promise = self._names[self._say(Up.DATA, start=start, length=size)] = Awaited(self)
        return promise

    def node(self, node: Sealable) -> None:
        self._say(Up.NODE, pickle.dumps(node))

    def is_live(self, chunk: ChunkId) -> Awaited[bool]:
        promise = self._answers[self._say(Up.LIVE, chunk.raw)] = Awaited(self)
        return promise

    def check(self) -> None:
        """Read what has come, and tell from time to time how far we are."""
        self.look()
        now = time.monotonic()
        if now - self._last_progress > PROGRESS_SECONDS:
            self._last_progress = now
            self._say(Up.PROGRESS, pickle.dumps(self._counts))

    def say(self, kind: Up, value: object) -> None:
        """Send a message of its own kind."""
        self._say(kind, pickle.dumps(value))

    def look(self) -> None:
        """Take in the answers that have come."""
        try:
            data = os.read(self._down, READ_BYTES)
        except BlockingIOError:
            return
        self._take_in(data)

    def wait(self) -> None:
        """Wait for an answer. Raises Unavailable if none will come."""
        os.set_blocking(self._down, True)
        try:
            data = os.read(self._down, READ_BYTES)
        finally:
            os.set_blocking(self._down, False)
        self._take_in(data)

    def _say(self, kind: Up, payload: bytes = b"", *, start: int = 0, length: int = 0) -> int:
        self._number += 1
        frame = Frame(kind, start, length or len(payload), self._number)
        write_all(self._up, pack_frame(frame, payload))
        return self._number

    def _take_in(self, data: bytes) -> None:
        if not data:
            raise Unavailable("reading: the process that sends has ended")
        data = self._rest + data
        whole = len(data) // DOWN.size * DOWN.size
        self._rest = data[whole:]
        for note in unpack_notes(data[:whole]):
            match note.kind:
                case Down.NAMED:
                    self._names.pop(note.number).value = ChunkId(note.raw)
                case Down.FREE:
                    self._stretches.give_back(note.value)
                case Down.LIVE:
                    self._answers.pop(note.number).value = bool(note.value)
                case Down.COMMITTED:
                    self.committed = note
