"""What a box has said it has, it has: after a kill at any write, a failing disk, lost databases."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backit.errors import Unavailable
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId
from backit.v1 import chunks_pb2
from tests import programs
from tests.fidelity import manifest
from tests.fidelity.manifest import Manifest
from tests.patience import until
from tests.programs import Box, Person
from tests.system import faults, trees
from tests.system.faults import KILL, Fault, injected
from tests.system.forger import stolen_machine
from tests.system.packs import stored_records
from tests.system.points import FULL
from tests.system.sameness import assert_held, assert_same
from tests.system.trees import KIB, MIB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Many small packs, and nobody waits for somebody who was killed.
CONFIG = """
[store]
pack_bytes = 131072
idle_seconds = 0.5
takeover_seconds = 0
"""
EIO, ENOSPC = "error=EIO", "error=ENOSPC"
# More runs than it takes any thread to make any call as often as is asked for.
RUNS = 40
RECORDS = 12


def kills() -> list[Fault]:
    """In the full target at every call there is."""
    return faults.each_call(KILL, lambda most: range(1, 2 * most + 1) if FULL else (most, 2 * most))


def failures() -> list[Fault]:
    """The same."""
    return [
        *faults.each_call(EIO, lambda most: range(1, most + 1) if FULL else (most,)),
        *faults.each_call(ENOSPC, lambda most: range(1, most + 1) if FULL else (1,)),
    ]


@dataclass
class Told:
    """What the box has promised: records it called durable, snapshots it has committed."""

    records: dict[ChunkId, bytes] = field(default_factory=dict[ChunkId, bytes])
    snapshots: list[str] = field(default_factory=list[str])


@dataclass
class Scene:
    """A box, and somebody whose honest backups and whose stolen machine both use it."""

    box: Box
    anna: Person
    source: Path
    told: Told = field(default_factory=Told)
    # What each snapshot's source was.
    history: dict[str, Manifest] = field(default_factory=dict[str, Manifest])

    @property
    def pid(self) -> int:
        assert self.box.process is not None
        return self.box.process.pid

    def save(self, seed: str, runs: int) -> None:
        """Run after run, each a snapshot, until the box is gone; notes what it promises."""
        rng = random.Random(seed)
        with stolen_machine(self.anna) as forger:
            for _ in range(runs):
                forger.session = forger.begin()
                sent = [
                    forger.data(rng.randbytes(rng.randrange(KIB, 60 * KIB))) for _ in range(RECORDS)
                ]
                chunks = sorted((chunk for chunk, _record in sent), key=lambda chunk: chunk.raw)
                sent.append(forger.node(pb.Node(), chunks))
                for number in forger.acknowledged([record for _chunk, record in sent], 4):
                    self.told.records.update(sent[:number])
                self.told.snapshots.append(forger.commit_tree(sent[-1][0]))

    def assert_promises_are_kept(self) -> None:
        """By the box's own word, and byte for byte on its disk."""
        chunks = list(self.told.records)
        with stolen_machine(self.anna) as forger:
            request = chunks_pb2.FindMissingRequest(
                lease=forger.session.lease, chunk_ids=[chunk.raw for chunk in chunks]
            )
            assert list(forger.appliance.chunks.FindMissing(request).missing) == []
        there = {each.place.chunk: each for each in stored_records(self.box.state)}
        assert [c for c in chunks if there[c].read() != self.told.records[c]] == []
        listed = {each["id"] for each in self.anna.snapshots()}
        assert {*self.told.snapshots, *self.history} <= listed


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("durability")
    (folder / "config.toml").write_text(CONFIG)
    source = folder / "source"
    source.mkdir()
    with programs.running(folder / "box", "--config", str(folder / "config.toml")) as box:
        anna = Person(folder / "home")
        anna.joins(box.unix)
        anna.logs_in()
        yield Scene(box, anna, source)


@pytest.mark.root
@pytest.mark.parametrize("fault", kills(), ids=str)
def test_everything_acknowledged_survives_a_kill_at_any_write(
    scene: Scene, fault: Fault, tmp_path: Path
) -> None:
    process = scene.box.process
    assert process is not None
    scene.save(f"before {fault}", 1)
    with injected(process.pid, fault, tmp_path / "trace"):
        with pytest.raises(Unavailable):
            scene.save(str(fault), RUNS)
        until(lambda: process.poll() is not None, "the box is dead")
    scene.box.kill()
    scene.box.start()
    scene.assert_promises_are_kept()


@pytest.mark.root
@pytest.mark.parametrize("fault", failures(), ids=str)
def test_a_write_that_fails_costs_no_more_than_the_run(
    scene: Scene, fault: Fault, tmp_path: Path
) -> None:
    trees.plant(scene.source, str(fault), files=20, large=MIB)
    with injected(scene.pid, fault, tmp_path / "trace"):
        output = scene.anna.ctl("--json", "backup", scene.source, expect=(0, 1))
    assert faults.was_injected(tmp_path / "trace")
    assert "Traceback" not in output.errors
    if output.code == 0:
        scene.history[output.summary["snapshot"]] = manifest.scan(scene.source)
    # The same daemon goes on, and so does the person.
    newest = scene.anna.backup(scene.source)["snapshot"]
    scene.history[newest] = manifest.scan(scene.source)
    scene.anna.restore(f"{newest}:{scene.source}", tmp_path / "restored")
    assert_same(scene.source, tmp_path / "restored")
    scene.assert_promises_are_kept()


def test_after_all_that_it_ends_well_and_nothing_is_lost(scene: Scene, tmp_path: Path) -> None:
    assert len(scene.told.snapshots) >= len(kills())
    assert len(scene.told.records) > len(kills()) * RECORDS
    assert scene.box.stop() == 0
    assert scene.box.rebuild() == 0
    scene.box.start()
    scene.assert_promises_are_kept()
    for name, before in scene.history.items():
        scene.anna.restore(f"{name}:{scene.source}", tmp_path / name)
        assert_held(before, tmp_path / name)


@dataclass(frozen=True)
class Shown:
    """Everything that a box shows to somebody, as far as it must not change."""

    snapshots: object
    trashed: object
    devices: object
    stats: object

    @classmethod
    def to(cls, person: Person) -> "Shown":
        return cls(
            person.ctl("--json", "snapshots").json,
            person.ctl("--json", "snapshots", "--trashed").json,
            person.ctl("--json", "device", "list").json,
            person.ctl("--json", "stats").json,
        )


def start(box: Box) -> None:
    box.start()


def rebuild_and_start(box: Box) -> None:
    assert box.rebuild() == 0
    box.start()


@pytest.mark.parametrize("bring_back", [start, rebuild_and_start], ids=lambda way: way.__name__)
def test_a_box_without_its_databases_brings_everything_back(
    source: Path, tmp_path: Path, bring_back: Callable[[Box], None]
) -> None:
    with programs.running(tmp_path / "box") as box:
        person = Person(tmp_path / "home")
        person.joins(box.unix)
        person.logs_in()
        trees.plant_everything(source, "databases")
        (first, forgotten) = (person.backup(source)["snapshot"] for _ in "12")
        before = manifest.scan(source)
        (source / "large").write_bytes(trees.random_bytes("databases", MIB))
        person.backup(source)
        person.ctl("forget", forgotten)
        shown = Shown.to(person)
        assert box.stop() == 0
        databases = [*box.state.glob("*.db*")]
        assert {file.name for file in databases} >= {"catalog.db", "index.db"}
        for file in databases:
            file.unlink()
        bring_back(box)
        assert Shown.to(person) == shown
        # What it shows it has; whoever knew the password still does, and nothing is sent again.
        person.ctl("logout")
        person.logs_in()
        assert person.backup(source)["new_bytes"] == 0
        person.restore(f"latest:{source}", tmp_path / "newest")
        assert_same(source, tmp_path / "newest")
        person.ctl("undelete", forgotten)
        for name in (first, forgotten):
            person.restore(f"{name}:{source}", tmp_path / name)
            assert_held(before, tmp_path / name)
        assert person.ctl("--json", "check", "--read-data").summary["findings"] == 0
