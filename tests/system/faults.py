"""Faults of a box's kernel, on order: a call of a running process fails, or is its last.

By strace, from outside: the program is the real one and knows nothing of it.
"""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

KILL = f"signal={signal.SIGKILL.name}"
# The calls by which a box changes its disk, and how often one thread of it surely makes each while
# a small tree is saved.
CALLS = {
    "writev": 5,
    "pwrite64": 12,
    "fallocate": 2,
    "ftruncate": 2,
    "fdatasync": 2,
    "linkat": 2,
    "fsync": 4,
}


@dataclass(frozen=True)
class Fault:
    """What becomes of the nth time that a thread makes a call; each thread counts for itself."""

    call: str
    nth: int
    # In strace's words: KILL, or "error=EIO".
    effect: str

    def __str__(self) -> str:
        return f"{self.call} {self.nth} {self.effect.partition('=')[2]}"


def each_call(effect: str, times: Callable[[int], Iterable[int]]) -> list[Fault]:
    """Every call, at the times that are chosen up to how often it surely comes."""
    return [Fault(call, nth, effect) for call, most in CALLS.items() for nth in times(most)]


@contextmanager
def injected(pid: int, fault: Fault, log: Path) -> Generator[None]:
    """Have it in store for a process while the block runs. Skips the test where nobody may."""
    command = ("strace", "-f", "-p", str(pid), "-o", str(log))
    orders = (
        *("-e", f"trace={fault.call}"),
        *("-e", f"inject={fault.call}:{fault.effect}:when={fault.nth}"),
    )
    with subprocess.Popen((*command, *orders), stderr=subprocess.PIPE, text=True) as tracer:
        try:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            if "Operation not permitted" in said:
                pytest.skip("nobody may trace a process here")
            assert "attached" in said, said
            yield
        finally:
            tracer.terminate()
            tracer.communicate()


def was_injected(log: Path) -> bool:
    return "(INJECTED)" in log.read_text(errors="replace")
