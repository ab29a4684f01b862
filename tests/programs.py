"""The real programs, as people use them: a box that runs backitd, people with backitctl.

Nothing here looks inside: state is a folder, talk is argv, environment, output and exit codes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.patience import NeverCame, until

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

BIN = Path(sys.executable).parent
BACKITD = BIN / "backitd"
BACKITCTL = BIN / "backitctl"
COMMAND_SECONDS = 170.0
# Characters of what a command said, where a test fails.
SHOWN = 3_000


class Failed(AssertionError):
    """A program did not end as the test expected."""


@dataclass
class Box:
    """An appliance: one state folder, one backitd at a time."""

    folder: Path
    arguments: tuple[str, ...] = ("--open-signup",)
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def socket(self) -> Path:
        return self.folder / "backitd.sock"

    @property
    def log(self) -> Path:
        return self.folder / "backitd.log"

    @property
    def unix(self) -> str:
        return f"unix:{self.socket}"

    @property
    def tcp(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start backitd and wait until it answers on both listeners."""
        listens = ("--listen", self.unix, "--listen", self.tcp)
        command = (
            *self.prefix,
            str(BACKITD),
            "--state",
            str(self.state),
            *listens,
            *self.arguments,
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._has_started, "backitd answers, or has ended")
        if self.process.poll() is not None:
            raise Failed(f"backitd did not start:\n{self.log_text()}")

    def stop(self) -> int:
        """End backitd as systemd would; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End backitd as a power cut would."""
        self._end(signal.SIGKILL)

    def rebuild(self) -> int:
        """Make the databases again while backitd does not run; returns the exit code."""
        command = (str(BACKITD), "rebuild", "--state", str(self.state))
        with self.log.open("ab") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        return done.returncode

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _has_started(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            return True  # and ended: there is nothing to wait for
        return _answers(str(self.socket)) and _answers(("127.0.0.1", self.port))

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            until(lambda: process.poll() is not None, "backitd ends")
        except NeverCame:
            process.kill()
            raise Failed(f"backitd did not end:\n{self.log_text()}") from None
        finally:
            code = process.wait()
        return code


@dataclass(frozen=True)
class Output:
    """What a command printed."""

    code: int
    text: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of a command that reports as it goes."""
        return [json.loads(line) for line in self.text.splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        """The JSON lines of one kind."""
        return [line for line in self.events if line.get("event") == event]

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON line that comes last."""
        (found,) = self.named("summary")
        return found

    @property
    def reason(self) -> str:
        """Why a command with --json failed, in one word."""
        return str(json.loads(self.errors.splitlines()[-1])["error"]["reason"])


@dataclass
class Person:
    """Somebody at a machine: a home for client state, and a password."""

    home: Path
    password: str = "correct horse battery staple"
    environment: dict[str, str] = field(default_factory=dict[str, str])
    # A program that starts backitctl, and its arguments.
    prefix: tuple[str, ...] = ()
    user: str = ""
    patience: float = COMMAND_SECONDS

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.write_password(self.password)

    def write_password(self, password: str) -> None:
        """What the password file says from now on."""
        self.password = password
        file = self.home.with_name(self.home.name + ".password")
        file.touch(0o600)
        file.write_text(password + "\n")

    @property
    def variables(self) -> Mapping[str, str]:
        mine = {
            "BACKIT_HOME": str(self.home),
            "BACKIT_PASSWORD_FILE": str(self.home.with_name(self.home.name + ".password")),
        }
        return {**os.environ, **mine, **self.environment}

    def popen(self, *arguments: str | bytes | Path) -> subprocess.Popen[bytes]:
        """Start backitctl and leave it running."""
        return subprocess.Popen(
            (*self.prefix, str(BACKITCTL), *arguments),
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ctl(self, *arguments: str | bytes | Path, expect: int | Sequence[int] = 0) -> Output:
        """Run backitctl to its end. Raises Failed for an exit code that was not expected."""
        done = subprocess.run(
            (*self.prefix, str(BACKITCTL), *arguments),
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=self.patience,
            check=False,
        )
        output = Output(
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        expected = (expect,) if isinstance(expect, int) else expect
        if output.code not in expected:
            command = " ".join(str(argument) for argument in arguments)
            said = f"{output.text[:SHOWN]}\n{output.errors[-SHOWN:]}"
            raise Failed(f"backitctl {command}: exit {output.code}\n{said}")
        return output

    def joins(self, address: str, user: str = "anna", *options: str) -> None:
        """Pair with a box and sign up."""
        self.ctl("pair", address, "--trust-first-use")
        self.ctl("signup", user, *options)
        self.user = user

    def logs_in(self) -> None:
        """Keep the account open: later commands need no password, and no time for it."""
        self.ctl("login", self.user)

    def backup(
        self, *arguments: str | bytes | Path, expect: int | Sequence[int] = 0
    ) -> dict[str, Any]:
        """Back up; returns the summary."""
        return self.ctl("--json", "backup", *arguments, expect=expect).summary

    def restore(
        self,
        place: str,
        target: Path,
        *options: str,
        expect: int | Sequence[int] = 0,
    ) -> Output:
        """Bring SNAPSHOT:PATH back into a folder."""
        return self.ctl("--json", "restore", place, "--to", target, *options, expect=expect)

    def snapshots(self) -> list[dict[str, Any]]:
        return list(self.ctl("--json", "snapshots").json["snapshots"])


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Generator[Box]:
    """A box that runs while the block does."""
    folder.mkdir(parents=True, exist_ok=True)
    box = Box(folder, ("--open-signup", *arguments))
    try:
        box.start()
        yield box
    finally:
        box.stop()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(address: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
    return True
