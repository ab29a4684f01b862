"""Where a client's files lie, and the one way to write those that hold secrets.

`BACKIT_HOME` holds everything when it is set; else it is the folders that the system gives a
person. Folders are 0700, files 0600, and a file is replaced whole or not at all. What stands in the
files is for others: `profile`, `device`, `login`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from backit.errors import Invalid, NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "backit"
DEFAULT_PROFILE = "default"
PROFILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600


@dataclass(frozen=True, slots=True)
class Home:
    """The four folders of one person on one machine."""

    config: Path
    state: Path
    cache: Path
    runtime: Path

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> Home:
        """The folders that this environment names; nothing is made yet."""
        if root := environment.get("BACKIT_HOME"):
            # Absolute, because programs change their directory.
            home = Path(root).absolute()
            return cls(home / "config", home / "state", home / "cache", home / "run")
        state = platformdirs.user_state_path(PROGRAM)
        return cls(
            platformdirs.user_config_path(PROGRAM),
            state,
            platformdirs.user_cache_path(PROGRAM),
            _runtime_folder(environment) or state / "run",
        )

    def profile(self, name: str) -> Path:
        """The profile itself: no secrets."""
        return self.config / "profiles" / f"{checked_name(name)}.json"

    def device(self, name: str) -> Path:
        """The keys of this machine as a device."""
        return self.state / "devices" / f"{checked_name(name)}.json"

    def key_file(self, name: str) -> Path:
        """The slot secret of a full device."""
        return self.state / "keys" / f"{checked_name(name)}.json"

    def request(self, name: str) -> Path:
        """An enrolment that waits to be approved."""
        return self.state / "requests" / f"{checked_name(name)}.json"

    def seen(self, name: str) -> Path:
        """The newest statements that this machine has seen."""
        return self.state / "seen" / f"{checked_name(name)}.json"

    def login(self, name: str) -> Path:
        """An unlocked account, until logout."""
        return self.runtime / f"{checked_name(name)}.json"

    def cache_folder(self, name: str) -> Path:
        """What a device keeps between its backups."""
        return self.cache / checked_name(name)


def checked_name(name: str) -> str:
    """A profile's name, safe as a file name. Raises Invalid."""
    if not PROFILE_NAME.fullmatch(name):
        raise Invalid(
            f"profile {name[:80]!r}: a name has 1 to 64 letters, digits, '.', '_' or '-', "
            "and does not begin with '.' or '-'"
        )
    return name


def _runtime_folder(environment: Mapping[str, str]) -> Path | None:
    """A folder in memory that only this user can open, if the machine has one."""
    if given := environment.get("XDG_RUNTIME_DIR"):
        return Path(given) / PROGRAM
    session = Path("/run/user") / str(os.getuid())
    if session.is_dir():
        return session / PROGRAM
    shared = Path("/dev/shm")  # noqa: S108 - the folder below it is ours alone, or refused
    return shared / f"{PROGRAM}-{os.getuid()}" if shared.is_dir() else None


def make_private_folder(folder: Path) -> None:
    """Make a folder, with its parents, that only we can enter.

    Raises Refused if it is somebody else's or a link: what lies in it would not be private.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Refused(f"{folder} is not a folder of this user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(PRIVATE_FOLDER)


def write_private(path: Path, content: bytes) -> None:
    """Make the file have this content, whole or not at all, readable by us alone.

    Order: content, sync, rename, sync of the folder; a crash leaves the old file or the new one.
    """
    make_private_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - an open descriptor, not a path
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_private(path: Path) -> bytes:
    """A file's content. Raises NotFound; Refused if others can read or change it."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise Refused(f"{path} holds secrets, but others can read it or own it")
            return file.read()
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None


def remove_private(path: Path) -> bool:
    """Take a file away; False if there was none."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)
        return True
    return False


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
