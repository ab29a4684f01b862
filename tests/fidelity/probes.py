"""What a directory's filesystem, the kernel and this user can do, found out by doing it.

A probe that fails means "not offered"; what must be offered where is said by a test.
"""

import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from tests.fidelity import generate_xattrs, inode_flags
from tests.fidelity.registry import Need

_FICLONE = 0x40049409


class NotOffered(Exception):
    """The filesystem said yes and did something else."""


def offered(directory: Path) -> frozenset[Need]:
    """Tell which needs are met in `directory`, which is left as it was."""
    found = {Need.ROOT} if os.geteuid() == 0 else set[Need]()
    if shutil.which("git"):
        found.add(Need.GIT)
    for need, probe in _PROBES.items():
        path = directory / f"probe {need.name}"
        try:
            path.touch()
            probe(path)
        except (OSError, NotOffered):
            pass
        else:
            found.add(need)
        finally:
            path.unlink(missing_ok=True)
    return frozenset(found)


def _xattr(name: str, value: bytes) -> Callable[[Path], None]:
    return lambda path: os.setxattr(path, name, value)


def _flag(*flags: inode_flags.Flag) -> Callable[[Path], None]:
    def probe(path: Path) -> None:
        for flag in flags:
            inode_flags.change_path(path, add=flag)
            inode_flags.change_path(path, drop=flag)

    return probe


def _trusted(path: Path) -> None:
    _xattr("trusted.probe", b"1")(path)
    path.unlink()
    path.symlink_to("nowhere")
    os.setxattr(path, "trusted.probe", b"1", follow_symlinks=False)


def _devices(major: int, minor: int) -> Callable[[Path], None]:
    def probe(path: Path) -> None:
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            path.unlink()
            os.mknod(path, kind | 0o600, os.makedev(major, minor))

    return probe


def _huge_file(path: Path) -> None:
    os.truncate(path, 8 << 40)


def _long_symlink(path: Path) -> None:
    path.unlink()
    path.symlink_to("t" * 4095)


def _wide_times(path: Path) -> None:
    for second in (-(2**31) + 1, 13_569_465_600):
        moment = second * 10**9 + 123_456_789
        os.utime(path, ns=(0, moment))
        if path.stat().st_mtime_ns != moment:
            raise NotOffered(f"{moment} became {path.stat().st_mtime_ns}")


def _reflink(path: Path) -> None:
    twin = path.with_name(f"{path.name} twin")
    path.write_bytes(bytes(8192))
    try:
        with path.open("rb") as source, twin.open("wb") as target:
            fcntl.ioctl(target, _FICLONE, source.fileno())
    finally:
        twin.unlink()


_PROBES: dict[Need, Callable[[Path], None]] = {
    Need.DEVICES: _devices(1, 3),
    Need.LARGE_DEVICE_NUMBERS: _devices(2**12 - 1, 2**20 - 1),
    Need.USER_XATTRS: _xattr("user.probe", bytes(3900)),
    Need.TRUSTED_XATTRS: _trusted,
    Need.BIG_XATTRS: _xattr("user.probe", bytes(65_536)),
    Need.ACLS: _xattr(generate_xattrs.ACCESS, generate_xattrs.usual_acl(1, 1, mask=7)),
    Need.CAPABILITIES: _xattr(generate_xattrs.CAPABILITY, generate_xattrs.capability(1)),
    Need.FLAGS: _flag(inode_flags.Flag.NODUMP, inode_flags.Flag.NOATIME, inode_flags.Flag.SYNC),
    Need.IMMUTABLE: _flag(inode_flags.Flag.IMMUTABLE, inode_flags.Flag.APPEND),
    Need.NOCOW: _flag(inode_flags.Flag.NOCOW),
    Need.HUGE_FILES: _huge_file,
    Need.LONG_SYMLINKS: _long_symlink,
    Need.WIDE_TIMES: _wide_times,
    Need.REFLINKS: _reflink,
}
