"""A tree in which everything is a secret that occurs nowhere else, and a search for any of it."""

import base64
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backports import zstd

from tests.fidelity import probes
from tests.fidelity.registry import Need
from tests.system.trees import KIB, MIB, text

# Any 31 bytes of a secret content hold one of its windows whole.
WINDOW = 16
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass
class Canary:
    """What must never be seen: words, keys, and every window of every content."""

    words: set[bytes] = field(default_factory=set[bytes])
    windows: set[bytes] = field(default_factory=set[bytes])

    def word(self, rng: random.Random) -> str:
        """A new word, to be used as a name or the like."""
        made = "".join(rng.choices("bcdfghjkmnpqrstvwxz", k=14))
        self.words.add(made.encode())
        return made

    def content(self, data: bytes) -> bytes:
        """A new content, to be used as it is."""
        whole = len(data) - len(data) % WINDOW
        self.windows.update(data[at : at + WINDOW] for at in range(0, whole, WINDOW))
        return data

    def key(self, key: bytes) -> None:
        """A key, as it is and as programs write keys."""
        coded = (base64.b64encode, base64.urlsafe_b64encode)
        self.words |= {key, key.hex().encode(), *(code(key).rstrip(b"=") for code in coded)}

    def seen_in(self, data: bytes) -> list[str]:
        """What of it occurs in these bytes, or in compressed bytes among them."""
        found = [f"word {word!r}" for word in self.words if word in data]
        found += [f"content at {at}" for at in self._windows_in(data)]
        for plain in decompressed(data):
            found += [f"word {word!r}, compressed" for word in self.words if word in plain]
            found += [f"compressed content at {at}" for at in self._windows_in(plain)]
        return found

    def _windows_in(self, data: bytes) -> Iterator[int]:
        windows = self.windows
        return (at for at in range(len(data) - WINDOW + 1) if data[at : at + WINDOW] in windows)


def plant(root: Path, seed: object) -> Canary:
    """Fill an existing folder with secrets."""
    canary, rng = Canary(), random.Random(repr(seed))
    offers = probes.offered(root)
    for number in range(24):
        folder = root / canary.word(rng)
        folder.mkdir()
        size = rng.randrange(WINDOW, 40 * KIB)
        data = text(rng, size) if number % 2 else rng.randbytes(size)
        file = folder / canary.word(rng)
        file.write_bytes(canary.content(data))
        (folder / canary.word(rng)).symlink_to(canary.word(rng))
        if Need.USER_XATTRS in offers:
            os.setxattr(file, f"user.{canary.word(rng)}", canary.word(rng).encode())
    (root / canary.word(rng)).write_bytes(canary.content(rng.randbytes(MIB)))
    (root / canary.word(rng)).write_bytes(canary.content(text(rng, 700 * KIB)))
    return canary


def decompressed(data: bytes) -> Iterator[bytes]:
    """What every zstd frame in these bytes holds, as far as it can be read."""
    at = data.find(_ZSTD_MAGIC)
    while at >= 0:
        try:
            plain = zstd.ZstdDecompressor().decompress(data[at:], max_length=8 * MIB)
        except zstd.ZstdError:
            plain = b""
        if plain:
            yield plain
        at = data.find(_ZSTD_MAGIC, at + 1)


def files_below(*roots: Path) -> Iterable[Path]:
    """Every regular file."""
    for root in roots:
        yield from (path for path in sorted(root.rglob("*")) if path.is_file())
