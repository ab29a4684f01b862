"""Has files read into the page cache before their turn, once reading waits for the disk.

One file after another keeps a disk waiting between each two: a first backup of many small files
that nobody has read lately took six times as long as one of files in the cache. While all is in the
cache this does nothing. What a file holds is not looked at here, and no order changes.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from backit.format.magic import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backit.client.scan import Batch

# How far ahead: so many directories (each holds a handle), entries, and bytes of their files.
BATCHES_MAX = 64
ENTRIES_MAX = 4_000
BYTES_MAX = 32 * MIB
# Of one file at most: the kernel reads on by itself in what is read from front to back.
FILE_MAX = 4 * MIB
# Asking for what is in the cache costs a tenth of reading it: it is worth it where reading had to
# wait for the disk in one batch of five. Each wait outweighs so many batches without one;
WAIT_OUTWEIGHS = 4
# and so many have to go by after the last of many waits before all is taken to be in the cache.
QUIET = 32

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FORMAT, _REGULAR = 0o170000, 0o100000


def blocks_read() -> int:
    """What this process has had to read from disks so far, in blocks of 512 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock


def read_ahead(
    batches: Iterable[Batch], *, since: int = 0, counter: Callable[[], int] = blocks_read
) -> Iterator[Batch]:
    """The same batches, a few ahead of who reads their files.

    `since` (ns): files that have not changed for longer are not going to be read. A batch's handle
    is valid until the next one is asked for, as the scan's is.
    """
    queue = _Queue()
    blocks, waits = counter(), 0
    try:
        for batch in batches:
            before, blocks = blocks, counter()
            if blocks != before:
                waits = min(waits + WAIT_OUTWEIGHS, QUIET + WAIT_OUTWEIGHS)
            elif waits:
                waits -= 1
            # One alone is no sign yet.
            is_kept = waits > WAIT_OUTWEIGHS and queue.put(batch, since)
            while queue and (not is_kept or queue.is_full):
                yield from queue.take()
            if not is_kept:
                yield batch
        while queue:
            yield from queue.take()
    finally:
        queue.close()


class _Queue:
    """Batches that wait for their turn, each with a handle of its own."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Batch, int]] = deque()
        self._entries = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return (
            len(self._waiting) > BATCHES_MAX
            or self._entries > ENTRIES_MAX
            or self._bytes > BYTES_MAX
        )

    def put(self, batch: Batch, since: int) -> bool:
        """Ask for its files. False if there is no handle for it: then its turn is now."""
        try:
            # The scan closes its own when it goes on.
            kept = replace(batch, fd=os.dup(batch.fd))
        except OSError:
            return False
        expected = _ask_for(kept, since)
        self._waiting.append((kept, expected))
        self._entries += len(kept.entries)
        self._bytes += expected
        return True

    def take(self) -> Iterator[Batch]:
        """The first one, for as long as the generator lives."""
        batch, expected = self._waiting.popleft()
        self._entries -= len(batch.entries)
        self._bytes -= expected
        try:
            yield batch
        finally:
            os.close(batch.fd)

    def close(self) -> None:
        while self._waiting:
            os.close(self._waiting.popleft()[0].fd)


def _ask_for(batch: Batch, since: int) -> int:
    """Have the kernel begin to read the files of a batch; returns about how many bytes."""
    expected = 0
    for name, found in batch.entries:
        if found.st_mode & _FORMAT != _REGULAR or not found.st_size or found.st_ctime_ns < since:
            continue
        # What is wrong with the file is said when it is its turn.
        with suppress(OSError):
            fd = os.open(name, _READ, dir_fd=batch.fd)
            try:
                length = min(found.st_size, FILE_MAX)
                os.posix_fadvise(fd, 0, length, os.POSIX_FADV_WILLNEED)
                expected += length
            finally:
                os.close(fd)
    return expected
