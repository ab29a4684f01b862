"""Ctrl-C and SIGTERM: the first ends the command soon and in good order, the second at once.

The first is raised in the main thread, which tidies up on its way out; or it sets an event, where a
command asks for that. Meanwhile a thread ends what is waited for on the network. It hears of
signals by itself, because the main thread may wait somewhere deep. What is to be tidied up is known
where it was made, not here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backitctl import exits

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from backit.client.remote import Appliance

NUMBERS = (signal.SIGINT, signal.SIGTERM)
# What comes this soon after the first is the first: `timeout` and some shells send each twice.
SAME_SECONDS = 0.5
SHOW_CURSOR = b"\x1b[?25h"


class Interrupts:
    """Those of this process."""

    def __init__(self) -> None:
        # Guards the next two.
        self._lock = threading.Lock()
        self._connections: list[Appliance] = []
        self._is_leaving = False
        # Main thread only: where the first goes instead of being raised, and whether it has come.
        self._stop: threading.Event | None = None
        self._has_come = False

    def listen(self) -> None:
        """From the main thread, once."""
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in NUMBERS:
            signal.signal(number, self._interrupt)
        threading.Thread(target=self._watch, args=(heard,), name="interrupts", daemon=True).start()

    @contextmanager
    def hurrying(self, appliance: Appliance) -> Generator[None]:
        """For the block, an interrupt ends what is waited for on this connection."""
        with self._lock:
            self._connections.append(appliance)
            is_leaving = self._is_leaving
        if is_leaving:
            appliance.hurry()
        try:
            yield
        finally:
            with self._lock:
                self._connections.remove(appliance)

    @contextmanager
    def deferred(self) -> Generator[threading.Event]:
        """For the block, the first interrupt sets this event and is not raised."""
        self._stop = threading.Event()
        try:
            yield self._stop
        finally:
            self._stop = None

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self._has_come:
            return  # raised again, it would end the tidying up; see _watch
        self._has_come = True
        if self._stop is None:
            raise KeyboardInterrupt
        self._stop.set()

    def _watch(self, heard: int) -> None:
        os.read(heard, 1)
        since = time.monotonic()
        with self._lock:
            self._is_leaving = True
            for appliance in self._connections:
                appliance.hurry()
        while time.monotonic() - since < SAME_SECONDS:
            os.read(heard, 1)
        _leave()


def _leave() -> None:
    """Without tidying up; half a file has no name, and the next restore sweeps what has one."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), SHOW_CURSOR)
    os._exit(exits.INTERRUPTED)


INTERRUPTS = Interrupts()
