"""The programs that are compared: one class for each, all with the same small interface.

They say which commands to run on which repository; `measure.py` runs them.
"""

import contextlib
import secrets
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from tests.bench.datasets import allocated
from tests.bench.measure import measure
from tests.bench.processes import BenchError, Command
from tests.bench.servers import LOOPBACK, Certificate, Server, free_port

INSTALL_PEERS = Path(__file__).with_name("install-peers")
ADD_SNAPSHOTS = Path(__file__).with_name("add_snapshots.py")
_THEN_SYNC = 'target="$1"; shift; "$@" && exec sync --file-system "$target"'
_MOUNT_AND_LIST = 'backitctl mount "$1" && ls "$1"/*'


@dataclass(frozen=True, slots=True)
class Facts:
    """What to know of a tool beside its figures.

    `settings` says what was chosen for it, `durable` what is on the disk when a backup has ended.
    """

    name: str
    version: str
    settings: str
    durable: str


class Peer(ABC):
    """One tool with one repository of its own in `folder`, which holds all of its state too.

    `prepare` makes the repository and starts what serves it; `close` stops that.
    """

    name: ClassVar[str]
    settings: ClassVar[str]
    durable: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]

    def __init__(self, binaries: Path, folder: Path) -> None:
        """Make the folder; `binaries` is where the tool's programs are."""
        self._binaries = binaries
        self._folder = folder
        self._server: Server | None = None
        self._secret = folder / "password"
        self._repository = folder / "repository"
        for made in (folder, folder / "home", folder / "tmp"):
            made.mkdir()
        self._secret.touch(mode=0o600)
        self._secret.write_text(secrets.token_urlsafe(24))

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def backup(self, source: Path) -> Command: ...

    @abstractmethod
    def restore(self, target: Path) -> Command:
        """Put the newest backup below the empty folder `target`, and on disk."""

    @abstractmethod
    def mount(self, folder: Path) -> Command:
        """Show the backups below the empty folder; runs until `unmount`."""

    @abstractmethod
    def mounted(self, folder: Path) -> Path:
        """Where the newest backup is to be seen in a mount."""

    @property
    def repository(self) -> Path:
        return self._repository

    @property
    def servers(self) -> Sequence[int]:
        """Ids of the processes whose CPU and memory count beside the command's."""
        return () if self._server is None else self._server.pids

    def repository_size(self) -> int:
        return allocated(self._repository)

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()

    @classmethod
    def facts(cls, binaries: Path) -> Facts:
        """Ask the programs for their versions; BenchError if one is missing."""
        version = ", ".join(_version(binaries / name) for name in cls.programs)
        return Facts(cls.name, version, cls.settings, cls.durable)

    def _command(self, program: str, *arguments: str | Path, cwd: Path | None = None) -> Command:
        return Command(
            (str(self._binaries / program), *map(str, arguments)),
            {
                "PATH": f"{self._binaries}:/usr/local/bin:/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "HOME": str(self._folder / "home"),
                "TMPDIR": str(self._folder / "tmp"),
                **self._environment(),
            },
            cwd or self._folder,
            self._folder / f"{program}.log",
        )

    @abstractmethod
    def _environment(self) -> dict[str, str]: ...


def synced(command: Command, target: Path) -> Command:
    """The same of a program that leaves its restore in the page cache: ends when it is on disk."""
    return replace(command, argv=("sh", "-c", _THEN_SYNC, "sh", str(target), *command.argv))


class Restic(Peer):
    name = "restic"
    settings = "rest-server on loopback, TLS, no login; defaults otherwise (zstd)"
    durable = "rest-server syncs each file and its folder before it answers"
    programs = ("restic", "restic-rest-server")

    _certificate: Certificate
    _port: int

    def prepare(self) -> None:
        self._certificate = Certificate.make(self._folder)
        self._port = free_port()
        serve = self._command(
            "restic-rest-server",
            *("--path", self._repository, "--listen", f"{LOOPBACK}:{self._port}", "--no-auth"),
            *("--tls", "--tls-cert", self._certificate.certificate),
            *("--tls-key", self._certificate.key),
        )
        self._server = Server(serve, self._port)
        self._server.start()
        measure(self._restic("init"))

    def backup(self, source: Path) -> Command:
        return self._restic("backup", source)

    def restore(self, target: Path) -> Command:
        return synced(self._restic("restore", "latest", "--target", target), target)

    def mount(self, folder: Path) -> Command:
        return self._restic("mount", folder)

    def mounted(self, folder: Path) -> Path:
        return folder / "snapshots" / "latest"

    def _restic(self, *arguments: str | Path) -> Command:
        repository = f"rest:https://{LOOPBACK}:{self._port}/"
        certificate = self._certificate.certificate
        return self._command(
            "restic", "--quiet", "--repo", repository, "--cacert", certificate, *arguments
        )

    def _environment(self) -> dict[str, str]:
        return {"RESTIC_PASSWORD_FILE": str(self._secret)}


class Borg(Peer):
    name = "borg"
    settings = "repository in a local folder, no server; repokey-blake2; zstd,3 as the others"
    durable = "borg syncs each segment and its folder before the commit"
    programs = ("borg",)

    _backups = 0

    def prepare(self) -> None:
        measure(self._command("borg", "init", "--encryption=repokey-blake2", self._repository))

    def backup(self, source: Path) -> Command:
        self._backups += 1
        return self._command("borg", "create", "--compression=zstd,3", self._newest(), source)

    def restore(self, target: Path) -> Command:
        return synced(self._command("borg", "extract", self._newest(), cwd=target), target)

    def mount(self, folder: Path) -> Command:
        return self._command("borg", "mount", "--foreground", self._newest(), folder)

    def mounted(self, folder: Path) -> Path:
        return folder

    def _newest(self) -> str:
        return f"{self._repository}::backup-{self._backups}"

    def _environment(self) -> dict[str, str]:
        return {
            "BORG_BASE_DIR": str(self._folder / "home"),
            "BORG_PASSCOMMAND": f"cat {self._secret}",
        }


class BackIT(Peer):
    name = "backit"
    settings = "backitd on loopback, TLS, login; defaults otherwise (zstd)"
    durable = "backitd syncs packs, their folder and the snapshot before it answers"
    programs = ("backitctl", "backitd", "backitfs")

    def prepare(self) -> None:
        port = free_port()
        address = f"tcp:{LOOPBACK}:{port}"
        listen = ("--listen", address, "--listen", f"unix:{self._folder / 'socket'}")
        serve = self._command("backitd", "--state", self._repository, *listen, "--open-signup")
        self._server = Server(serve, port)
        self._server.start()
        measure(self._command("backitctl", "pair", address, "--trust-first-use"))
        measure(self._command("backitctl", "signup", "bench"))

    def backup(self, source: Path) -> Command:
        return self._command("backitctl", "backup", source)

    def restore(self, target: Path) -> Command:
        return self._command("backitctl", "restore", "latest", "--to", target)

    def mount(self, folder: Path) -> Command:
        # Logged in, so that backitfs itself is what runs and is measured.
        measure(self.login())
        return self._command("backitfs", "mount", folder, "latest")

    def mounted(self, folder: Path) -> Path:
        return folder

    def login(self) -> Command:
        return self._command("backitctl", "login", "bench")

    def mount_and_list(self, folder: Path) -> Command:
        """As a person does it: mount all snapshots and look at them; the mount stays."""
        command = self._command("backitctl")
        return replace(command, argv=("sh", "-c", _MOUNT_AND_LIST, "sh", str(folder)))

    def unmount(self, folder: Path) -> Command:
        return self._command("backitctl", "umount", folder)

    def add_snapshots(self, count: int) -> Command:
        """So many more of the tree that was saved last."""
        return self._command("python", ADD_SNAPSHOTS, str(count))

    def _environment(self) -> dict[str, str]:
        return {
            "BACKIT_HOME": str(self._folder / "home"),
            "BACKIT_PASSWORD_FILE": str(self._secret),
        }


# In the order in which they take turns.
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Restic, Borg, BackIT)}


def binaries_of(name: str, peers_folder: Path) -> Path:
    """The folder of a tool's programs: for BackIT that of the Python that runs us."""
    return Path(sys.executable).parent if name == BackIT.name else peers_folder / "bin"


def install_peers(peers_folder: Path) -> None:
    """Fetch what is missing of the other tools; raises BenchError if that fails."""
    with contextlib.suppress(BenchError):
        for peer in (Restic, Borg):
            peer.facts(peers_folder / "bin")
        return
    argv = (str(INSTALL_PEERS), str(peers_folder))
    done = subprocess.run(argv, stdout=sys.stderr, check=False)
    if done.returncode:
        raise BenchError(f"{INSTALL_PEERS.name}: exit status {done.returncode}")


def _version(program: Path) -> str:
    word = "version" if program.name == "restic" else "--version"
    try:
        done = subprocess.run((str(program), word), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"{program}: can't be run: {error}") from error
    return done.stdout.strip().splitlines()[0]
