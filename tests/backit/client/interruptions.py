"""Ctrl-C at exact moments, faults between client and appliance, and what must be gone then."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from backit.client.remote import Appliance

OWN_THREADS = ("seal", "_ask", "_receive", "open")


def threads() -> list[str]:
    """Those that a backup or a restore starts, and the ones that gRPC pulls messages with."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(OWN_THREADS) or "consume_request_iterator" in thread.name
    ]


def children() -> list[int]:
    """Processes that this one has started and that have not been waited for."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for each in lists for pid in each.read_text().split()]


@contextmanager
def interrupts() -> Generator[Callable[[], None]]:
    """Gives a function that interrupts this thread as Ctrl-C does, while the block lasts."""
    armed = threading.Event()
    armed.set()
    main = threading.get_ident()

    def interrupt(_signal: int, _frame: object) -> None:
        if armed.is_set():
            raise KeyboardInterrupt

    usual = signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGINT)
    finally:
        armed.clear()
        signal.signal(signal.SIGINT, usual)


STUBS = ("accounts", "appliance", "chunks", "devices", "snapshots")


class _Stub:
    def __init__(self, stub: object, hooks: dict[str, Callable[..., Any]]) -> None:
        self._stub = stub
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._stub, name)
        hook = self._hooks.get(name)
        return real if hook is None else partial(hook, real)


class _Between:
    def __init__(self, appliance: Appliance, hooks: dict[str, Callable[..., Any]]) -> None:
        self._appliance = appliance
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._appliance, name)
        return _Stub(found, self._hooks) if name in STUBS else found


def between(appliance: Appliance, **hooks: Callable[..., Any]) -> Appliance:
    """The same appliance, but calls of these names go to hooks: (the real call, the request)."""
    return cast("Appliance", _Between(appliance, hooks))
