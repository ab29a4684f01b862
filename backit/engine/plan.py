"""What a restore does with each file, and in which order chunks are wanted: decisions, and nothing
else.

A `Window` collects files until enough chunks are wanted for one fetch: each chunk once, with
everything that it goes to, so that it can be dropped when it has been written. A `Layout` knows
where in a file data and holes lie.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backit.ids import ChunkId

T = TypeVar("T")

CHUNKS_MAX = 256
PIECES_MAX = 16_384


class Overwrite(StrEnum):
    """What may become of a file of the target that is not as the snapshot has it."""

    NEVER = "never"
    # Replaced unless it was changed later than the one in the snapshot.
    OLDER = "older"
    ALWAYS = "always"


class Here(Enum):
    """What stands where an entry belongs."""

    NOTHING = 0
    # As the entry says in everything.
    SAME = 1
    # The same content or target, but mode, owner, time or attributes differ.
    SAME_CONTENT = 2
    # Type and size fit; only reading it will tell.
    UNKNOWN = 3
    OTHER = 4


class Action(StrEnum):
    """What is done about an entry."""

    MAKE = "make"
    REPLACE = "replace"
    METADATA = "metadata"
    LINK = "link"
    KEEP = "keep"
    NOTHING = "nothing"


def decide(here: Here, overwrite: Overwrite, *, mtime_here: int, mtime_wanted: int) -> Action:
    """What to do where `here` stands; times in nanoseconds. UNKNOWN must be settled before."""
    if here is Here.NOTHING:
        return Action.MAKE
    if here is Here.SAME:
        return Action.NOTHING
    if overwrite is Overwrite.NEVER:
        return Action.KEEP
    if here is Here.SAME_CONTENT:
        return Action.METADATA
    if overwrite is Overwrite.OLDER and mtime_here > mtime_wanted:
        return Action.KEEP
    return Action.REPLACE


# A run of a chunk that goes to a file: the file, where in that file's data, where in the chunk,
# length.
Piece = tuple[T, int, int, int]


class Window(Generic[T]):
    """Chunks that are wanted next, in the order in which they were first wanted."""

    def __init__(self) -> None:
        self._wanted: dict[ChunkId, list[Piece[T]]] = {}
        self._pieces = 0

    def add(self, chunk: ChunkId, piece: Piece[T]) -> None:
        self._pieces += 1
        pieces = self._wanted.get(chunk)
        if pieces is None:
            self._wanted[chunk] = [piece]
        else:
            pieces.append(piece)

    @property
    def is_full(self) -> bool:
        return len(self._wanted) >= CHUNKS_MAX or self._pieces >= PIECES_MAX

    @property
    def chunks(self) -> list[ChunkId]:
        return list(self._wanted)

    def take(self, chunk: ChunkId) -> list[Piece[T]]:
        """What the chunk goes to, once."""
        pieces = self._wanted.pop(chunk, [])
        self._pieces -= len(pieces)
        return pieces


class Layout:
    """Where a file's data lies in the file: its data is what is between its holes, put together."""

    __slots__ = ("_data_starts", "_file_starts", "data_size", "size")

    def __init__(self, size: int, holes: Iterable[tuple[int, int]]) -> None:
        """`holes` are (offset, length), ascending, apart from each other and below `size`."""
        self.size = size
        # Stretch i of data starts at _data_starts[i] of the data and at _file_starts[i] of the
        # file.
        self._data_starts: list[int] = []
        self._file_starts: list[int] = []
        data = at = 0
        for offset, length in holes:
            if offset > at:
                self._data_starts.append(data)
                self._file_starts.append(at)
                data += offset - at
            at = offset + length
        if size > at:
            self._data_starts.append(data)
            self._file_starts.append(at)
            data += size - at
        self.data_size = data

    def places(self, at: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Where `length` bytes from `at` of the data go: (offset in the file, start in the run,
        length).
        """
        done = 0
        index = bisect_right(self._data_starts, at) - 1
        while done < length:
            start = self._data_starts[index]
            last = index + 1 == len(self._data_starts)
            end = self.data_size if last else self._data_starts[index + 1]
            here = min(length - done, end - (at + done))
            yield self._file_starts[index] + at + done - start, done, here
            done += here
            index += 1

    def stretches(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of each stretch of data in the file."""
        last = len(self._data_starts) - 1
        for index, (start, data) in enumerate(
            zip(self._file_starts, self._data_starts, strict=True)
        ):
            end = self.data_size if index == last else self._data_starts[index + 1]
            yield start, end - data
