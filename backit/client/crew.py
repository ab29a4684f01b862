"""Threads that write while the main thread plans and fetches, and no more bytes between them than
agreed.

The first error that nobody expected ends the run: it is raised in the main thread, and what still
waits is dropped.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Event
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")


class Crew:
    """Used by one thread; `stop` may be set by any."""

    def __init__(self, threads: int, memory: int, stop: Event) -> None:
        """`memory` bounds the bytes that submitted work holds, but for a single piece that is
        larger.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="restore")
        self._memory = memory
        self._stop = stop
        self._held = 0
        self._running = 0
        self._changed = Condition()
        self._error: BaseException | None = None

    def submit(
        self, size: int, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Have something done that holds `size` bytes; waits for room first.

        Raises KeyboardInterrupt once `stop` is set, and whatever made earlier work fail.
        """
        with self._changed:
            while self._held and self._held + size > self._memory and self._error is None:
                self._changed.wait()
            self._check()
            self._held += size
            self._running += 1

        def run() -> None:
            try:
                if self._error is None and not self._stop.is_set():
                    work(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  # raised again by the next call
                with self._changed:
                    self._error = self._error or error
            finally:
                with self._changed:
                    self._held -= size
                    self._running -= 1
                    self._changed.notify()

        self._pool.submit(run)

    def each(self, work: Callable[[A], R], items: Iterable[A]) -> Sequence[R]:
        """What `work` makes of each, in order; several at a time. Raises what it raises."""
        self.check()
        return list(self._pool.map(work, items))

    def check(self) -> None:
        """Raises KeyboardInterrupt once `stop` is set, and whatever made earlier work fail."""
        with self._changed:
            self._check()

    def drain(self) -> None:
        """Wait until all is done. Raises as `check` does."""
        with self._changed:
            while self._running and self._error is None:
                self._changed.wait()
            self._check()

    def dismiss(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            raise KeyboardInterrupt
