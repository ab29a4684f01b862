"""Threads that work for another one, and no more bytes between them than agreed.

The first error that nobody expected ends the run: it is raised in the thread that they work for,
and what still waits is dropped.
"""

from __future__ import annotations

from queue import SimpleQueue
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")


class Crew:
    """Work may be submitted by any thread, and `stop` be set by any. It must be dismissed at the
    end, when nobody submits anything any more.
    """

    def __init__(self, threads: int, memory: int, stop: Event) -> None:
        """`memory` bounds the bytes that submitted work holds, but for a single piece that is
        larger.
        """
        self._memory = memory
        self._stop = stop
        self._held = 0
        self._running = 0
        self._changed = Condition()
        self._error: BaseException | None = None
        self._is_dismissed = False
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Not a pool of the library: an interrupt while that starts a thread leaves it unjoined.
        self._threads = [
            Thread(target=self._serve, name=f"restore-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

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

        def task() -> None:
            try:
                if not self.is_ending:
                    work(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  # raised again by the next call
                with self._changed:
                    self._error = self._error or error
            finally:
                with self._changed:
                    self._held -= size
                    self._running -= 1
                    self._changed.notify_all()

        self._tasks.put(task)

    def each(self, work: Callable[[A], R], items: Sequence[A]) -> list[R]:
        """What `work` makes of each, in order; several at a time. Raises as `drain` does."""
        results: dict[int, R] = {}

        def do(index: int, item: A) -> None:
            results[index] = work(item)

        for index, item in enumerate(items):
            self.submit(0, do, index, item)
        self.drain()
        return [results[index] for index in range(len(items))]

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
        """Drop what has not begun, and wait for what has."""
        self._is_dismissed = True
        for _thread in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    @property
    def is_ending(self) -> bool:
        """Whether what still runs may as well end."""
        return self._is_dismissed or self._error is not None or self._stop.is_set()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            raise KeyboardInterrupt
