"""Token buckets: how often something may be tried, by key.

Bounded, in memory, no policy of its own.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from backit.errors import TooManyAttempts

if TYPE_CHECKING:
    from backitd.store import Clock

MOST_KEYS = 10_000


class Throttled(TooManyAttempts):
    """Too often; `retry_after` seconds from now there will be room again."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Buckets:
    """One bucket per key: holds `burst`, refills by `rate` a second.

    The least recently used ones are forgotten beyond MOST_KEYS; making that many costs more
    attempts than it wins, since each key's maker is limited by another bucket.
    """

    def __init__(self, *, burst: int, rate: float, clock: Clock) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._levels)

    def take(self, key: str) -> None:
        """Raises Throttled if the bucket is empty."""
        now = self._clock.monotonic()
        with self._lock:
            level = self._level(key, now)
            if level < 1:
                wait = (1 - level) / self._rate
                raise Throttled(f"too many attempts; the next is allowed in {wait:.0f} s", wait)
            self._put(key, level - 1, now)

    def give_back(self, key: str) -> None:
        """Undo one take: it was no attempt to guess."""
        now = self._clock.monotonic()
        with self._lock:
            self._put(key, self._level(key, now) + 1, now)

    def _level(self, key: str, now: float) -> float:
        level, then = self._levels.get(key, (float(self._burst), now))
        return min(self._burst, level + (now - then) * self._rate)

    def _put(self, key: str, level: float, now: float) -> None:
        if level >= self._burst:
            self._levels.pop(key, None)  # the same as never seen
            return
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        if len(self._levels) > MOST_KEYS:
            self._levels.popitem(last=False)


def address_key(peer: str) -> str:
    """The part of a gRPC peer that one caller cannot choose freely.

    An IPv4 address, the /64 of an IPv6 address; everybody on the unix socket shares "unix".
    """
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
