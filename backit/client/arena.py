"""Memory that two processes share: slots of one chunk each, for bytes on their way.

One side fills a slot and says so, the other gives it back when it needs it no more. So the bytes
between two processes are bounded by construction, and are never copied through a pipe.
"""

from __future__ import annotations

import contextlib
import mmap
import os

from backit.format.magic import PLAINTEXT_LIMIT

# Enough for a backup.
SLOTS = 16


class Arena:
    """Pieces of memory, each as large as the largest chunk."""

    def __init__(self, fd: int, slots: int = SLOTS) -> None:
        self.fd = fd
        self._slots = slots
        self._map = mmap.mmap(fd, slots * PLAINTEXT_LIMIT)
        self._view = memoryview(self._map)

    @classmethod
    def create(cls, slots: int = SLOTS) -> Arena:
        fd = os.memfd_create("backit-arena", os.MFD_CLOEXEC)
        os.ftruncate(fd, slots * PLAINTEXT_LIMIT)
        return cls(fd, slots)

    def slot(self, number: int, length: int) -> memoryview:
        """The first `length` bytes of a slot. Raises ValueError for what lies outside."""
        if not 0 <= number < self._slots or not 0 <= length <= PLAINTEXT_LIMIT:
            raise ValueError(f"slot {number} of {length} bytes")
        start = number * PLAINTEXT_LIMIT
        return self._view[start : start + length]

    def close(self) -> None:
        """Give the memory back; where a slot is still looked at, when that ends."""
        os.close(self.fd)
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()
