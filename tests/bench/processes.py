"""Starting programs so that none is ever left behind: the command, its log, interruptions.

Knows processes and signals; how long they took is in `measure.py`.
"""

import os
import signal
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# What a person or a supervisor stops the benchmark with; each is raised as KeyboardInterrupt.
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOG_TAIL = 2000


class BenchError(Exception):
    """The benchmark cannot go on: a program is missing, failed, or gave wrong bytes back."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run; what it prints is added to the file `log`."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path


def start(command: Command) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that a Ctrl-C at the terminal reaches only us."""
    with command.log.open("ab") as log:
        return subprocess.Popen(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def started(command: Command) -> Generator[subprocess.Popen[bytes]]:
    """Start it for a block that waits for its end. If the block fails, it is killed."""
    process: subprocess.Popen[bytes] | None = None
    try:
        with interruptions_deferred():
            process = start(command)
        yield process
    except BaseException:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise


@contextmanager
def interruptions_deferred() -> Generator[None]:
    """Hold interruptions back until the end of the block, then raise KeyboardInterrupt.

    Without it, one that arrives while a process is being started leaves a process that nobody
    knows of. Blocking the signals instead would block them in the new process too.
    """
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    before = {number: signal.signal(number, note) for number in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


def log_tail(log: Path) -> str:
    """The end of a log, indented on lines of its own; empty if nothing was logged."""
    text = log.read_text(errors="replace")[-_LOG_TAIL:].strip() if log.exists() else ""
    return "".join(f"\n    {line}" for line in text.splitlines())
