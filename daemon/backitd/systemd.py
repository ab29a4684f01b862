"""What systemd wants to hear: ready, stopping, still alive.

Nothing at all where it does not listen.

No decisions about health: whether the daemon is well is asked of it by the caller's `healthy`.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send one message such as "READY=1"; nothing if nobody listens or libsystemd is not there."""
    if "NOTIFY_SOCKET" not in os.environ:
        return
    try:
        daemon = importlib.import_module("systemd.daemon")
    except ImportError:
        log.warning("NOTIFY_SOCKET is set, but the module systemd.daemon is missing")
        return
    daemon.notify(state)


def watchdog_seconds(environment: Mapping[str, str], process: int) -> float | None:
    """How often systemd wants a sign of life: a third of its limit. None if it wants none of us."""
    limit = environment.get("WATCHDOG_USEC", "")
    meant_for = environment.get("WATCHDOG_PID", str(process))
    if not limit.isdecimal() or int(limit) == 0 or meant_for != str(process):
        return None
    return int(limit) / 1_000_000 / 3


class Watchdog:
    """Tells systemd that we live, as long as `healthy` says so."""

    def __init__(self, seconds: float, healthy: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._healthy = healthy
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            if self._healthy():
                notify("WATCHDOG=1")
            else:
                log.error(
                    "the daemon does not answer its own health check: no sign of life for systemd"
                )
