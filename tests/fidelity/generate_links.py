"""Trees of things that are not plain files: hard links, symlinks, FIFOs, sockets, devices."""

import os
import random
import stat
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase

from tests.fidelity.registry import Need, generator


@generator()
def hard_links(root: Path, rng: random.Random) -> None:
    """Groups of names for one file, inside a directory and across many, shuffled."""
    folders = [root / f"d{number}" for number in range(8)]
    for folder in folders:
        folder.mkdir()
    for group in range(12):
        first = rng.choice(folders) / f"g{group}_first"
        first.write_bytes(rng.randbytes(group * 5_000))
        for number in range(rng.randrange(1, 12)):
            os.link(first, rng.choice(folders) / f"g{group}_{number}")
    farm = root / "farm"
    farm.mkdir()
    (farm / "000").write_bytes(b"one of many")
    for number in range(1, 300):
        os.link(farm / "000", farm / f"{number:03}")
    # Equal bytes are not the same file: these must stay apart.
    for name in ("twin_a", "twin_b"):
        (root / name).write_bytes(b"equal, not linked")
    (root / "empty_a").touch()
    os.link(root / "empty_a", root / "empty_b")


@generator()
def hard_links_of_specials(root: Path, rng: random.Random) -> None:
    """Second names of symlinks and FIFOs, in other directories too."""
    (root / "inner").mkdir()
    for number in range(5):
        (root / f"symlink{number}").symlink_to(f"target {rng.random()}")
        os.mkfifo(root / f"fifo{number}")
        for kind in ("symlink", "fifo"):
            first = root / f"{kind}{number}"
            os.link(first, root / f"{kind}{number}_again", follow_symlinks=False)
            os.link(first, root / "inner" / f"{kind}{number}", follow_symlinks=False)


@generator()
def symlinks(root: Path, rng: random.Random) -> None:
    """Dangling, absolute, looping, to directories, out of the tree, and targets of odd bytes."""
    (root / "file").write_bytes(rng.randbytes(100))
    (root / "folder").mkdir()
    (root / "folder" / "inside").write_bytes(rng.randbytes(100))
    targets: dict[str, bytes] = {
        "to_file": b"file",
        "to_folder": b"folder",
        "to_folder_slash": b"folder/",
        "through": b"to_folder/inside",
        "dangling": b"no such thing",
        "absolute": b"/etc/passwd",
        "absolute_dangling": b"/no/such/thing",
        "root": b"/",
        "dot": b".",
        "parent": b"..",
        "far_out": b"../../../../../../../../../etc",
        "loop_a": b"loop_b",
        "loop_b": b"loop_a",
        "itself": b"itself",
        "proc": b"/proc/self/exe",
        "not_utf8": b"\xff\xfe/\x80",
        "new_line": b"a\nb",
        "spaces": b" a  b ",
        "slashes": b"folder//.//inside",
        "option": b"--delete",
        "of_1000": b"t" * 1000,
        "of_1023": b"/".join([b"u" * 127] * 8),
    }
    for name, target in targets.items():
        (root / name).symlink_to(os.fsdecode(target))
    (root / "folder" / "up").symlink_to("../file")


@generator(Need.LONG_SYMLINKS)
def symlinks_of_4095_bytes(root: Path, rng: random.Random) -> None:
    """The longest targets there are, and the lengths at which filesystems change their ways."""
    for length in (58, 59, 60, 61, 1024, 2048, 4000, 4094, 4095):
        (root / f"of_{length}").symlink_to("".join(rng.choices(ascii_lowercase, k=length)))


@generator()
def fifos(root: Path, rng: random.Random) -> None:
    """FIFOs of several modes; whoever opens one waits for ever."""
    for mode in (0o600, 0o644, 0o622, 0o777, 0o400):
        path = root / f"fifo_{mode:o}"
        os.mkfifo(path)
        path.chmod(mode)
        os.utime(path, ns=(0, rng.randrange(10**18)))


@generator()
def sockets(root: Path, rng: random.Random) -> None:
    """Sockets beside a file that must come back; the sockets themselves may be only reported."""
    (root / "beside").write_bytes(rng.randbytes(100))
    (root / "only_a_socket").mkdir()
    for path in (root / "socket", root / "only_a_socket" / "inner"):
        os.mknod(path, stat.S_IFSOCK | 0o755)


@generator(Need.ROOT, Need.DEVICES)
def devices(root: Path, rng: random.Random) -> None:
    """Character and block devices with small, large and odd numbers, owners and second names."""
    _devices(root, rng, ((0, 0), (1, 3), (8, 1), (0, 255), (511, 0), (255, 256), (259, 2**18 - 1)))
    os.link(root / "c1_3", root / "c1_3_again")


@generator(Need.ROOT, Need.DEVICES, Need.LARGE_DEVICE_NUMBERS)
def devices_of_large_numbers(root: Path, rng: random.Random) -> None:
    """Major numbers of 12 bits and minor ones of 20, which xfs does not take."""
    _devices(root, rng, ((0, 2**20 - 1), (2**12 - 1, 2**20 - 1), (259, 2**18)))


def _devices(root: Path, rng: random.Random, numbers: Iterable[tuple[int, int]]) -> None:
    for major, minor in numbers:
        for letter, kind in (("c", stat.S_IFCHR), ("b", stat.S_IFBLK)):
            path = root / f"{letter}{major}_{minor}"
            os.mknod(path, kind | 0o600, os.makedev(major, minor))
            path.chmod(rng.choice((0o600, 0o660, 0o666, 0o400, 0)))
            os.chown(path, rng.randrange(70_000), rng.randrange(70_000))
            os.utime(path, ns=(0, rng.randrange(10**18)))
