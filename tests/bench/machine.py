"""The machine that was measured, for the record: results mean nothing without it."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` are those that this process may use, `memory` is in bytes."""

    cpu: str
    cores: int
    memory: int
    kernel: str
    system: str
    file_system: str
    python: str

    @classmethod
    def look(cls, folder: Path) -> Self:
        """Describe this machine; the file system is the one that holds the folder."""
        return cls(
            cpu=_field(Path("/proc/cpuinfo"), "model name"),
            cores=len(os.sched_getaffinity(0)),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            kernel=platform.release(),
            system=platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
            file_system=_file_system(folder),
            python=platform.python_version(),
        )


def _field(file: Path, name: str) -> str:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return f"unknown ({platform.machine()})"  # ARM's cpuinfo has no such line


def _file_system(folder: Path) -> str:
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == wanted:
            return rest.split()[0]
    return "unknown"
