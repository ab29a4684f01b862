"""Daemons for tests: one in this process with a clock that stands still, and the real program."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backitd.config import Config, LimitSettings, LoginSettings
from backitd.server import Daemon
from tests.backitd.clients import Client
from tests.backitd.clocks import FakeClock
from tests.backitd.people import Machine, Person

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# Tests log in often; what the limits themselves promise has tests of its own.
GENEROUS = Config(
    open_signup=True,
    login=LoginSettings(address_burst=1_000_000, name_burst=1_000_000),
    limits=LimitSettings(stop_seconds=5.0),
)
# Longer than anything takes, even on a machine that is stopped for a minute.
WAIT = 100.0


MEMORY = Path("/dev/shm")
ROOM = 4 << 30


@contextmanager
def short_folder(*, in_memory: bool = False) -> Generator[Path]:
    """The path of a socket has to be short, and pytest's folders are not.

    A store has hundreds of folders, which a disk is slow to make and to remove; in memory, if there
    is room, a test that does not care about the disk takes half as long.
    """
    fits = in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix="backit-", dir=MEMORY if fits else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass
class Box:
    """A daemon in this process, on a unix socket."""

    state: Path
    clock: FakeClock
    daemon: Daemon
    config: Config
    addresses: list[str]
    clients: list[Client] = field(default_factory=list[Client])

    def client(self) -> Client:
        client = Client(self.addresses[0])
        self.clients.append(client)
        return client

    def admin(self) -> Client:
        client = Client(f"unix:{self.state}/admin.sock")
        self.clients.append(client)
        return client

    def person(self, user: str = "alice") -> tuple[Person, Client]:
        """Somebody who has just signed up and logged in."""
        person = Person(user)
        client = self.client()
        client.sign_up(person)
        client.log_in(person)
        return person, client

    def machine(self, person: Person, client: Client) -> tuple[Machine, Client]:
        """A device of that person, logged in."""
        machine = person.machine()
        client.put(machine.statements())
        own = self.client()
        own.log_in_machine(machine)
        return machine, own


@contextmanager
def box(config: Config = GENEROUS, state: Path | None = None) -> Generator[Box]:
    """A running one; in `state`, if that is to outlive it."""
    with short_folder(in_memory=True) as folder:
        state = state or folder / "state"
        state.mkdir(exist_ok=True)
        config = replace(config, listen=config.listen or (f"unix:{folder}/s",))
        clock = FakeClock()
        daemon = Daemon(state, config, clock=clock, random=secrets.token_bytes)
        running: Box | None = None
        try:
            running = Box(state, clock, daemon, config, daemon.start())
            yield running
        finally:
            for client in running.clients if running else ():
                client.channel.close()
            daemon.stop()


class Program:
    """The program `backitd` in a process of its own, with the lines that it logs."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._heard = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "backitd", *arguments],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.lines.append(line)
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line of the log in which the pattern is found."""
        with self._heard:
            self._heard.wait_for(lambda: self._ended or re.search(pattern, self.log), WAIT)
            found = re.search(pattern, self.log)
        assert found, f"{pattern!r} was not logged, but:\n{self.log}"
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(WAIT)
        self._listener.join()
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def program(*arguments: str, environment: dict[str, str] | None = None) -> Generator[Program]:
    running = Program(*arguments, environment=environment)
    try:
        yield running
    finally:
        running.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    """Raises if that takes longer than it ever should."""
    event = threading.Event()
    for _ in range(int(WAIT / 0.01)):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError(f"never came true: {condition}")
