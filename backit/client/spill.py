"""Sorting more names than memory should hold: sorted runs in a temporary file that has no name,
merged as they are read.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES_IN_MEMORY = 200_000
_BLOCK = 64 * 1024


class NameSorter:
    """Takes names in any order, gives them back sorted. A name has at most 255 bytes."""

    def __init__(self, scratch: Path | None, *, in_memory: int = NAMES_IN_MEMORY) -> None:
        """`scratch` is the directory for the temporary file; None is the system's."""
        self._scratch = scratch
        self._limit = in_memory
        self._names: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[int, int]] = []

    def add(self, name: bytes) -> None:
        self._names.append(name)
        if len(self._names) >= self._limit:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        """The names in order, each once; the file is gone after the last."""
        self._names.sort()
        merged = iter(self._names)
        if self._file is not None:
            self._file.flush()
            fd = self._file.fileno()
            merged = heapq.merge(*(_run(fd, *run) for run in self._runs), self._names)
        try:
            previous = b""
            for name in merged:
                if name != previous:
                    yield name
                previous = name
        finally:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115  # see close
        self._names.sort()
        start = self._file.tell()
        self._file.write(b"".join(bytes((len(name),)) + name for name in self._names))
        self._runs.append((start, self._file.tell()))
        self._names.clear()


def _run(fd: int, start: int, end: int) -> Iterator[bytes]:
    block = b""
    at = 0
    while True:
        if len(block) - at < 256 and start < end:
            more = os.pread(fd, min(_BLOCK, end - start), start)
            start += len(more)
            block, at = block[at:] + more, 0
        if at == len(block):
            return
        after = at + 1 + block[at]
        yield block[at + 1 : after]
        at = after
