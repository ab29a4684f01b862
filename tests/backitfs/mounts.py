"""The real mount: backitctl mounts, a process answers, the kernel asks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.patience import until
from tests.programs import Failed, Person

if TYPE_CHECKING:
    from collections.abc import Generator

# What a caller waits for at the most, on a machine that stops for a minute.
LOOK_SECONDS = 170


@dataclass(frozen=True)
class Mounted:
    """A mount, its process and its log."""

    folder: Path
    process: int
    log: Path

    @property
    def latest(self) -> Path:
        """The newest snapshot of the only machine."""
        (device,) = self.folder.iterdir()
        return device / "latest"

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.process, how)
        self.wait()

    def wait(self) -> None:
        """Wait until the process has ended."""
        until(lambda: not alive(self.process), "the end of backitfs")


@contextlib.contextmanager
def mounted(person: Person, folder: Path, *arguments: str | Path) -> Generator[Mounted]:
    """Mount for as long as the block runs; nothing is left behind, whatever happens in it."""
    found = mount(person, folder, *arguments)
    try:
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.process, signal.SIGTERM)
        found.wait()
        until(lambda: not is_mounted(folder), "nothing mounted any more")


def mount(person: Person, folder: Path, *arguments: str | Path) -> Mounted:
    """Mount and leave it."""
    said = person.ctl("--json", "mount", folder, *arguments).json
    return Mounted(Path(said["mounted"]), int(said["process"]), Path(said["log"]))


def is_mounted(folder: Path) -> bool:
    escaped = str(folder).replace(" ", "\\040")
    return f" {escaped} fuse.backitfs " in Path("/proc/mounts").read_text()


def alive(process: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] != "Z"


def look(*command: str | Path, expect: int = 0) -> str:
    """What another program makes of a mount, in a process of its own: a mount may hang."""
    done = subprocess.run(
        command, capture_output=True, timeout=LOOK_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    if done.returncode != expect:
        raise Failed(f"{command}: exit {done.returncode}\n{said[-3000:]}")
    return said
