"""Whatever is read through a real mount, in any order and by any number, is what was saved."""

from __future__ import annotations

import mmap
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backitfs.conftest import user_of
from tests.backitfs.mounts import mounted
from tests.programs import Person
from tests.system.trees import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.programs import Box

# Smaller than the large file, so that chunks go and come again.
CACHE = "16M"
LARGEST = 300 * KIB


@dataclass(frozen=True)
class Shelf:
    """Files in a mount, and what they hold."""

    folder: Path
    content: dict[str, bytes]


def contents() -> dict[str, bytes]:
    """Nothing, a byte, files that share a chunk, one of many chunks, and one with holes."""
    draw = random.Random("readers")
    made = {"empty": b"", "byte": b"x", "large": draw.randbytes(21 * MIB + 17)}
    made |= {f"small {n}": draw.randbytes(draw.randrange(1, 40 * KIB)) for n in range(12)}
    holes = bytearray(3 * MIB + 5)
    for at, length in ((0, 1), (777_777, 70_001), (2 * MIB - 1, 2), (3 * MIB - 4096, 4101)):
        holes[at : at + length] = draw.randbytes(length)
    return made | {"sparse": bytes(holes)}


def plant(folder: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        with (folder / name).open("wb") as file:
            file.truncate(len(data))
            for at in range(0, len(data), 4096):
                piece = data[at : at + 4096]
                if piece.count(0) < len(piece):
                    file.seek(at)
                    file.write(piece)


@pytest.fixture(scope="module")
def shelf(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    place = tmp_path_factory.mktemp("readers")
    source, folder = place / "source", place / "mount"
    source.mkdir()
    folder.mkdir()
    content = contents()
    plant(source, content)
    assert (source / "sparse").stat().st_blocks * 512 < MIB
    reader = Person(place / "home")
    reader.joins(box.unix, user_of(__name__))
    reader.logs_in()
    reader.backup(source)
    with mounted(reader, folder, "--cache", CACHE) as found:
        yield Shelf(found.latest / source.relative_to("/"), content)
        assert found.log_text() == ""


@dataclass(frozen=True)
class Step:
    """One thing that a reader does with one file. Places are shares of its length."""

    name: str
    what: str
    at: float
    length: int


@st.composite
def steps(draw: st.DrawFn) -> Step:
    name = draw(
        st.sampled_from(["large", "large", "sparse", "empty", "byte", "small 3", "small 7"])
    )
    what = draw(st.sampled_from(["range", "range", "map", "rest", "whole", "forget"]))
    at = draw(st.floats(0, 1.1))
    return Step(name, what, at, draw(st.integers(0, LARGEST)))


READERS = st.lists(st.lists(steps(), min_size=1, max_size=8), min_size=1, max_size=3)


def follow(shelf: Shelf, walk: list[Step]) -> list[Step]:
    """Do what one reader does; the steps whose bytes were wrong."""
    return [step for step in walk if not is_right(shelf, step)]


def is_right(shelf: Shelf, step: Step) -> bool:
    expected = shelf.content[step.name]
    at = int(len(expected) * step.at)
    fd = os.open(shelf.folder / step.name, os.O_RDONLY)
    try:
        match step.what:
            case "range":
                return os.pread(fd, step.length, at) == expected[at : at + step.length]
            case "rest":
                os.lseek(fd, at, os.SEEK_SET)
                with open(fd, "rb", closefd=False) as file:
                    return file.read() == expected[at:]
            case "map" if expected:
                with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as view:
                    return view[at : at + step.length] == expected[at : at + step.length]
            case "forget":  # by the kernel, so that it asks again
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                return True
            case _:
                whole = os.pread(fd, len(expected) + 1, 0)
                return whole == expected and os.fstat(fd).st_size == len(expected)
    finally:
        os.close(fd)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(readers=READERS)
def test_any_readers_get_the_bytes_that_were_saved(shelf: Shelf, readers: list[list[Step]]) -> None:
    with ThreadPoolExecutor(len(readers)) as pool:
        wrong = [pool.submit(follow, shelf, walk) for walk in readers]
        assert [each.result() for each in wrong] == [[] for _ in readers]
