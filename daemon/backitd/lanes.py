"""A pool's threads, shared by many so that nobody can have them all.

Each key (an account) has a lane of so many threads at once; what it wants beyond waits in its lane,
without a thread, and goes on as soon as one of its own is done. What runs there is not known here.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Lanes:
    """The lanes of one pool, each `width` threads wide."""

    def __init__(self, pool: ThreadPoolExecutor, width: int) -> None:
        self._pool = pool
        self._width = width
        self._lock = threading.Lock()
        self._running: Counter[bytes] = Counter()
        self._waiting: defaultdict[bytes, deque[tuple[Future[Any], Callable[[], Any]]]]
        self._waiting = defaultdict(deque)

    def lane(self, key: bytes) -> Lane:
        return Lane(self, key)

    def submit(self, key: bytes, call: Callable[[], T]) -> Future[T]:
        """Run it in a thread of the pool, now or once the lane has room."""
        future: Future[T] = Future()
        with self._lock:
            if self._running[key] >= self._width:
                self._waiting[key].append((future, call))
                return future
            self._running[key] += 1
        self._start(key, future, call)
        return future

    def _start(self, key: bytes, future: Future[Any], call: Callable[[], Any]) -> None:
        try:
            self._pool.submit(self._run, key, future, call)
        except RuntimeError:  # the pool is shut down: nothing that waits will run
            future.cancel()

    def _run(self, key: bytes, future: Future[Any], call: Callable[[], Any]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - whoever has the future is told
                    future.set_exception(error)
        finally:
            self._go_on(key)

    def _go_on(self, key: bytes) -> None:
        """A thread of the lane is free: it takes what waits, or is given back."""
        with self._lock:
            if not self._waiting[key]:
                del self._waiting[key]
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]
                return
            future, call = self._waiting[key].popleft()
        self._start(key, future, call)


class Lane(ThreadPoolExecutor):
    """One lane, in the dress that gRPC asks for. Has no threads of its own."""

    def __init__(self, lanes: Lanes, key: bytes) -> None:
        super().__init__(max_workers=1)
        self._lanes = lanes
        self._key = key

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As Lanes.submit."""
        return self._lanes.submit(self._key, partial(fn, *args, **kwargs))
