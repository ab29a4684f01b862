"""kill -9 of a real process that uploads, again and again: what it was told was true."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backit.crypto import primitives
from backit.format import record
from backit.format.magic import Kind
from backit.format.pack import HEAD, Naming
from backit.ids import ChunkId, SnapshotId
from backitd.store import FetchState
from backitd.store.files import Disk
from backitd.store.packs import Packs
from tests.backitd.clocks import FakeClock, FakeRandom
from tests.backitd.store import uploader
from tests.backitd.store.boxes import Box

ROOT = Path(__file__).parents[3]
LIVES = 12


@dataclass
class Told:
    """What the lives so far have said."""

    acknowledged: dict[ChunkId, str] = field(default_factory=dict[ChunkId, str])
    sent: dict[ChunkId, str] = field(default_factory=dict[ChunkId, str])
    snapshots: list[SnapshotId] = field(default_factory=list[SnapshotId])


def live_and_die(state: Path, life: int, lines: int, told: Told) -> None:
    """Run the uploader, kill it after so many lines, keep what it said before it died."""
    command = [sys.executable, "-m", "tests.backitd.store.uploader", str(state), str(life)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}", "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said: list[list[str]] = []
    try:
        for line in process.stdout:
            said.append(line.split())
            if len(said) == lines:
                process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL, f"life {life} ended by itself: {said[-3:]}"
    sent: list[tuple[ChunkId, str]] = []
    for words in said:
        match words:
            case ["sent", chunk, digest]:
                sent.append((ChunkId.from_hex(chunk), digest))
            case ["acknowledged", number]:
                told.acknowledged.update(sent[: int(number)])
            case ["committed", snapshot]:
                told.snapshots.append(SnapshotId.from_hex(snapshot))
            case _:
                assert words == ["opened"], words
    told.sent.update(sent)


def read(box: Box, chunks: list[ChunkId]) -> dict[ChunkId, str]:
    """Digest of each record that can be read."""
    machine = uploader.the_machine()
    found: dict[ChunkId, str] = {}
    for start in range(0, len(chunks), 1000):
        part = chunks[start : start + 1000]
        for fetched in box.store.read(machine.owner.account, machine.domain, part):
            if fetched.record is not None:
                assert fetched.state is FetchState.PRESENT
                found[fetched.chunk] = primitives.digest(fetched.record).hex()
    return found


def check(box: Box, told: Told) -> None:
    machine = uploader.the_machine()
    account = machine.owner.account
    # Every acknowledged record, byte for byte; and none is ever another than was sent.
    assert read(box, list(told.acknowledged)) == told.acknowledged
    readable = read(box, list(told.sent))
    assert readable.items() <= told.sent.items()
    # Every snapshot that was committed, and each one that there is has its body and its tree.
    rows = box.store.snapshots(account, trashed=True, after="", limit=1000)
    assert set(told.snapshots) <= {row.snapshot for row in rows}
    for row in rows:
        assert box.store.snapshot(account, row.snapshot).sealed_body
    check_files(box)
    check_live_nodes(box, list(told.sent))


def check_files(box: Box) -> None:
    """Every pack is whole and is what its name says; nothing else lies about."""
    packs = Packs(Disk(), box.state / "store")
    for name in (name for first in range(256) for name in packs.names(first)):
        whole = packs.path(name).read_bytes()
        naming = Naming(whole[: HEAD.size])
        with packs.open(name) as pack:
            contents = pack.contents()
            assert contents.whole
            end = HEAD.size
            for place in contents.directory.places:
                naming.add(pack.read_record(place)[1])
                end = place.offset + place.length
        assert naming.finish(whole[end:]) == name
    assert list((box.state / "store").rglob(".draft-*")) == []


def check_live_nodes(box: Box, chunks: list[ChunkId]) -> None:
    """Below a live node everything is live."""
    machine = uploader.the_machine()
    lost = box.store.find_lost(machine.owner.account, machine.domain, chunks)
    live = set(chunks) - {chunks[at] for at in lost}
    for fetched in box.store.read(machine.owner.account, machine.domain, sorted(live)):
        assert fetched.record is not None
        header = record.parse(fetched.record)
        if header.kind is Kind.NODE:
            assert set(record.references(fetched.record, header)) <= live


@pytest.mark.slow
def test_killed_at_any_moment_it_told_the_truth(tmp_path: Path) -> None:
    state = tmp_path / "state"
    clock = FakeClock()
    machine = uploader.the_machine()
    owner = machine.owner
    box = Box(state, clock, FakeRandom("test"))
    box.store.create_account(owner.account, owner.first_statements())
    box.store.put_statements(owner.account, machine.statements())
    told = Told()
    chance = random.Random(20261122)
    for life in range(LIVES):
        box.store.close()
        live_and_die(state, life, chance.randint(1, 150), told)
        box.reopen()
        check(box, told)
    assert len(told.acknowledged) > 50, "there was something to lose"
    assert told.snapshots
    box.rebuild()
    check(box, told)
    box.store.close()
