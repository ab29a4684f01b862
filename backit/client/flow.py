"""What keeps background threads from running away, and callers from waiting for ever.

A gate that bounds bytes in flight, and promises that all fail with the first failure. Nothing here
knows what is sent.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, TypeVar

Value = TypeVar("Value")


class Promises:
    """Futures that all fail with the first failure, so that nobody waits for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self.failure: BaseException | None = None

    def new(self) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self.failure is not None:
                future.set_exception(self.failure)
            else:
                self._open.add(future)
        return future

    def keep(self, future: Future[Value], value: Value) -> None:
        """Set the result, unless the future has failed already."""
        with self._lock:
            if future not in self._open:
                return
            self._open.remove(future)
        # Without the lock: whoever is told may take his time, or ask for a promise himself.
        future.set_result(value)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            if self.failure is None:
                self.failure = error
            broken, self._open = self._open, set()
        for future in broken:
            future.set_exception(error)


class ByteGate:
    """Lets at most so many bytes through at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._is_open = False
        self._changed = threading.Condition()

    def enter(self, size: int) -> None:
        """Wait until `size` bytes fit; more than the limit goes through alone."""
        with self._changed:
            while self._held and self._held + size > self._limit and not self._is_open:
                self._changed.wait()
            self._held += size

    def leave(self, size: int) -> None:
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def open(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()
