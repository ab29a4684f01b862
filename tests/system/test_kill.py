"""Whoever is killed in the middle of a backup, whenever: nothing is lost, the next run goes on."""

import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import programs
from tests.fidelity import manifest
from tests.fidelity.manifest import Manifest
from tests.patience import until
from tests.programs import Box, Person
from tests.system import trees
from tests.system.packs import pack_files, session_of, stored_bytes, stored_records
from tests.system.points import COUNT, points
from tests.system.sameness import assert_held, assert_same
from tests.system.trees import MIB
from tests.system.wire import Way, Wire, tapped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Packs end early, so that something is durable at most points; who was killed is forgotten at once.
CONFIG = """
[store]
pack_bytes = 1048576
idle_seconds = 0.5
takeover_seconds = 0
"""


# A message is nothing until its last byte is there.
MESSAGE_MAX = 5 * MIB
# What is said before and after the chunks, and around them.
EARLY = 100_000


@dataclass
class Scene:
    """A box, somebody who backs a source up to it over a wire, and what became of that so far."""

    box: Box
    wire: Wire
    anna: Person
    source: Path
    # What each snapshot's source was.
    history: dict[str, Manifest] = field(default_factory=dict[str, Manifest])
    # Bytes that a whole run sends.
    run_bytes: int = 0

    def grow(self, seed: str) -> None:
        """Give the source content that no run has seen."""
        trees.plant(self.source, seed, files=60, large=12 * MIB)

    @contextmanager
    def held_backup(self, after: int) -> Generator[tuple[subprocess.Popen[bytes], bool]]:
        """A backup that is held once it sent so many bytes; False if it never sent as many."""
        self.wire.hold(Way.TO_BOX, after)
        with running(self.anna, "backup", self.source) as client:
            yield client, self.wire.wait_held(client)
        self.wire.cut()

    def backup(self) -> int:
        """A whole run; returns what it sent. Nothing that lay there may have been sent again."""
        settle(self.box)
        before = stored_bytes(self.box.state)
        summary = self.anna.backup(self.source)
        grown = stored_bytes(self.box.state) - before
        sent = int(summary["stored_bytes"])
        assert sent <= grown
        session = session_of(self.box.state, summary["snapshot"])
        records = (each for each in stored_records(self.box.state) if each.session == session)
        assert sum(each.place.length for each in records) <= sent
        self.history[summary["snapshot"]] = manifest.scan(self.source)
        return sent

    def assert_all_held(self, folder: Path, *, seed: int) -> None:
        """The newest snapshot and an older one restore to what they were made of."""
        names = list(self.history)
        for name in {names[-1], names[seed % len(names)]}:
            self.anna.restore(f"{name}:{self.source}", folder / name)
            assert_held(self.history[name], folder / name)
        assert_same(self.source, folder / names[-1])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kill")
    (folder / "config.toml").write_text(CONFIG)
    source = folder / "source"
    source.mkdir()
    arguments = ("--config", str(folder / "config.toml"))
    with programs.running(folder / "box", *arguments) as box, tapped(box.port) as wire:
        anna = Person(folder / "home")
        anna.joins(wire.address)
        anna.logs_in()
        scene = Scene(box, wire, anna, source)
        scene.grow("at first")
        before = wire.passed(Way.TO_BOX)
        scene.backup()
        scene.run_bytes = wire.passed(Way.TO_BOX) - before
        assert scene.run_bytes > 12 * MIB
        yield scene


def settle(box: Box) -> None:
    """Wait until the box has put away what it received from somebody who is gone."""
    looks: list[int] = []

    def calm() -> bool:
        looks.append(sum(pack_files(box.state).values()))
        return looks[-10:] == [looks[-1]] * 10

    until(calm, "the packs stay as they are")


@contextmanager
def running(person: Person, *arguments: str | Path) -> Generator[subprocess.Popen[bytes]]:
    """A command that does not outlive the block."""
    with person.popen(*arguments) as client:
        try:
            yield client
        finally:
            client.kill()


def end(client: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for a client's end: its exit code, and what it said of errors."""
    _output, errors = client.communicate(timeout=programs.COMMAND_SECONDS)
    return client.returncode, errors.decode(errors="replace")


@pytest.mark.parametrize("number", range(COUNT))
def test_after_a_killed_client_the_next_backup_goes_on(
    scene: Scene, number: int, tmp_path: Path
) -> None:
    point, state = points("client", scene.run_bytes)[number], scene.box.state
    scene.grow(f"client {number}")
    before = sum(pack_files(state).values())
    # Every other time what arrived becomes durable first: all but a message that is on its way.
    arrived = point - MESSAGE_MAX - EARLY if number % 2 else 0
    with scene.held_backup(point) as (client, _held):
        until(lambda: sum(pack_files(state).values()) - before >= arrived, "it is durable")
        client.kill()
    sent = scene.backup()
    assert sent <= scene.run_bytes - arrived + EARLY
    scene.assert_all_held(tmp_path, seed=number)


@pytest.mark.parametrize("number", range(COUNT))
def test_after_a_killed_daemon_everything_committed_is_there(
    scene: Scene, number: int, tmp_path: Path
) -> None:
    point = points("daemon", scene.run_bytes)[number]
    scene.grow(f"daemon {number}")
    with scene.held_backup(point) as (client, held):
        scene.box.kill()
        scene.wire.cut()
        code, errors = end(client)
    # Where only the good-bye was left to say, nothing is lost and nobody complains.
    near_end = point > scene.run_bytes - EARLY
    assert code == 5 or (near_end and code == 0), (code, errors)
    assert held or near_end
    scene.box.start()
    if code == 0:
        newest = scene.anna.snapshots()[-1]
        scene.history[newest["id"]] = manifest.scan(scene.source)
    scene.backup()
    scene.assert_all_held(tmp_path, seed=number)


def test_a_daemon_that_is_told_to_stop_ends_well(scene: Scene, tmp_path: Path) -> None:
    scene.grow("told to stop")
    with scene.held_backup(scene.run_bytes // 2) as (client, held):
        assert held
        assert scene.box.process is not None
        scene.box.process.send_signal(signal.SIGTERM)
        scene.wire.release()
        code, errors = end(client)
    assert code in (0, 5), errors
    assert scene.box.stop() == 0
    scene.box.start()
    scene.backup()
    scene.assert_all_held(tmp_path, seed=3)


def test_after_all_that_everything_is_whole(scene: Scene) -> None:
    assert scene.anna.ctl("--json", "check", "--read-data").summary["findings"] == 0
    numbers = [each["number"] for each in scene.anna.snapshots()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert set(scene.history) <= {each["id"] for each in scene.anna.snapshots()}


@pytest.mark.parametrize("number", range(3))
def test_an_interrupted_backup_locks_nobody_out(
    box: Box, newcomer: Person, source: Path, tmp_path: Path, number: int
) -> None:
    trees.plant(source, f"interrupted {number}", files=60, large=6 * MIB)
    with tapped(box.port) as wire:
        newcomer.ctl("pair", wire.address, "--trust-first-use")
        wire.hold(Way.TO_BOX, points("interrupted", 6 * MIB, 3)[number])
        with running(newcomer, "backup", source) as client:
            assert wire.wait_held(client)
            client.send_signal(signal.SIGINT)
            wire.release()
            code, errors = end(client)
        assert (code, "interrupted" in errors, "Traceback" in errors) == (130, True, False)
        newcomer.backup(source)
        newcomer.restore(f"latest:{source}", tmp_path / "restored")
        assert len(newcomer.snapshots()) == 1
    assert_same(source, tmp_path / "restored")
