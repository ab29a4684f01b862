"""Trees whose difficulty is what the files hold: sizes, repetition, compressibility and holes.

Names and metadata are plain here.
"""

import errno
import fcntl
import os
import random
from collections.abc import Iterable
from pathlib import Path

from tests.fidelity.registry import Need, generator

KIB = 1 << 10
MIB = 1 << 20
TIB = 1 << 40

# Where chunks, bundles, pages and blocks of any likely design begin and end.
BORDERS = (4 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB)
_FICLONE = 0x40049409  # linux/fs.h


@generator()
def sizes_at_borders(root: Path, rng: random.Random) -> None:
    """Files a byte below, at and above each border, and a few that are nowhere near one."""
    sizes = {border + step for border in BORDERS for step in (-1, 0, 1)}
    for size in sorted(sizes | {0, 1, 2, 511, 4095 * 3, 9 * MIB}):
        (root / f"{size:08}").write_bytes(rng.randbytes(size))


@generator()
def tiny_files(root: Path, rng: random.Random) -> None:
    """Two thousand files of up to 300 bytes, many of them empty."""
    _tiny(root, rng, 2_000)


@generator(heavy=True)
def tiny_files_full(root: Path, rng: random.Random) -> None:
    """As many small files as a small office has."""
    _tiny(root, rng, 100_000)


def _tiny(root: Path, rng: random.Random, count: int) -> None:
    for number in range(count):
        folder = root / f"{number % 50:02}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:06}").write_bytes(rng.randbytes(max(0, rng.randrange(-60, 300))))


@generator()
def duplicates(root: Path, rng: random.Random) -> None:
    """Equal files, and files that are equal up to or from some point, or shifted by a byte."""
    body = rng.randbytes(3 * MIB)
    for name in ("one", "two"):
        (root / name).write_bytes(body)
    (root / "longer").write_bytes(body + b"tail")
    (root / "shifted").write_bytes(b"x" + body)
    (root / "same_end").write_bytes(rng.randbytes(MIB) + body[MIB:])
    (root / "twice_in_one").write_bytes(body[:MIB] * 2)
    (root / "one_bit_off").write_bytes(bytes([body[0] ^ 1]) + body[1:])
    for number in range(100):
        (root / f"small_{number}").write_bytes(b"the same few words\n")


@generator()
def compressible(root: Path, rng: random.Random) -> None:
    """Text, long runs and mixtures: everything between nothing to save and nothing but that."""
    words = [rng.randbytes(rng.randrange(2, 9)).hex().encode() for _ in range(500)]
    (root / "text").write_bytes(b" ".join(rng.choices(words, k=150_000)))
    (root / "zeros_written").write_bytes(bytes(2 * MIB))
    (root / "ones").write_bytes(b"\xff" * (2 * MIB))
    (root / "period_7").write_bytes(b"BackIT\n" * 200_000)
    (root / "noise_then_zeros").write_bytes(rng.randbytes(MIB) + bytes(MIB))
    (root / "zeros_then_noise").write_bytes(bytes(MIB) + rng.randbytes(MIB))
    (root / "stripes").write_bytes(b"".join(rng.randbytes(4096) + bytes(4096) for _ in range(200)))


@generator()
def sparse_files(root: Path, rng: random.Random) -> None:
    """Holes at the start, in the middle, at the end, everywhere, and off every grid."""
    _sparse(root / "only_a_hole", rng, 64 * MIB, [])
    _sparse(root / "hole_first", rng, 8 * MIB, [(6 * MIB, 2 * MIB)])
    _sparse(root / "hole_last", rng, 64 * MIB, [(0, MIB)])
    _sparse(root / "hole_inside", rng, 16 * MIB, [(0, 70_000), (15 * MIB, MIB)])
    _sparse(root / "odd_borders", rng, 8 * MIB + 13, [(99_999, 12_345), (5_000_001, 7)])
    _sparse(root / "last_byte", rng, 32 * MIB, [(32 * MIB - 1, 1)])
    every_other = [(at, 64 * KIB) for at in range(0, 4 * MIB, 128 * KIB)]
    _sparse(root / "every_other", rng, 4 * MIB, every_other)
    comb = [(at, 4 * KIB) for at in range(0, 2 * MIB, 8 * KIB)]
    _sparse(root / "comb", rng, 2 * MIB, comb)
    _sparse(root / "small_hole", rng, 12 * KIB, [(0, 4 * KIB), (8 * KIB, 4 * KIB)])


@generator(Need.HUGE_FILES, beyond_rsync="rsync reads every byte of a hole")
def sparse_huge(root: Path, rng: random.Random) -> None:
    """8 TiB that take a few blocks: whoever reads or counts holes byte by byte never ends."""
    _sparse(root / "empty", rng, 8 * TIB, [])
    pieces = [(0, 5), (3 * TIB + 12_345, 100_000), (8 * TIB - 1, 1)]
    _sparse(root / "three_pieces", rng, 8 * TIB, pieces)


def _sparse(path: Path, rng: random.Random, size: int, pieces: Iterable[tuple[int, int]]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for at, length in pieces:
            file.seek(at)
            file.write(rng.randbytes(length))


@generator()
def preallocated(root: Path, rng: random.Random) -> None:
    """Room that was reserved and not written: it reads as zeros and need not be reserved again."""
    for name, size, written in (("untouched", MIB, 0), ("begun", 4 * MIB, 100_000)):
        with (root / name).open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                file.truncate(size)
            file.write(rng.randbytes(written))


@generator(Need.REFLINKS)
def shared_extents(root: Path, rng: random.Random) -> None:
    """Clones of one file, one of them changed in the middle."""
    original = root / "original"
    original.write_bytes(rng.randbytes(2 * MIB))
    for name in ("clone", "changed_clone"):
        with original.open("rb") as source, (root / name).open("wb") as target:
            fcntl.ioctl(target, _FICLONE, source.fileno())
    with (root / "changed_clone").open("r+b") as file:
        file.seek(MIB)
        file.write(b"no longer the same")
