"""Puts what a restore writes on disk while the restore goes on, so that its end waits for little.

The whole file system, with few calls: one for each file would cost more than all else that is done
for a small one.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from threading import Condition, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

EVERY_BYTES = 128 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Flusher:
    """For one restore at a time."""

    def __init__(self) -> None:
        self._directory = -1
        self._changed = Condition()
        self._waiting = 0
        self._is_over = False
        # The kernel tells of a failure once, so the first one is kept for whoever asks at the end.
        self._error: OSError | None = None

    @contextmanager
    def flushing(self, directory: int) -> Generator[None]:
        """Flush the file system that an open directory is on: during the block, and after it once
        more unless it fails. Raises OSError.
        """
        self._directory = directory
        thread = Thread(target=self._serve, name="flush", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify()
            thread.join()
        self._flush()
        if self._error is not None:
            raise self._error

    def count(self, size: int) -> None:
        """So many bytes more are being written."""
        with self._changed:
            self._waiting += size
            if self._waiting >= EVERY_BYTES:
                self._changed.notify()

    def _serve(self) -> None:
        while self._wait():
            self._flush()

    def _wait(self) -> bool:
        """Until there is enough to flush. False when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._waiting >= EVERY_BYTES)
            self._waiting = 0
            return not self._is_over

    def _flush(self) -> None:
        if _libc.syncfs(self._directory):
            code = ctypes.get_errno()
            self._error = self._error or OSError(code, os.strerror(code))
