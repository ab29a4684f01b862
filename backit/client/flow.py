"""What keeps background threads from running away, and callers from waiting for ever.

A gate that bounds bytes in flight, a queue that is taken in handfuls, and promises that all fail
with the first failure. Nothing here knows what is sent.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

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


class Handfuls(Generic[Value]):
    """A queue whose one reader wakes up seldom, and then has much to do.

    A handful is ready when items of `enough` bytes have come, or `seconds` after the first of it.
    """

    def __init__(self, *, enough: int, seconds: float, most: int) -> None:
        """`most` is how many items a handful has at most."""
        self._enough = enough
        self._seconds = seconds
        self._most = most
        self._items: deque[tuple[Value, int]] = deque()
        self._bytes = 0
        self._is_hurried = False
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, item: Value, size: int = 0) -> None:
        with self._changed:
            was_ready = self._is_ready()
            self._items.append((item, size))
            self._bytes += size
            if len(self._items) == 1 or self._is_ready() != was_ready:
                self._changed.notify()

    def take(self, timeout: float | None = None) -> list[Value] | None:
        """The next handful: all that has come, up to about `enough` bytes. None if nothing comes
        for so many seconds; nothing once the queue is closed and empty.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._is_closed, timeout):
                return None
            self._changed.wait_for(self._is_ready, self._seconds)
            return self._next()

    def hurry(self) -> None:
        """From now on whatever has come is enough."""
        with self._changed:
            self._is_hurried = True
            self._changed.notify()

    def close(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._is_hurried = self._is_closed = True
            self._changed.notify()

    def _is_ready(self) -> bool:
        return self._bytes >= self._enough or len(self._items) >= self._most or self._is_hurried

    def _next(self) -> list[Value]:
        handful: list[Value] = []
        held = 0
        while self._items and held < self._enough and len(handful) < self._most:
            item, size = self._items.popleft()
            handful.append(item)
            held += size
        self._bytes -= held
        return handful
