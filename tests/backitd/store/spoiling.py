"""Does to a store's files what disks do to them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.backitd.store.boxes import Box, Chunk


@contextmanager
def writable(path: Path) -> Generator[Path]:
    """Mode and time are put back: a disk that rots says nothing of it."""
    before = path.stat()
    path.chmod(0o600)
    try:
        yield path
    finally:
        path.chmod(before.st_mode)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(path: Path, at: int, bit: int = 0) -> None:
    """One bit; `at` may count from the end."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    with writable(path):
        path.write_bytes(data)


def truncate(path: Path, size: int) -> None:
    with writable(path), path.open("rb+") as file:
        file.truncate(size)


def find(box: Box, chunk: Chunk) -> tuple[Path, int]:
    """The newest pack that holds this very record, and where."""
    for path in reversed(box.packs()):
        at = path.read_bytes().find(chunk.record)
        if at >= 0:
            return path, at
    raise AssertionError(f"chunk {chunk.id} is in no pack")
