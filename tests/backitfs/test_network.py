"""A network that stalls, or breaks in the middle of an answer, between a mount and its box."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.backitfs.conftest import user_of
from tests.backitfs.mounts import mounted
from tests.patience import until
from tests.programs import COMMAND_SECONDS, Box, Person
from tests.system import trees
from tests.system.wire import Way, Wire, tapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

SIZE = 6 * trees.MIB
# Into the answer to a read: behind what nodes and greetings take, well before its end.
INSIDE = 1_000_000


@dataclass(frozen=True)
class Ending:
    """Whether a read has ended, as the wire asks it."""

    read: Future[bytes]

    def poll(self) -> int | None:
        return 0 if self.read.done() else None


@pytest.fixture
def wire(box: Box) -> Iterator[Wire]:
    with tapped(box.port) as found:
        yield found


@pytest.fixture
def remote(wire: Wire, source: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Person:
    """Somebody at the other end of the wire, with two files saved."""
    found = Person(tmp_path / "home")
    found.joins(wire.address, user_of(str(request.node.name)))
    found.logs_in()
    for name in ("first", "second"):
        (source / name).write_bytes(trees.random_bytes(name, SIZE))
    found.backup(source)
    return found


def test_a_stall_makes_a_read_wait_and_nothing_else(
    remote: Person, wire: Wire, source: Path, folder: Path
) -> None:
    with mounted(remote, folder) as found, ThreadPoolExecutor(1) as pool:
        seen = found.latest / source.relative_to("/")
        assert (seen / "first").stat().st_size == SIZE
        for name in ("first", "second"):
            wire.hold(Way.TO_CLIENT, INSIDE)
            read = pool.submit((seen / name).read_bytes)
            assert wire.wait_held(Ending(read))
            # What is at hand is answered meanwhile.
            assert (seen / "second").stat().st_size == SIZE
            wire.release()
            assert read.result(COMMAND_SECONDS) == trees.random_bytes(name, SIZE)
        assert found.log_text() == ""


def test_a_connection_that_breaks_inside_an_answer_is_made_again(
    remote: Person, wire: Wire, source: Path, folder: Path
) -> None:
    with mounted(remote, folder) as found, ThreadPoolExecutor(1) as pool:
        seen = found.latest / source.relative_to("/")
        for name in ("first", "second"):
            wire.hold(Way.TO_CLIENT, INSIDE)
            read = pool.submit((seen / name).read_bytes)
            assert wire.wait_held(Ending(read))
            wire.cut()
            assert read.result(COMMAND_SECONDS) == trees.random_bytes(name, SIZE)
        assert "ERROR" not in found.log_text()


def test_a_stall_beyond_patience_is_one_error_and_passes(
    remote: Person, wire: Wire, source: Path, folder: Path
) -> None:
    with mounted(remote, folder, "--patience", "2") as found:
        seen = found.latest / source.relative_to("/")
        assert (seen / "second").stat().st_size == SIZE
        wire.hold(Way.TO_CLIENT, INSIDE)
        with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is looked at
            (seen / "first").read_bytes()
        assert refused.value.errno == errno.EIO
        errors = [line.partition("ERROR")[2] for line in found.log_text().splitlines()]
        errors = [error for error in errors if error]
        # One for each chunk that was waited for, and no more.
        assert len(set(errors)) == len(errors) > 0
        assert all(f"{source / 'first'}" in error and "no answer" in error for error in errors)
        assert (seen / "second").stat().st_size == SIZE
        wire.release()
        expected = trees.random_bytes("first", SIZE)
        until(lambda: is_read_as(seen / "first", expected), "the mount is back")


def is_read_as(file: Path, expected: bytes) -> bool:
    try:
        return file.read_bytes() == expected
    except OSError:
        return False
