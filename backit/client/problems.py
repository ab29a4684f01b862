"""What could not be saved or restored as it was, path by path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# "failed": something that is there was not saved or restored whole. "skipped": something was left
# out on purpose, or has gone by itself, and nobody will miss it.
Severity = Literal["failed", "skipped"]

KEPT = 10_000


@dataclass(slots=True)
class Problems:
    """Counts every path with a problem and keeps the first KEPT reasons of each severity."""

    failures: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])
    failure_count: int = 0
    skips: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])
    skip_count: int = 0
    # Of the first KEPT: which paths have been counted, and what has been said of them.
    _counted: set[bytes] = field(default_factory=set[bytes])
    _said: set[tuple[bytes, str]] = field(default_factory=set[tuple[bytes, str]])

    def failed(self, path: bytes, why: str) -> None:
        """A path may fail again where something else is read of it: it counts once."""
        if path not in self._counted:
            self.failure_count += 1
            if len(self._counted) < KEPT:
                self._counted.add(path)
        if len(self.failures) < KEPT and (path, why) not in self._said:
            self._said.add((path, why))
            self.failures.append((path, why))

    def skipped(self, path: bytes, why: str) -> None:
        self.skip_count += 1
        if len(self.skips) < KEPT:
            self.skips.append((path, why))

    def report(self, path: bytes, why: str, severity: Severity) -> None:
        (self.failed if severity == "failed" else self.skipped)(path, why)
