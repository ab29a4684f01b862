"""Places to plant trees in: the directory pytest gives, and filesystems made on loop devices.

Everything made here is gone afterwards: images are unlinked while they are mounted and their
loop devices detach themselves, so unmounting is all there is to do, even after a crash.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from tests.fidelity import inode_flags, manifest, probes, registry
from tests.fidelity.commands import CommandFailed, run
from tests.fidelity.registry import Need

HERE = "here"

# Inodes for the million names of the full target, three times over, need room on ext4.
_IMAGE_BYTES = (32 if registry.FULL else 4) << 30
_MAKERS: dict[str, tuple[str, ...]] = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-i", "8192"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
_LOOP = Path("/dev/loop-control")
_CAN_MOUNT = os.geteuid() == 0 and _LOOP.exists()
# Where filesystems can be mounted they stand in for the one that happens to be here.
KINDS = tuple(_MAKERS) if _CAN_MOUNT and not registry.FULL else (HERE, *_MAKERS)
_STUBBORN = inode_flags.Flag.IMMUTABLE | inode_flags.Flag.APPEND


class Unavailable(Exception):
    """This machine or user cannot have that filesystem; the text says why."""


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A directory to work in, on a filesystem whose abilities are known."""

    kind: str
    root: Path
    offers: frozenset[Need]


@contextlib.contextmanager
def place(kind: str, scratch: Path) -> Generator[Filesystem]:
    """Provide a filesystem of one of KINDS, using the empty directory `scratch`.

    Raises Unavailable where it cannot be had.
    """
    if kind == HERE:
        try:
            yield Filesystem(kind, scratch, probes.offered(scratch))
        finally:
            clear(scratch)
        return
    with _mounted(kind, scratch) as root:
        yield Filesystem(kind, root, probes.offered(root))


@contextlib.contextmanager
def _mounted(kind: str, scratch: Path) -> Generator[Path]:
    if os.geteuid() != 0:
        raise Unavailable(f"{kind}: loop mounts need root")
    if not _LOOP.exists():
        raise Unavailable(f"{kind}: there are no loop devices")
    maker = _MAKERS[kind]
    if shutil.which(maker[0]) is None:
        raise Unavailable(f"{kind}: {maker[0]} is not installed")
    image, root = scratch / "image", scratch / "root"
    root.mkdir()
    try:
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        run(*maker, image)
        try:
            run("mount", "-t", kind, "-o", "loop", image, root)
        except CommandFailed as error:
            raise Unavailable(f"{kind}: {error}") from error
    finally:
        image.unlink(missing_ok=True)
    try:
        yield root
    finally:
        _unmount(root)


def _unmount(root: Path) -> None:
    try:
        run("umount", root)
    except CommandFailed:
        # Something still sits in it: let it go as soon as that ends, and say so.
        run("umount", "--lazy", root)
        raise


def clear(directory: Path) -> None:
    """Empty a directory of anything a generator may have left in it, immutable files too."""
    for _, at, name in manifest.walk(directory):
        _loosen(at, name)
    run("rm", "-rf", "--one-file-system", "--", *directory.iterdir())


def _loosen(at: int, name: bytes) -> None:
    """Take away what would keep `rm` from its work: flags, and modes that shut the owner out."""
    status = os.stat(name, dir_fd=at, follow_symlinks=False)
    directory = stat.S_ISDIR(status.st_mode)
    if not directory and not stat.S_ISREG(status.st_mode):
        return
    if os.geteuid() == 0:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
        try:
            if inode_flags.read(fd) & _STUBBORN:
                inode_flags.change(fd, drop=_STUBBORN)
        finally:
            os.close(fd)
    elif directory:
        os.chmod(name, 0o700, dir_fd=at)
