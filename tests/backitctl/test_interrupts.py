"""Ctrl-C: whatever a command waits for, it ends, and leaves nothing half done."""

from __future__ import annotations

import random
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import programs
from tests.patience import until
from tests.system.wire import Way, tapped

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.programs import Box, Person
    from tests.system.wire import Wire

MIB = 1 << 20
# A stream that hangs is noticed after 80 seconds, so less shows that nobody waited for that.
PATIENCE = 70.0
# What the box has sent when a command is in the middle of things: connected, or deep in content.
EARLY, DEEP = 1_000, 2 * MIB


@contextmanager
def hanging(
    person: Person, wire: Wire, after: int, *arguments: str | Path
) -> Generator[subprocess.Popen[bytes]]:
    """A command that waits for a box which says nothing more after so many bytes."""
    wire.hold(Way.TO_CLIENT, after)
    with person.popen(*arguments) as process:
        try:
            assert wire.wait_held(process), process.communicate()
            yield process
        finally:
            process.kill()
            wire.cut()


def interrupted(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGINT) -> str:
    """What it said when it was told to end, and did."""
    process.send_signal(number)
    _output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    return errors.decode()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One large file, which does not compress, and a few small ones."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "large").write_bytes(random.Random(1).randbytes(8 * MIB))
    for number in range(20):
        (folder / f"small {number}").write_text(f"{number}")
    return folder


@pytest.fixture
def saved(box: Box, anna: Person, tree: Path, user: str) -> Person:
    """Somebody whose tree has been saved, and who is logged in."""
    anna.ctl("backup", tree)
    anna.ctl("login", user)
    return anna


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_restore_ends_while_the_box_hangs(
    box: Box, saved: Person, tree: Path, tmp_path: Path, number: signal.Signals
) -> None:
    target = tmp_path / "out"
    with tapped(box.port) as wire:
        saved.ctl("pair", wire.address, "--trust-first-use")
        place = f"latest:{tree}"
        with hanging(saved, wire, DEEP, "restore", place, "--to", target) as process:
            assert "interrupted" in interrupted(process, number)
        for file in target.iterdir():
            assert file.read_bytes() == (tree / file.name).read_bytes(), "half a file"
        saved.ctl("restore", place, "--to", target)
    assert {file.name for file in target.iterdir()} == {file.name for file in tree.iterdir()}


@pytest.mark.parametrize(
    ("after", "arguments"),
    [
        (EARLY, ("snapshots",)),
        (EARLY, ("status",)),
        (DEEP, ("check", "--read-data")),
        (100_000, ("cat", "latest:{tree}/large")),
    ],
    ids=["snapshots", "status", "check", "cat"],
)
def test_reading_ends_while_the_box_hangs(
    box: Box, saved: Person, tree: Path, after: int, arguments: tuple[str, ...]
) -> None:
    with tapped(box.port) as wire:
        saved.ctl("pair", wire.address, "--trust-first-use")
        words = [word.format(tree=tree) for word in arguments]
        with hanging(saved, wire, after, *words) as process:
            interrupted(process)


@pytest.mark.parametrize("after", [EARLY, 3_000, 5_000])
def test_saving_ends_while_the_box_hangs(box: Box, anna: Person, tree: Path, after: int) -> None:
    with tapped(box.port) as wire:
        anna.ctl("pair", wire.address, "--trust-first-use")
        with hanging(anna, wire, after, "backup", tree) as process:
            interrupted(process)


WAITING = """
import threading
from backitctl.interrupts import INTERRUPTS
INTERRUPTS.listen()
try:
    print("waiting", flush=True)
    with INTERRUPTS.at_once():
        threading.Event().wait()
finally:
    print("tidying up", flush=True)
    threading.Event().wait()
"""

# A connection whose end waits for a lock that nobody unlocks.
HANGING = """
import threading
from backitctl.interrupts import INTERRUPTS
class Connection:
    def hurry(self):
        print("hurrying", flush=True)
        threading.Event().wait()
INTERRUPTS.listen()
with INTERRUPTS.hurrying(Connection()):
    print("working", flush=True)
    threading.Event().wait()
"""


@contextmanager
def program(text: str) -> Generator[subprocess.Popen[str]]:
    """A Python program in a process of its own."""
    command = [str(programs.BIN / "python"), "-c", text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize(
    ("text", "lines"),
    [(WAITING, ["waiting\n", "tidying up\n"]), (HANGING, ["working\n", "hurrying\n"])],
    ids=["tidying up", "a connection that does not end"],
)
def test_a_second_interrupt_waits_for_nothing(text: str, lines: list[str]) -> None:
    with program(text) as process:
        assert said(process) == lines[0]
        process.send_signal(signal.SIGINT)
        assert said(process) == lines[1]

        def has_ended() -> bool:
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        until(has_ended, "a second interrupt ends it")
    assert process.returncode == 130


@pytest.mark.parametrize("text", [WAITING, HANGING], ids=["tidying up", "a hanging connection"])
def test_what_does_not_end_by_itself_is_ended(text: str) -> None:
    hasty = "from backitctl import interrupts\ninterrupts.PATIENCE_SECONDS = 0.5\n"
    with program(hasty + text) as process:
        said(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


# Python raises by itself wherever the program is: here, with the lock locked.
LOCKED = """
import signal, threading
from backitctl.interrupts import INTERRUPTS
INTERRUPTS.listen()
lock = threading.Lock()
lock.acquire()
signal.raise_signal(signal.SIGINT)
lock.release()
print("not raised", flush=True)
try:
    INTERRUPTS.check()
except KeyboardInterrupt:
    print("raised", flush=True)
INTERRUPTS.check()
print("once", flush=True)
"""


def test_an_interrupt_is_raised_only_where_that_is_safe() -> None:
    with program(LOCKED) as process:
        assert [said(process) for _ in range(3)] == ["not raised\n", "raised\n", "once\n"]


def test_an_interrupted_password_command_does_not_outlive_its_question(
    box: Box, anna: Person, tmp_path: Path
) -> None:
    """Interrupted by the command itself: as soon as it is begun, maybe before we know of it."""
    assert box.state
    process_number = tmp_path / "process"
    command = f"sh -c 'echo $$ > {process_number}; kill -INT $PPID; exec sleep 600'"
    anna.environment |= {"BACKIT_PASSWORD_FILE": "", "BACKIT_PASSWORD_COMMAND": command}
    with anna.popen("password") as asking:
        _output, errors = asking.communicate(timeout=PATIENCE)
    assert asking.returncode == 130, errors
    assert not Path(f"/proc/{process_number.read_text().strip()}").exists()
