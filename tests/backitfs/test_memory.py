"""A mount holds what `--cache` says and a bounded rest, whatever is read through it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.backitfs.mounts import Mounted, mounted
from tests.system.fields import crowded, fenced, scattered
from tests.system.footprint import watching
from tests.system.points import FULL
from tests.system.trees import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.programs import Person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(10_000 if FULL else 600)]

ENTRIES = 1_000_000 if FULL else 100_000
LARGE = 2048 * MIB if FULL else 256 * MIB
CACHE = 64 * MIB
# What the process needs besides: its programs and libraries, what is on its way, and what the
# kernel has names of and so may ask about again.
REST = 128 * MIB


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Path]:
    """Where many small files can be planted."""
    with fenced(tmp_path, ENTRIES) as found:
        yield found


def look_at(found: Mounted, *command: str | Path) -> tuple[int, bytes]:
    """The most that the mount held while a command ran, and the command's output."""
    with watching(found.process) as most:
        output = subprocess.run(command, check=True, capture_output=True).stdout
    return most(), output


@pytest.mark.parametrize("plant", [scattered, crowded], ids=lambda each: each.__name__)
def test_a_walk_of_any_length_stays_within_bounds(
    anna: Person, field: Path, folder: Path, plant: Callable[[Path, int, int], None]
) -> None:
    source = field / "source"
    source.mkdir()
    plant(source, 0, ENTRIES)
    anna.backup(source)
    with mounted(anna, folder, "--cache", str(CACHE)) as found:
        seen = found.latest / source.relative_to("/")
        walk = ("find", seen, "-type", "f", "-size", "1", "-printf", ".")
        for _ in range(2):
            held, dots = look_at(found, *walk)
            assert len(dots) == ENTRIES
            assert held < CACHE + REST


def test_reading_more_than_the_cache_stays_within_bounds(
    anna: Person, source: Path, folder: Path
) -> None:
    piece = os.urandom(MIB)
    with (source / "large").open("wb") as file:
        for number in range(LARGE // MIB):
            file.write(number.to_bytes(8, "little") + piece[8:])
    anna.backup(source)
    with mounted(anna, folder, "--cache", str(CACHE)) as found:
        seen = found.latest / source.relative_to("/")
        held, _nothing = look_at(found, "cmp", seen / "large", source / "large")
        assert held < CACHE + REST
