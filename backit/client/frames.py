"""What the two processes of a backup say to each other over a pair of pipes.

Up, from the reading process: a head, then `length` bytes of payload (or, for DATA, `length` bytes
in a stretch of the arena). Down, from the sending one: heads alone, so they never need reassembling
in any other unit. Both ends are this program; payloads are pickles of its own values.
"""

from __future__ import annotations

import os
import pickle
import struct
from enum import IntEnum
from typing import Any, NamedTuple


class Up(IntEnum):
    """What the reading process says."""

    DATA = 1
    NODE = 2
    LIVE = 3
    PROGRESS = 4
    GROWN = 5
    FAILED = 6


class Down(IntEnum):
    """What the sending process says."""

    NAMED = 1
    FREE = 2
    LIVE = 3
    COMMITTED = 4


class Frame(NamedTuple):
    """A message from the reading process, its payload apart. `start` is where in the arena DATA
    lies.
    """

    kind: Up
    start: int
    length: int
    number: int


class Note(NamedTuple):
    """A message to the reading process. `value` is the start of the stretch that is FREE again, or
    the answer to LIVE.
    """

    kind: Down
    value: int
    number: int
    raw: bytes


UP = struct.Struct("<B3xIIQ")
DOWN = struct.Struct("<B3xIQ32s")
LENGTH = struct.Struct("<I")


def pack_note(note: Note) -> bytes:
    return DOWN.pack(*note)


def unpack_notes(data: bytes) -> list[Note]:
    """Whole notes only. Raises struct.error, ValueError."""
    return [
        Note(Down(kind), value, number, raw) for kind, value, number, raw in DOWN.iter_unpack(data)
    ]


def pack_frame(frame: Frame, payload: bytes = b"") -> bytes:
    return UP.pack(frame.kind, frame.start, frame.length, frame.number) + payload


def read_frame(fd: int) -> tuple[Frame, bytes] | None:
    """The next frame and its payload; None when the other side has ended. Raises EOFError."""
    head = read_exactly(fd, UP.size)
    if not head:
        return None
    kind, start, length, number = UP.unpack(head)
    frame = Frame(Up(kind), start, length, number)
    payload = b"" if frame.kind is Up.DATA or not length else read_exactly(fd, length)
    if frame.kind is not Up.DATA and len(payload) != length:
        raise EOFError("the other process ended in the middle of a message")
    return frame, payload


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_value(fd: int, value: object) -> None:
    """A value of this program's own, behind its length."""
    data = pickle.dumps(value)
    write_all(fd, LENGTH.pack(len(data)) + data)


def read_value(fd: int) -> Any:
    """What write_value wrote. Raises EOFError if the other side has ended."""
    head = read_exactly(fd, LENGTH.size)
    if not head:
        raise EOFError("the other process has ended")
    return pickle.loads(read_exactly(fd, LENGTH.unpack(head)[0]))  # noqa: S301 - our own


def read_exactly(fd: int, length: int) -> bytes:
    """Nothing if the other side has ended. Raises EOFError in the middle."""
    parts: list[bytes] = []
    while length:
        part = os.read(fd, length)
        if not part:
            if parts:
                raise EOFError("the other process ended in the middle of a message")
            return b""
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
