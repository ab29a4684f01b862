"""Memory that two processes share, for bytes on their way, and who may write where in it.

One side takes a stretch, fills it and says so; the other says when it needs it no more. So the
bytes between two processes are bounded by construction, and are never copied through a pipe.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from bisect import bisect_left

# A page: neighbours share none, so memory that no stretch has ever reached is never touched.
_STEP = 4096


class Arena:
    """A piece of memory, by its descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, self.size)
        self._view = memoryview(self._map)

    @classmethod
    def create(cls, size: int) -> Arena:
        fd = os.memfd_create("backit-arena", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        return cls(fd)

    def stretch(self, start: int, length: int) -> memoryview:
        """Some bytes of it. Raises ValueError for what lies outside."""
        if not 0 <= start <= start + length <= self.size:
            raise ValueError(f"{length} bytes at {start} of {self.size}")
        return self._view[start : start + length]

    def close(self) -> None:
        """Give the memory back; where a stretch is still looked at, when that ends."""
        os.close(self.fd)
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()


class Stretches:
    """Which stretches of an arena are taken.

    The lowest that is long enough comes first: what was used last is still in the processor's
    cache, and what is never needed at once is never touched. At most a few hundred at a time.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # Start and end of what is taken, in order.
        self._taken: list[tuple[int, int]] = []

    def take(self, length: int) -> int | None:
        """Where a free stretch starts; None if none is long enough now."""
        length = max(-length % _STEP + length, _STEP)
        start = 0
        for position, (taken, end) in enumerate(self._taken):
            if taken - start >= length:
                self._taken.insert(position, (start, start + length))
                return start
            start = end
        if self._size - start < length:
            return None
        self._taken.append((start, start + length))
        return start

    def give_back(self, start: int) -> None:
        """The stretch that starts here is free again. Raises ValueError if none does."""
        position = bisect_left(self._taken, (start,))
        if position == len(self._taken) or self._taken[position][0] != start:
            raise ValueError(f"no stretch of the arena starts at {start}")
        del self._taken[position]
