"""What a generator is, what it may need, and the list each of them joins.

The generators themselves live in the `generate_*` modules; `generators` gathers them.
"""

import enum
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Make = Callable[[Path, random.Random], None]

# The full target adds the trees that take minutes and gigabytes.
FULL = os.environ.get("BACKIT_FULL") == "1"


class Need(enum.Enum):
    """Something that not every user, kernel or filesystem has; the value says it in words."""

    ROOT = "root"
    DEVICES = "device nodes"
    LARGE_DEVICE_NUMBERS = "device numbers of 12 and 20 bits"
    USER_XATTRS = "user.* extended attributes"
    TRUSTED_XATTRS = "trusted.* extended attributes"
    BIG_XATTRS = "extended attributes of 64,000 bytes"
    ACLS = "POSIX access control lists"
    CAPABILITIES = "file capabilities"
    FLAGS = "inode flags"
    IMMUTABLE = "the inode flags +i and +a"
    NOCOW = "the inode flag +C"
    HUGE_FILES = "files of 8 TiB"
    LONG_SYMLINKS = "symlink targets of 4,095 bytes"
    WIDE_TIMES = "times from 1902 to 2400 in nanoseconds"
    REFLINKS = "shared extents"
    GIT = "the program git"


@dataclass(frozen=True, slots=True)
class Generator:
    """Makes one kind of tree inside a directory that exists and is empty."""

    name: str
    make: Make
    needs: frozenset[Need]
    heavy: bool
    """Only for the full target."""
    repeatable: bool
    """The same seed gives the same tree, times aside."""
    beyond_rsync: str
    """Why rsync can neither carry nor judge this tree; empty when it can."""

    def plant(self, root: Path, seed: int = 0) -> None:
        """Make the tree that `seed` stands for."""
        rng = random.Random(f"{self.name}/{seed}")
        self.make(root, rng)


_registered: dict[str, Generator] = {}


def generator(
    *needs: Need, heavy: bool = False, repeatable: bool = True, beyond_rsync: str = ""
) -> Callable[[Make], Make]:
    """Register a function under its own name."""

    def register(make: Make) -> Make:
        name = make.__name__
        if name in _registered:
            raise ValueError(f"two generators are named {name}")
        _registered[name] = Generator(name, make, frozenset(needs), heavy, repeatable, beyond_rsync)
        return make

    return register


def registered() -> tuple[Generator, ...]:
    """Every generator whose module was imported, by name; heavy ones in the full target only."""
    everyone = sorted(_registered.values(), key=lambda each: each.name)
    return tuple(each for each in everyone if FULL or not each.heavy)
