"""A power cut at every step: what was acknowledged is there, what is there is whole.

Only what had been synced survives, by POSIX's letter. The databases are lost altogether, or go back
to what they were when the run began: they are caches, so neither may matter.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from backit.format.magic import KIB
from backit.format.statement import StatementKind
from backitd.store import FetchState, StoreSettings
from tests.backitd.clocks import FakeRandom
from tests.backitd.people import Machine, Person
from tests.backitd.store.boxes import Box, Chunk, open_box, succession
from tests.backitd.store.failing_disks import PowerCutDisk, PowerCutWatch

if TYPE_CHECKING:
    from pathlib import Path

    from backitd.store import SnapshotRow

pytestmark = [pytest.mark.logs_warnings]

SETTINGS = StoreSettings(pack_bytes=16 * KIB)
# Steps that are looked at; the run has more.
CUTS = 30


@dataclass
class Promises:
    """What somebody was told, with the step of the disk after which."""

    signups: list[tuple[int, Person]] = field(default_factory=list[tuple[int, Person]])
    machines: list[tuple[int, Machine]] = field(default_factory=list[tuple[int, Machine]])
    chunks: list[tuple[int, Chunk]] = field(default_factory=list[tuple[int, Chunk]])
    snapshots: list[tuple[int, SnapshotRow]] = field(
        default_factory=list[tuple[int, "SnapshotRow"]]
    )


def run(box: Box, disk: PowerCutDisk) -> Promises:
    """Signup, devices, two backups, forgetting; notes what it is told as it goes."""
    told = Promises()
    person = box.person()
    told.signups.append((disk.steps, person))
    machine = box.machine(person)
    told.machines.append((disk.steps, machine))
    session = box.session(machine)
    random = FakeRandom("power")
    row: SnapshotRow | None = None
    for _ in range(2):
        chunks = [session.data(random(3000)) for _ in range(15)]
        leaves = [session.node(b"leaf%d" % n, *chunks[n::3]) for n in range(3)]
        root = session.node(b"root" + random(8), *leaves)
        messages = [*chunks, *leaves, root]
        upload = session.begin_upload()
        for chunk in messages:
            upload.put([chunk.record])
        upload.finish()
        told.chunks += [(disk.steps, chunk) for chunk in messages]
        row = session.commit(root, None if row is None else row.header)
        told.snapshots.append((disk.steps, row))
        box.forward(60)
        session = box.session(machine, machine.run(session.run.series))
    return told


def check(box: Box, told: Promises, step: int) -> None:
    """Everything that was promised before this step holds, and no node is live above a hole."""
    for when, person in told.signups:
        if when <= step:
            assert box.store.account(person.account).user == person.user
            assert box.store.password_slot(person.account) is not None
    (_, machine) = told.machines[0]
    if told.machines[0][0] <= step:
        assert box.store.device(machine.device) is not None
    promised = [chunk for when, chunk in told.chunks if when <= step]
    if promised:
        assert box.all_present(machine, promised)
    for when, row in told.snapshots:
        if when <= step:
            assert box.store.snapshot(row.account, row.snapshot).sealed_body == row.sealed_body
    if box.store.device(machine.device) is None:
        return
    session = box.session(machine)
    everything = [chunk for _when, chunk in told.chunks]
    live = [
        chunk for at, chunk in enumerate(everything) if at not in set(session.missing(*everything))
    ]
    assert all(state is FetchState.PRESENT for state in box.states(machine, live))
    for row in box.store.snapshots(machine.owner.account, trashed=True, after="", limit=10):
        whole = box.store.snapshot(machine.owner.account, row.snapshot)
        assert whole.session is not None
        assert whole.sealed_body


@pytest.mark.slow
def test_a_power_cut_at_any_step_breaks_no_promise(tmp_path: Path) -> None:
    first = tmp_path / "first"
    dry = PowerCutDisk(first)
    with open_box(first, settings=SETTINGS, disk=dry) as box:
        beginning = dry.steps
        run(box, dry)
        end = dry.steps
    stride = max(1, (end - beginning) // CUTS)
    again = tmp_path / "again"
    disk = PowerCutDisk(again)
    with open_box(again, settings=SETTINGS, disk=disk) as box:
        databases = tmp_path / "databases"
        databases.mkdir()
        box.store.close()
        for name in ("catalog.db", "index.db"):
            shutil.copy(again / name, databases / name)
        box.reopen()
        shift = disk.steps - beginning
        watch = PowerCutWatch(set(range(disk.steps, end + shift + stride, stride)))
        disk.watch.append(watch)
        told = run(box, disk)
    assert len(watch.cuts) > CUTS // 2
    for number, (step, durable) in enumerate(sorted(watch.cuts.items())):
        after = tmp_path / f"after{step}"
        after.mkdir()
        durable.write_to(again, after)
        if number % 2:
            for name in ("catalog.db", "index.db"):
                shutil.copy(databases / name, after / name)
        with open_box(after, settings=SETTINGS) as box:
            check(box, told, step)
        shutil.rmtree(after)


def test_statements_put_together_survive_together_or_not_at_all(tmp_path: Path) -> None:
    """A new owner key without the slot that opens it would lock its person out."""
    state = tmp_path / "state"
    disk = PowerCutDisk(state)
    with open_box(state, settings=SETTINGS, disk=disk) as box:
        person = box.person()
        watch = PowerCutWatch(set(range(disk.steps, disk.steps + 100)))
        disk.watch.append(watch)
        box.store.put_statements(person.account, succession(person))
        told = disk.steps
    seen: set[tuple[int, int]] = set()
    for step, durable in sorted(watch.cuts.items()):
        after = tmp_path / f"after{step}"
        after.mkdir()
        durable.write_to(state, after)
        with open_box(after, settings=SETTINGS) as box:
            slot = box.store.password_slot(person.account)
            assert slot is not None
            found = box.store.statements(person.account)
            owners = [s.number for s in found if s.kind is StatementKind.ACCOUNT]
            seen.add((owners[-1], slot.number))
            assert step < told or owners[-1] == 2
    assert seen == {(1, 1), (2, 2)}


def test_the_book_of_what_is_durable_is_strict(tmp_path: Path) -> None:
    """The instrument itself: without syncs nothing is durable."""
    disk = PowerCutDisk(tmp_path)
    disk.make_folder(tmp_path / "a")
    draft = disk.draft(tmp_path / "a")
    disk.write(draft.fd, [b"content"])
    disk.link(draft, tmp_path / "a/file")
    assert disk.durable().files == {}
    disk.sync_folder(tmp_path)
    assert disk.durable().folders == {tmp_path / "a"}
    assert disk.durable().files == {}
    disk.sync_folder(tmp_path / "a")
    assert [content for content, _when in disk.durable().files.values()] == [b""]
    disk.discard(draft)
    draft = disk.draft(tmp_path / "a")
    disk.write(draft.fd, [b"content"])
    disk.sync(draft.fd)
    disk.link(draft, tmp_path / "a/synced")
    disk.sync_folder(tmp_path / "a")
    disk.remove(tmp_path / "a/file")
    found = {path.name: content for path, (content, _when) in disk.durable().files.items()}
    assert found == {"file": b"", "synced": b"content"}
    disk.discard(draft)
