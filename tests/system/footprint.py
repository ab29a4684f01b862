"""How much memory programs hold while they run, looked at from outside, again and again.

Counted is what is nobody else's: anonymous memory of a process and of all that it has started,
and, once, what these share (RssAnon and RssShmem of /proc/PID/status). Pages of files, such as the
libraries that every Python program maps, are the kernel's to take back, and are not counted.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Generator, Iterator, Sequence

    from tests.programs import Person

SAMPLE_MS = 20
KIB = 1024


def family(pid: int) -> Iterator[int]:
    """A process and all it has started, as long as they run."""
    yield pid
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from family(int(child))


def held(pid: int) -> int:
    """Bytes that a process and its children hold at this moment; 0 once they have ended."""
    own, shared = 0, 0
    for each in family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = _status(each)
            own += fields.get("RssAnon", 0)
            shared = max(shared, fields.get("RssShmem", 0))
    return own + shared


def peak(pid: int) -> int:
    """The most that one process ever had resident, by the kernel's own books; files included."""
    return _status(pid)["VmHWM"]


def _status(pid: int) -> dict[str, int]:
    """The sizes among a process's figures, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    words = [line.split() for line in lines if line.endswith(" kB")]
    return {name.rstrip(":"): int(size) * KIB for name, size, _unit in words}


def watch(person: Person, *arguments: str | Path) -> int:
    """Run a command that ends well; the most it held."""
    return watch_all([(person, arguments)])[0]


def watch_all(commands: Sequence[tuple[Person, Sequence[str | Path]]]) -> list[int]:
    """Run commands at the same time, all of which end well; the most that each held."""
    with ExitStack() as stack:
        running: list[subprocess.Popen[bytes]] = []
        for person, arguments in commands:
            running.append(stack.enter_context(person.popen(*arguments)))
            stack.callback(running[-1].kill)
        most = _sample(running)
        for each in running:
            output, errors = each.communicate()
            assert each.returncode == 0, (output[-2000:], errors[-2000:])
    return most


@contextmanager
def watching(pid: int) -> Generator[Callable[[], int]]:
    """Look at a process for as long as the block runs; what is given says the most it held."""
    most = held(pid)
    ended = threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(SAMPLE_MS / 1000):
            most = max(most, held(pid))

    thread = threading.Thread(target=look, name="footprint")
    thread.start()
    try:
        yield lambda: most
    finally:
        ended.set()
        thread.join()


def _sample(running: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Look at all until the last has ended."""
    most = [0] * len(running)
    poller = select.poll()
    ends = {os.pidfd_open(each.pid): at for at, each in enumerate(running)}
    for end in ends:
        poller.register(end, select.POLLIN)
    while ends:
        for at in ends.values():
            most[at] = max(most[at], held(running[at].pid))
        for end, _event in poller.poll(SAMPLE_MS):
            poller.unregister(end)
            os.close(end)
            del ends[end]
    return most
