"""Cases of sections 6 and 7: the shape of trees, and where content is cut.

The trees are built here a second time, with everything in memory, from what the page says.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from blake3 import blake3
from pyfastcdc import FastCDC

from tests.vectors.case import Case
from tests.vectors.node_cases import child, entry, extent, extents_leaf, file, inner, leaf, part
from tests.vectors.record_cases import SECRET, id_of
from tests.vectors.wire import NODE, derive, keyed, secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.vectors.case import Value

KIB, MIB = 1024, 1024 * 1024
# (id, first key, entries, bytes)
Item = tuple[bytes, bytes, int, int]
# (directory, name, extents of a file or None for a pipe); an extent is (chunk, offset, length)
Row = tuple[bytes, bytes, list[tuple[bytes, int, int]] | None]
FACTOR = 18410750438167365632


def cases() -> Iterator[Case]:
    yield from _bundles()
    yield from _cuts()
    yield from _trees()
    yield from _extent_trees()


# --- section 7 -----------------------------------------------------------------------------------


def thresholds() -> list[int]:
    kept = [2**64]
    while len(kept) < 513:
        kept.append(kept[-1] * FACTOR // 2**64)
    return [2**64 - k for k in kept]


def bundle_files(seed: str) -> list[tuple[int, bytes]]:
    """2,000 small files: size and content hash."""
    files: list[tuple[int, bytes]] = []
    for number in range(2000):
        found = blake3(f"{seed} {number}".encode()).digest()
        (size,) = struct.unpack_from("<I", found, 28)
        files.append((size % (512 * KIB) >> size % 10, found))
    return files


def _bundles() -> Iterator[Case]:
    if int(2**64 * math.exp(-1 / 512)) != FACTOR:
        raise ValueError("the factor is not the one of the page")
    table = thresholds()
    yield Case(
        "bundle/thresholds",
        "T(0) to T(512), in hexadecimal.",
        {"expect": "ok", "thresholds": [f"{each:x}" for each in table]},
    )
    held, first, ends = 0, 0, list[int]()
    sizes = list[int]()
    for number, (size, found) in enumerate(bundle_files("bundle")):
        if held and held + size > 4 * MIB:
            ends.append(number - first)
            sizes.append(held)
            held, first = 0, number
        held += size
        number_of_hash = int.from_bytes(found[:8], "little")
        if held >= 512 * KIB and number_of_hash < table[-(-size // 1024)]:
            ends.append(number + 1 - first)
            sizes.append(held)
            held, first = 0, number + 1
    yield Case(
        "bundle/boundaries",
        "How many of 2,000 small files (`bundle_files`) share each bundle, and its size.",
        {"expect": "ok", "seed": "bundle", "files": ends, "sizes": sizes},
    )


def cut_data(seed: str, length: int, period: int) -> bytes:
    """Bytes that look random; with a period they repeat."""
    if not period:
        return blake3(seed.encode()).digest(length)
    return (blake3(seed.encode()).digest(period) * (length // period + 1))[:length]


def _cuts() -> Iterator[Case]:
    (number,) = struct.unpack("<Q", derive("chunker seed", SECRET)[:8])
    for name, about, length, period in (
        ("random", "Bytes without a pattern.", 24 * MIB + 123, 0),
        ("periodic", "The same 100,000 bytes again and again.", 9 * MIB, 100_000),
        ("constant", "One byte again and again: nowhere to cut.", 9 * MIB + 1, 1),
        ("short", "Less than a chunk.", 512 * KIB, 0),
        ("empty", "Nothing.", 0, 0),
    ):
        cdc = FastCDC(
            MIB,
            min_size=256 * KIB,
            max_size=4 * MIB,
            normalized_chunking=1,
            seed=number & (2**63 - 1),
        )
        data = memoryview(cut_data(name, length, period))
        cuts = [len(chunk.data) for chunk in cdc.cut_buf(data)] if length else list[int]()
        fields: dict[str, Value] = {"expect": "ok", "domain_secret": SECRET, "seed": name}
        fields |= {"length": length, "period": period, "cuts": cuts}
        yield Case(f"chunker/{name}", about, fields)


# --- section 6 -----------------------------------------------------------------------------------


def rows(recipe: str) -> list[Row]:
    """The entries of a tree, in key order, by the name of its recipe."""
    return sorted(RECIPES[recipe](), key=lambda row: row[0] + b"\0" + row[1])


def _chunks(label: str, count: int) -> list[tuple[bytes, int, int]]:
    return [(secret(f"{label} {number}"), number, 100 + number) for number in range(count)]


def _mixed() -> Iterator[Row]:
    """5,000 files in directories of every depth up to four, two of three in bundles."""
    for number in range(5000):
        found = blake3(f"mixed {number}".encode()).digest()
        directory = b"".join(b"%c\0" % (97 + byte % 5) for byte in found[: number % 5])
        bundle = (secret(f"bundle {number // 60}"), number % 60 * 1000, 1 + found[9])
        yield directory, b"%d-%d" % (found[8], number), [bundle] if number % 3 else None


def _deep() -> Iterator[Row]:
    """800 directories in each other, with names of 250 bytes: paths weigh more than entries."""
    directory = b""
    for number in range(800):
        name = b"%03d" % number + b"d" * 247
        yield directory, name, None
        directory += name + b"\0"


def _heavy() -> Iterator[Row]:
    """300 files of 60 extents each: leaves end because of their extents."""
    for number in range(300):
        yield b"big\0", b"%04d" % number, _chunks(f"heavy {number % 7}", 60)


RECIPES: dict[str, Callable[[], Iterator[Row]]] = {
    "empty": lambda: iter(()),
    "single": lambda: iter([(b"", b"alone", None)]),
    "few": lambda: ((b"a\0", b"%d" % number, _chunks("few", 2)) for number in range(24)),
    "mixed": _mixed,
    "wide": lambda: ((b"w\0", b"%05d" % number, None) for number in range(20_000)),
    "deep": _deep,
    "heavy": _heavy,
}


def _ends(level: int, key: bytes, among: int) -> bool:
    found = keyed(derive("node boundary", SECRET), bytes([level]) + key)
    return bool(struct.unpack_from("<I", found)[0] < 2**32 // among)


def _leaf_item(found: list[Row]) -> tuple[Item, bytes, list[bytes]]:
    table = sorted({chunk for _, _, data in found for chunk, _, _ in data or ()})
    parts: dict[bytes, list[bytes]] = {}
    size = 0
    for directory, name, data in found:
        if data is None:
            encoded = entry(name)
        else:
            length = sum(each[2] for each in data)
            size += length
            runs = (extent(table.index(chunk), at, run) for chunk, at, run in data)
            encoded = file(name, length, *runs)
        parts.setdefault(directory, []).append(encoded)
    plaintext = leaf(*(part(directory, *below) for directory, below in parts.items()))
    first = found[0][0] + b"\0" + found[0][1] if found else b""
    return (id_of(plaintext, NODE, table), first, len(found), size), plaintext, table


def _leaves(found: list[Row]) -> Iterator[list[Row]]:
    held: list[Row] = []
    weight = extents = 0
    for directory, name, data in found:
        held.append((directory, name, data))
        extents += len(data or ())
        weight += 64 + len(directory) + len(name) + 48 * len(data or ())
        full = len(held) == 400 or weight >= 512 * KIB or extents >= 4096
        if full or (len(held) >= 25 and _ends(0, directory + b"\0" + name, 75)):
            yield held
            held, weight, extents = [], 0, 0
    if held or not found:
        yield held


def _above(items: list[Item], level: int, ends: Callable[[int, Item], bool]) -> list[Item]:
    """The inner nodes of one level."""
    made: list[Item] = []
    held: list[Item] = []
    for number, item in enumerate(items):
        held.append(item)
        weight = sum(64 + len(key) for _, key, _, _ in held)
        full = len(held) == 1024 or (len(held) > 1 and weight >= 512 * KIB)
        is_last = number == len(items) - 1
        if full or is_last or (len(held) >= 32 and ends(level, item)):
            table = sorted({each[0] for each in held})
            children = (child(table.index(i), key, count, size) for i, key, count, size in held)
            plaintext = inner(level, *children)
            totals = sum(each[2] for each in held), sum(each[3] for each in held)
            made.append((id_of(plaintext, NODE, table), held[0][1], *totals))
            held = []
    return made


def _up(items: list[Item], ends: Callable[[int, Item], bool]) -> list[list[Item]]:
    """All levels, from the leaves to the root."""
    levels = [items]
    while len(levels[-1]) > 1:
        levels.append(_above(levels[-1], len(levels), ends))
    return levels


def _trees() -> Iterator[Case]:
    for recipe in RECIPES:
        items = [_leaf_item(held)[0] for held in _leaves(rows(recipe))]
        levels = _up(items, lambda level, item: _ends(level, item[1], 96))
        root = levels[-1][0]
        yield Case(
            f"tree/{recipe}",
            f"Number of nodes of each level from the leaves up, and the root. {_says(recipe)}",
            {
                "expect": "ok",
                "domain_secret": SECRET,
                "recipe": recipe,
                "root": root[0],
                "nodes": [len(level) for level in levels],
                "count": root[2],
                "size": root[3],
            },
        )


def _says(recipe: str) -> str:
    return " ".join((RECIPES[recipe].__doc__ or "").split())


def run_of_extents(count: int, kinds: int) -> list[tuple[bytes, int, int]]:
    """A large file's extents; `kinds` of chunks take turns."""
    return [(secret(f"run {number % kinds}"), 0, MIB + number % 1000) for number in range(count)]


def _tail_ends(chunk: bytes) -> bool:
    return bool(struct.unpack("<I", chunk[-4:])[0] < 2**32 // 96)


def _extent_trees() -> Iterator[Case]:
    for name, about, count, kinds in (
        ("least", "One more than an entry holds.", 65, 65),
        ("thousand", "Different chunks.", 1000, 1000),
        ("same", "One chunk again and again.", 3000, 1),
        ("many", "Three levels.", 12_000, 9_000),
    ):
        found = run_of_extents(count, kinds)
        leaves: list[Item] = []
        held: list[tuple[bytes, int, int]] = []
        for number, run in enumerate(found):
            held.append(run)
            full = len(held) == 1024 or number == count - 1
            if full or (len(held) >= 32 and _tail_ends(run[0])):
                table = sorted({each[0] for each in held})
                index = {chunk: place for place, chunk in enumerate(table)}
                plaintext = extents_leaf(*(extent(index[c], o, n) for c, o, n in held))
                size = sum(each[2] for each in held)
                leaves.append((id_of(plaintext, NODE, table), b"", len(held), size))
                held = []
        levels = _up(leaves, lambda _level, item: _tail_ends(item[0]))
        yield Case(
            f"extents/{name}",
            about,
            {
                "expect": "ok",
                "domain_secret": SECRET,
                "count": count,
                "kinds": kinds,
                "root": levels[-1][0][0],
                "nodes": [len(level) for level in levels],
                "content_hash": _list_hash(found),
            },
        )


def _list_hash(extents: list[tuple[bytes, int, int]]) -> bytes:
    listed = b"".join(chunk + struct.pack("<II", at, length) for chunk, at, length in extents)
    return keyed(derive("content list", SECRET), listed)
