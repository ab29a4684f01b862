"""A clock that a test moves, and randomness that it can foresee."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import count


@dataclass
class FakeClock:
    """Starts at a fixed moment and stands still until told otherwise."""

    time: float = 1_800_000_000.0
    running: float = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.running

    def forward(self, seconds: float) -> None:
        self.time += seconds
        self.running += seconds


@dataclass
class FakeRandom:
    """Bytes that differ from call to call and are the same in every run."""

    seed: str = "0"
    calls: count[int] = field(default_factory=count)

    def __call__(self, length: int) -> bytes:
        name = f"{self.seed}/{next(self.calls)}".encode()
        return hashlib.shake_256(name).digest(length)
