"""A backup that is mounted for the time of one measurement, and what is read through it.

Knows mounts and readers; which tool mounts is in `peers.py`.
"""

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.peers import Peer
from tests.bench.processes import BenchError, Command, log_tail, started
from tests.bench.rows import Action

_START_SECONDS = 120
_STOP_SECONDS = 60
_ESCAPED_BLANK = "\\040"
# What each row does with the folder $1. A pipe, because tar does not read for /dev/null.
_READERS: dict[Action, str] = {
    "mount-walk": 'exec find "$1"/ -ls > /dev/null',
    "mount-tar": 'tar -C "$1" -cf - . | cat > /dev/null',
    "mount-copy": 'exec cp -a "$1"/. "$4"',
    "mount-read": 'find "$1"/ -type f -exec cat {} + > /dev/null',
    "mount-random": 'exec "$2" "$3" "$1"',
}
_RANDOM_READS = Path(__file__).with_name("random_reads.py")


def reader(action: Action, seen: Path, target: Path, log: Path) -> Command:
    """What is timed: a program of the system that reads below the folder `seen`; what it writes
    goes below the empty folder `target`.
    """
    words = (str(seen), sys.executable, str(_RANDOM_READS), str(target))
    argv = ("sh", "-c", _READERS[action], "sh", *words)
    return Command(argv, {"PATH": "/usr/bin:/bin"}, target, log)


@contextmanager
def mounted(peer: Peer, folder: Path) -> Generator[int]:
    """Mount over the new `folder` for a block that is given the process that answers."""
    folder.mkdir()
    command = peer.mount(folder)
    with started(command) as process:
        try:
            _wait_for(process, folder, command)
            yield process.pid
        finally:
            subprocess.run(("fusermount3", "-u", "-z", str(folder)), check=False)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    folder.rmdir()


def _wait_for(process: subprocess.Popen[bytes], folder: Path, command: Command) -> None:
    deadline = time.monotonic() + _START_SECONDS
    wanted = f" {str(folder).replace(' ', _ESCAPED_BLANK)} fuse"
    while wanted not in Path("/proc/mounts").read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"{command.argv[0]} did not mount{log_tail(command.log)}")
        time.sleep(0.02)
