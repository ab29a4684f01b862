"""Login challenges that wait for their signature: one use, two minutes, a bounded number.

In memory only.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.ids import DeviceId, SlotId

if TYPE_CHECKING:
    from collections.abc import Callable

    from backitd.store import Clock

CHALLENGE_BYTES = 32
MOST_CHALLENGES = 20_000


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a user name and a password."""

    user: str

    @property
    def name(self) -> str:
        """What a login signs (FORMAT.md section 4)."""
        return f"user:{self.user}"


Claimant = User | SlotId | DeviceId


class Challenges:
    """Gives challenges out and takes each back once."""

    def __init__(self, *, seconds: float, clock: Clock, random: Callable[[int], bytes]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        # All live equally long, so the oldest is always the first.
        self._open: dict[bytes, tuple[Claimant, float]] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._open)

    def give(self, claimant: Claimant) -> bytes:
        """A fresh challenge. The oldest goes if there are too many."""
        challenge = self._random(CHALLENGE_BYTES)
        now = self._clock.monotonic()
        with self._lock:
            self._drop_ended(now)
            self._open[challenge] = (claimant, now + self._seconds)
        return challenge

    def take(self, challenge: bytes) -> Claimant | None:
        """Who claimed to be whom; None if it was never given, was used, or has ended."""
        with self._lock:
            claimant, ends = self._open.pop(challenge, (None, 0.0))
        return claimant if self._clock.monotonic() < ends else None

    def _drop_ended(self, now: float) -> None:
        while self._open:
            oldest = next(iter(self._open))
            if self._open[oldest][1] > now and len(self._open) < MOST_CHALLENGES:
                return
            del self._open[oldest]
