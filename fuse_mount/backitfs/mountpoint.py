"""The folder that is mounted over: made ready before, given back after, whatever happened between.

Knows the kernel's list of mounts and the two programs that change it for people without rights
(fusermount3). A path is never touched before the list says that nothing dead is mounted there:
looking at a dead mount fails, and looking at our own before it answers waits for ever.
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backit.errors import Conflict, Invalid, NotFound, Refused

KIND = "fuse.backitfs"
MOUNTS = Path("/proc/self/mountinfo")
PASS_ON = Path("/etc/fuse.conf")
READ_AHEAD = "/sys/class/bdi/{device}/read_ahead_kb"
# As much as one request may ask for, and about a chunk: around a page of a mapped file that is
# missing the kernel reads so much at random places too.
READ_AHEAD_KIB = 1024
PROGRAM_SECONDS = 30.0

_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """Something that is mounted: `device` is "major:minor", `kind` the type of the file system."""

    path: bytes
    kind: str
    device: str


def mounts() -> list[Mount]:
    """Everything that is mounted here, in order: the last one at a path covers the others."""
    found: list[Mount] = []
    for line in MOUNTS.read_bytes().splitlines():
        fields = line.split(b" ")
        path = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
        kind = fields[fields.index(b"-") + 1]
        found.append(Mount(path, kind.decode(errors="replace"), fields[2].decode()))
    return found


def mounted_at(folder: Path) -> Mount | None:
    """What is on top at a folder."""
    wanted = os.fsencode(folder)
    return next((each for each in reversed(mounts()) if each.path == wanted), None)


def place_of(folder: Path) -> Path:
    """The folder's real path; its last component, which may be dead, is not looked at."""
    whole = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would look at it
    return whole.parent.resolve() / whole.name if whole.name else whole


def prepare(folder: Path) -> Path:
    """Make a folder ready to be mounted over; gives its real path.

    What a mount that crashed left there is taken away first. Raises NotFound, Invalid, and Conflict
    if something living of ours is mounted there.
    """
    place = place_of(folder)
    while (found := mounted_at(place)) is not None and found.kind == KIND:
        if is_alive(place):
            raise Conflict(f"{place}: a snapshot is mounted there already")
        detach(place)
    try:
        place = place.resolve(strict=True)
    except FileNotFoundError:
        raise NotFound(f"{folder}: there is no such folder") from None
    if not place.is_dir():
        raise Invalid(f"{folder} is not a folder")
    if any(place.iterdir()):
        raise Invalid(f"{folder} is not empty")
    return place


def is_alive(place: Path) -> bool:
    """Whether a program still answers for a mount. Asked by another process: it may hang.

    By statfs, which the kernel never answers itself.
    """
    command = ["stat", "--file-system", "--format=", "--", str(place)]
    try:
        done = subprocess.run(  # noqa: S603 - coreutils, with a path of the person's own
            command, capture_output=True, timeout=PROGRAM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True  # busy is not dead
    return done.returncode == 0


def detach(place: Path) -> None:
    """Take a mount away at once, whoever still uses it. Raises Refused."""
    _fusermount("-u", "-z", str(place))


def unmount(folder: Path) -> None:
    """Take a mount of ours away. Raises NotFound if there is none, Conflict while it is in use."""
    place = place_of(folder)
    found = mounted_at(place)
    if found is None or found.kind != KIND:
        resolved = place.resolve()
        found = mounted_at(resolved)
        if found is None or found.kind != KIND:
            raise NotFound(f"{folder}: no snapshots are mounted there")
        place = resolved
    if not is_alive(place):
        detach(place)
        return
    try:
        _fusermount("-u", str(place))
    except Refused as error:
        if "busy" in str(error):
            users = ", ".join(users_of(place)) or "a program of another user"
            raise Conflict(
                f"unmounting {place}: it is in use by {users}; end that or leave the folder, then "
                "try again"
            ) from None
        raise


def users_of(place: Path) -> list[str]:
    """The programs that have something below a mount open or are in it, as "name (process)".

    Those of other users are seen by root alone.
    """
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        # One that ends meanwhile, or that we may not look at, is none that can be named.
        with suppress(OSError):
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            if any(_leads_below(link, place) for link in links):
                found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
    return found


def _leads_below(link: Path, place: Path) -> bool:
    """By the link's text: the mount itself is not looked at."""
    try:
        return link.readlink().is_relative_to(place)
    except OSError:
        return False


class Guard:
    """Waits for the death of this process, to take its mount away: a small process of its own.

    libfuse has one too (auto_unmount), but that gives up where somebody still uses the mount.
    """

    SCRIPT = """
        read -r word || stat --file-system --format= -- "$1" || exec fusermount3 -u -z -- "$1"
    """

    def __init__(self, place: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the system's shell, with our own words
            ["/bin/sh", "-c", self.SCRIPT, "sh", str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # what ends us must not end it
        )

    def dismiss(self) -> None:
        """The mount has been taken away."""
        with suppress(BrokenPipeError):
            self._process.communicate(b"done\n")


def let_others_in() -> None:
    """Raises Refused if this user may not let others into a mount."""
    if os.geteuid() == 0:
        return
    try:
        lines = PASS_ON.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if not any(line.split("#")[0].strip() == "user_allow_other" for line in lines):
        raise Refused(
            f"letting other users in: only root may, or everybody once {PASS_ON} says "
            "user_allow_other"
        )


def read_further_ahead(place: Path) -> bool:
    """Have the kernel ask for a MiB at once, not 128 KiB. Only root may; False if not done."""
    found = mounted_at(place)
    if found is None:
        return False
    try:
        Path(READ_AHEAD.format(device=found.device)).write_text(
            str(READ_AHEAD_KIB), encoding="ascii"
        )
    except OSError:
        return False
    return True


def _fusermount(*arguments: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the system's own, with a path of the person's
            ["fusermount3", *arguments],  # noqa: S607 - it lies where the system has it
            capture_output=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"running fusermount3: {error}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().removeprefix("fusermount3: ")
        raise Refused(f"unmounting {arguments[-1]}: {said}")
