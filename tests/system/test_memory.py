"""Memory does not grow with what is saved: a bound for the client, and one for the box."""

import os
import select
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import programs
from tests.programs import Box, Person
from tests.system.points import FULL
from tests.system.trees import MIB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(20_000 if FULL else 300)]

CLIENT_MAX = 300 * MIB
BOX_MAX = 400 * MIB
FEW, MANY = (1_000_000, 10_000_000) if FULL else (15_000, 90_000)
CLIENTS, EACH = (8, 512 * MIB) if FULL else (4, 112 * MIB)
# What one more file may cost at most: so little that it is noise, or a bounded cache that fills.
SLOPE = 400
PATIENCE = 15_000.0 if FULL else programs.COMMAND_SECONDS
SAMPLE_MS = 10


def peak(pid: int) -> int:
    """The greatest resident size a process has had, in bytes; 0 once it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def watch(person: Person, *arguments: str | Path) -> int:
    """Run a command that ends well; its peak."""
    return watch_all([(person, arguments)])[0]


def watch_all(commands: Sequence[tuple[Person, Sequence[str | Path]]]) -> list[int]:
    """Run commands at the same time, all of which end well; the peak of each."""
    with ExitStack() as stack:
        running: list[subprocess.Popen[bytes]] = []
        for person, arguments in commands:
            running.append(stack.enter_context(person.popen(*arguments)))
            stack.callback(running[-1].kill)
        peaks = _sample(running)
        for each in running:
            output, errors = each.communicate(timeout=60)
            assert each.returncode == 0, (output[-2000:], errors[-2000:])
    return peaks


def _sample(running: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Look at all until the last has ended."""
    peaks = [0] * len(running)
    poller = select.poll()
    ends = {os.pidfd_open(each.pid): at for at, each in enumerate(running)}
    for end in ends:
        poller.register(end, select.POLLIN)
    while ends:
        for at in ends.values():
            peaks[at] = max(peaks[at], peak(running[at].pid))
        for end, _event in poller.poll(SAMPLE_MS):
            poller.unregister(end)
            os.close(end)
            del ends[end]
    return peaks


def scattered(root: Path, count: int) -> None:
    """So many small files, a hundred to a folder."""
    for number in range(0, count, 100):
        folder = root / f"{number // 10_000}" / f"{number}"
        folder.mkdir(parents=True)
        fd = os.open(folder, os.O_DIRECTORY)
        for each in range(number, number + 100):
            _write(fd, b"%08d" % each)
        os.close(fd)


def crowded(root: Path, count: int) -> None:
    """So many small files in one folder."""
    fd = os.open(root, os.O_DIRECTORY)
    for number in range(count):
        _write(fd, b"%08d" % (number * 2_654_435_761 % 2**32))
    os.close(fd)


def _write(directory: int, name: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    os.write(fd, name * 4)
    os.close(fd)


@pytest.mark.parametrize("plant", [scattered, crowded], ids=lambda each: each.__name__)
def test_a_client_needs_no_more_memory_for_more_files(
    anna: Person, source: Path, plant: Callable[[Path, int], None]
) -> None:
    peaks: dict[int, list[int]] = {}
    for count in (FEW, MANY):
        folder = source / str(count)
        folder.mkdir()
        plant(folder, count)
        peaks[count] = [watch(anna, "backup", folder) for _ in ("first", "unchanged")]
    for few, many in zip(peaks[FEW], peaks[MANY], strict=True):
        assert many < CLIENT_MAX
        assert many - few < SLOPE * (MANY - FEW), peaks


def test_a_restore_needs_no_more_memory_for_more_files(
    anna: Person, source: Path, tmp_path: Path
) -> None:
    peaks: list[int] = []
    for count in (FEW, MANY):
        folder = source / str(count)
        folder.mkdir()
        scattered(folder, count)
        watch(anna, "backup", folder)
        target = tmp_path / f"restored {count}"
        peaks.append(watch(anna, "restore", f"latest:{folder}", "--to", target))
    assert peaks[1] < CLIENT_MAX
    assert peaks[1] - peaks[0] < SLOPE * (MANY - FEW), peaks


def test_many_clients_with_large_files_stay_within_bounds(
    box: Box, source: Path, tmp_path: Path
) -> None:
    people: list[Person] = []
    for number in range(CLIENTS):
        person = Person(tmp_path / f"home {number}", patience=PATIENCE)
        person.joins(box.tcp if number % 2 else box.unix, f"one of many, {number}")
        people.append(person)
        with (source / str(number)).open("wb") as file:
            # With a hole in its middle, which costs nothing.
            for at in range(0, EACH, MIB):
                file.seek(at if at < EACH // 2 else at + 1024 * MIB)
                file.write(os.urandom(MIB))
    commands = [(person, ("backup", source / str(n))) for n, person in enumerate(people)]
    peaks = watch_all(commands)
    assert max(peaks) < CLIENT_MAX, peaks
    assert box.process is not None
    assert peak(box.process.pid) < BOX_MAX
    restored = watch(people[0], "restore", f"latest:{source}/0", "--to", tmp_path / "restored")
    # Hashing the password alone takes 256 MiB, and its memory is given back before.
    assert restored < CLIENT_MAX + 256 * MIB
    assert peak(box.process.pid) < BOX_MAX
    assert (tmp_path / "restored" / "0").stat().st_size == (source / "0").stat().st_size
