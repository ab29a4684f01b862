"""Ctrl-C and SIGTERM: the first ends the command soon and in good order, the second at once.

The first is raised only where that is safe: between calls to the appliance (`check`), and in waits
that say so (`at_once`). Raised anywhere, as Python does by itself, it can leave a lock locked
inside a library (the documentation of Python's module signal warns of it), and then the command
hangs in its tidying up.

A thread hears of signals as well: it ends what is waited for on the network, and in the end the
process, if the command has not. What is to be tidied up is known where it was made, not here.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from backit.client.remote import Appliance

NUMBERS = (signal.SIGINT, signal.SIGTERM)
# What comes this soon after the first is the first: `timeout` and some shells send each twice.
SAME_SECONDS = 0.5
# Tidying up may take so long. Nothing is lost after that: it is as if the power had failed.
PATIENCE_SECONDS = 10.0
EXIT_CODE = 128 + signal.SIGINT
SHOW_CURSOR = b"\x1b[?25h"


class Interrupts:
    """Those of this process."""

    def __init__(self) -> None:
        # Set by the first.
        self.stop = threading.Event()
        # Guards the next.
        self._lock = threading.Lock()
        self._connections: list[Appliance] = []
        # Main thread only: whether the first has come, is still to be raised, and may be anywhere.
        self._has_come = False
        self._is_due = False
        self._may_raise = False

    def listen(self) -> None:
        """From the main thread, once."""
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        for number in NUMBERS:
            signal.signal(number, self._interrupt)
        threading.Thread(target=self._watch, args=(heard,), name="interrupts", daemon=True).start()

    def check(self) -> None:
        """Raises KeyboardInterrupt in the main thread if the first has come; once."""
        if self._is_due and threading.current_thread() is threading.main_thread():
            self._is_due = False
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Generator[None]:
        """For the block, which waits for people, pipes or processes, the first is raised where it
        comes.

        The block holds no locks, and makes nothing that somebody would have to tidy up. In other
        threads than the main one nothing is ever raised.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before, self._may_raise = self._may_raise, True
        try:
            self.check()
            yield
        finally:
            self._may_raise = before

    @contextmanager
    def hurrying(self, appliance: Appliance) -> Generator[None]:
        """For the block, an interrupt ends what is waited for on this connection."""
        with self._lock:
            self._connections.append(appliance)
        if self.stop.is_set():
            appliance.hurry()
        try:
            yield
        finally:
            with self._lock:
                self._connections.remove(appliance)

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self._has_come:
            return  # raised again, it would end the tidying up; see _watch
        self._has_come = self._is_due = True
        if self._may_raise:
            self.check()

    def _watch(self, heard: int) -> None:
        os.read(heard, 1)
        since = time.monotonic()
        self.stop.set()
        # In a thread of its own: it may wait for a lock, and what it waits for may hang.
        threading.Thread(target=self._hurry, name="hurrying", daemon=True).start()
        while (left := since + PATIENCE_SECONDS - time.monotonic()) > 0:
            if not select.select([heard], [], [], left)[0]:
                break
            os.read(heard, 1)
            if time.monotonic() - since > SAME_SECONDS:
                break
        _leave()

    def _hurry(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for appliance in connections:
            appliance.hurry()


def _leave() -> None:
    """Without tidying up; half a file has no name, and the next restore sweeps what has one."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), SHOW_CURSOR)
    os._exit(EXIT_CODE)


INTERRUPTS = Interrupts()
