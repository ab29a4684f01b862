"""Trees to back up: seeded, small, the usual and the unusual in them. Nothing here looks at one."""

import os
import random
from pathlib import Path

from tests.fidelity import mutations, probes

KIB = 1 << 10
MIB = 1 << 20
_SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "pra", "sti", "tor", "vel", "xan", "yed", "zim")


def plant(root: Path, seed: object, *, files: int = 60, large: int = 3 * MIB) -> None:
    """Fill an existing folder: small files in folders, half of them text, and one large file."""
    rng = random.Random(repr(seed))
    for number in range(files):
        folder = root / f"folder {number % 5}" / f"{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        size = rng.randrange(20 * KIB)
        data = text(rng, size) if number % 2 else rng.randbytes(size)
        (folder / f"file {number:04}").write_bytes(data)
    if large:
        (root / "large").write_bytes(rng.randbytes(large))


def plant_everything(root: Path, seed: object) -> None:
    """The same, and one of each thing that this place and user allow to make."""
    unusual = root / "unusual"
    unusual.mkdir()
    mutations.plant_specimen(unusual, probes.offered(unusual))
    odd = os.fsencode(root) + b"/caf\xe9 \n \x1b[31m"
    os.mkdir(odd)
    with open(odd + b"/" + b"n" * 255, "wb") as file:
        file.write(b"a name as long as it gets")
    plant(root, seed)


def random_bytes(seed: object, size: int) -> bytes:
    return random.Random(repr(seed)).randbytes(size)


def text(rng: random.Random, size: int) -> bytes:
    """Words that nobody uses, in lines; it compresses."""
    words = ["".join(rng.choices(_SYLLABLES, k=3)) for _ in range(200)]
    lines: list[str] = []
    length = 0
    while length < size:
        line = " ".join(rng.choices(words, k=8))
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines).encode()[:size]
