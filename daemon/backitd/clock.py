"""The machine's clock. The only place of the daemon that reads one; everything else is given it."""

from __future__ import annotations

import time


class SystemClock:
    """A `backitd.store.values.Clock`."""

    def now(self) -> float:
        return time.time()  # noqa: TID251 - here is where `now` comes from

    def monotonic(self) -> float:
        return time.monotonic()
