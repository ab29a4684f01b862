"""What time it is: the only place of the program that asks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

# Nanoseconds in a second.
NANO = 1_000_000_000


def now() -> int:
    """Unix seconds."""
    return time.time_ns() // NANO


def today() -> str:
    """The day in this machine's time zone, for people."""
    return local(now()).date().isoformat()


def local(seconds: float) -> datetime:
    """A Unix time in this machine's time zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone()
