"""Trees whose difficulty is their shape: deeper than a path can say, wider than memory likes."""

import os
import random
from collections.abc import Iterable
from pathlib import Path

from tests.fidelity.registry import generator

_TOO_DEEP = "rsync stops at PATH_MAX"


@generator(beyond_rsync=_TOO_DEEP)
def deep_long_names(root: Path, rng: random.Random) -> None:
    """Forty levels of long names: the path is 10,000 bytes, PATH_MAX is 4,096."""
    _dig(root, [b"%02d" % level + b"d" * 248 for level in range(40)], rng)


@generator(beyond_rsync=_TOO_DEEP)
def deep_short_names(root: Path, rng: random.Random) -> None:
    """Three thousand levels: no stack of calls or of descriptors goes that far."""
    _dig(root, [b"d"] * 3_000, rng)


def _dig(root: Path, names: Iterable[bytes], rng: random.Random) -> None:
    """Nest directories, with something to keep in the first, in every tenth and in the last."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    at = os.open(root, flags)
    try:
        for level, name in enumerate(names):
            if level % 10 == 0:
                _leave(at, b"file", rng)
                os.symlink(b"file", b"link", dir_fd=at)
            os.mkdir(name, dir_fd=at)
            below = os.open(name, flags, dir_fd=at)
            os.close(at)
            at = below
        _leave(at, b"last", rng)
        os.link(b"last", b"again", src_dir_fd=at, dst_dir_fd=at)
        os.mkdir(b"empty", mode=0o711, dir_fd=at)
    finally:
        os.close(at)


def _leave(at: int, name: bytes, rng: random.Random) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640, dir_fd=at)
    try:
        os.write(fd, rng.randbytes(100))
    finally:
        os.close(fd)


@generator()
def wide_directory(root: Path, rng: random.Random) -> None:
    """Twenty thousand names in one directory, made in no order."""
    _widen(root, rng, 20_000)


@generator(heavy=True)
def wide_directory_full(root: Path, rng: random.Random) -> None:
    """A million names in one directory."""
    _widen(root, rng, 1_000_000)


def _widen(root: Path, rng: random.Random, count: int) -> None:
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(count):
            name = b"%016x" % rng.getrandbits(64)
            os.mknod(name, 0o644, dir_fd=at)
        os.mkdir(b"and a directory", dir_fd=at)
        _leave(at, b"and a file", rng)
    finally:
        os.close(at)


@generator()
def empty_directories(root: Path, rng: random.Random) -> None:
    """Directories with nothing in them, nested and side by side, of many modes and times."""
    modes = (0o700, 0o755, 0o750, 0o711, 0o777, 0o1777, 0o2755, 0o500)
    for number in range(40):
        (root / f"e{number:02}" / "empty").mkdir(parents=True)
        os.utime(root / f"e{number:02}" / "empty", ns=(0, rng.randrange(10**18)))
    for mode in modes:
        path = root / f"mode_{mode:o}"
        path.mkdir()
        path.chmod(mode)
