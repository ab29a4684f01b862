"""Promises of a backup, whole: the real daemon, the real process that reads, real files.

What fails at an exact point fails between the client and its connection.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backit.client.backup import Backup, Label, Source
from backit.client.cache import Box, SeriesCache
from backit.client.excludes import Excludes
from backit.client.reader import TICK_NS
from backit.client.remote import Appliance
from backit.client.session import series_of
from backit.crypto.keys import cache_key
from backit.engine.wear import ALIVE_MIN
from backit.errors import (
    BackitError,
    HeadMoved,
    Internal,
    Invalid,
    LeaseEnded,
    NoSpace,
    ReferencesMissing,
    Unavailable,
)
from backit.format.magic import KIB, MIB
from tests.backit.client.household import LABEL, connected, files_below, household
from tests.backit.client.interruptions import between, children, interrupts, threads
from tests.backitd import daemons
from tests.backitd.daemons import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backit.client.backup import Result
    from backit.ids import ChunkId
    from tests.backit.client.household import Household


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is backed up."""
    found = tmp_path / "home"
    found.mkdir()
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No thread of a backup, and no process."""
    before = children()
    yield
    wait_until(lambda: not threads())
    assert children() == before


def write_files(folder: Path, count: int, most: int = 20 * KIB, seed: int = 1) -> None:
    numbers = random.Random(seed)
    for number in range(count):
        path = folder / f"d{number % 5}" / f"f{number:04}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(numbers.randbytes(numbers.randrange(most)))


def write_large(folder: Path, size: int, name: str = "large", seed: int = 1) -> None:
    (folder / name).write_bytes(random.Random(seed).randbytes(size))


def settle(folder: Path) -> None:
    """Until no file is so young that the next run would look at it again."""
    youngest = max(path.lstat().st_ctime_ns for path in [folder, *folder.rglob("*")])
    while time.time_ns() <= youngest + TICK_NS:
        os.sched_yield()


def failing(error: BaseException, at: int = 1, times: int = 1) -> Callable[..., Any]:
    """A hook that fails from this call on, so many times, and lets all others through."""
    calls = 0

    def hook(real: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if at <= calls < at + times:
            raise error
        return real(*arguments)

    return hook


def counting(calls: list[str], name: str) -> Callable[..., Any]:
    def hook(real: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(name)
        return real(*arguments)

    return hook


def test_all_that_is_there_comes_back_from_the_appliance(house: Household, folder: Path) -> None:
    write_files(folder, 200)
    write_large(folder, 3 * MIB)
    with (folder / "sparse").open("wb") as sparse:
        sparse.seek(4 * MIB)
        sparse.write(b"end")
    (folder / "again").hardlink_to(folder / "large")
    (folder / "empty").touch()
    (folder / "link").symlink_to("large")
    result = house.save(folder)
    found = house.latest()
    assert result.snapshot == found.id
    assert found.complete
    assert (result.problems.failure_count, result.problems.skip_count) == (0, 0)
    assert house.contents(found, folder) == files_below(folder)
    entries = house.found(found, folder)
    assert set(entries) == {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert entries["again"].entry.inode == entries["large"].entry.inode
    assert sum(hole.length for hole in entries["sparse"].entry.holes) == 4 * MIB
    assert list(found.body.sources) == [bytes(folder)]
    assert (found.body.host, list(found.body.tags)) == (LABEL.host, list(LABEL.tags))
    totals = found.body.totals
    data = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    assert totals.entries == len(entries) + len(folder.parts) - 1
    assert totals.files == 204
    assert totals.bytes <= data, "holes are no content"
    assert totals.stored_bytes > totals.new_bytes > 4 * MIB


def test_a_second_run_sends_only_what_is_new(house: Household, folder: Path) -> None:
    write_files(folder, 450, KIB)
    settle(folder)
    first = house.save(folder)
    again = house.save(folder)
    assert again.totals.new_bytes == again.totals.changed_files == 0
    assert again.totals.stored_bytes < first.totals.stored_bytes / 10
    (folder / "new").write_bytes(b"something new")
    (folder / "d1").rename(folder / "moved")
    third = house.save(folder)
    assert third.totals.new_bytes == len(b"something new")
    assert house.contents(house.latest(), folder) == files_below(folder)
    chain = house.history.all()
    assert [each.previous for each in chain] == [None, first.snapshot, again.snapshot]


def test_a_dry_run_says_what_would_change_and_asks_for_nothing(
    house: Household, folder: Path
) -> None:
    write_files(folder, 30)
    settle(folder)
    calls: list[str] = []
    hooks = {name: counting(calls, name) for name in ("CreateLease", "FindMissing", "Upload")}
    watched = between(house.device, **hooks)
    first = house.backup(folder, appliance=watched).dry_run()
    assert (first.snapshot, first.totals.files, first.totals.changed_files) == (None, 30, 30)
    house.save(folder)
    assert house.backup(folder, appliance=watched).dry_run().totals.changed_files == 0
    (folder / "d1/f0001").write_bytes(b"changed")
    (folder / "new").write_bytes(b"new")
    (folder / "d2/f0002").unlink()
    last = house.backup(folder, appliance=watched).dry_run()
    assert (last.totals.files, last.totals.changed_files) == (30, 2)
    assert calls == []
    assert house.history.all()[-1].counter == 1


def run_to_its_end(backup: Backup) -> Result | BaseException:
    try:
        return backup.run(LABEL)
    except (BackitError, KeyboardInterrupt) as error:
        return error


@pytest.mark.parametrize("times", [1, 2])
def test_references_that_are_gone_are_asked_for_then_nothing_is_relied_on(
    house: Household, folder: Path, times: int
) -> None:
    write_files(folder, 100)
    settle(folder)
    house.save(folder)
    asked: list[bytes] = []
    leases: list[str] = []

    def find(real: Callable[..., Any], request: Any) -> Any:
        asked.extend(request.chunk_ids)
        return real(request)

    lost = between(
        house.device,
        CommitSnapshot=failing(ReferencesMissing("lost"), times=times),
        FindMissing=find,
        CreateLease=counting(leases, "CreateLease"),
    )
    result = house.backup(folder, appliance=lost).run(LABEL)
    assert len(leases) == times + 1
    assert result.totals.new_bytes == 0, "all of it was there, in truth"
    assert result.totals.changed_files == (0 if times == 1 else 100), "then nothing is relied on"
    root = house.latest().root.raw
    assert root in asked
    if times == 2:
        assert {each.raw for each in house.data_chunks(house.latest())} <= set(asked)
    assert house.contents(house.latest(), folder) == files_below(folder)


def test_references_that_stay_missing_are_a_failure(house: Household, folder: Path) -> None:
    write_files(folder, 5)

    def refuse(_real: object, _request: object) -> None:
        raise ReferencesMissing("lost")

    with pytest.raises(ReferencesMissing):
        house.backup(folder, appliance=between(house.device, CommitSnapshot=refuse)).run(LABEL)


def cache_files(house: Household) -> dict[str, bytes]:
    return {
        str(path.relative_to(house.cache)): path.read_bytes()
        for path in house.cache.rglob("*")
        if path.is_file() and path.name != "growing"
    }


@pytest.mark.parametrize("error", [HeadMoved("moved"), NoSpace("full")])
def test_a_commit_that_fails_changes_no_cache_and_gives_the_lease_back(
    house: Household, folder: Path, error: BackitError
) -> None:
    write_files(folder, 20)
    settle(folder)
    house.save(folder)
    before = cache_files(house)
    (folder / "new").write_bytes(b"new")
    calls: list[str] = []
    watched = between(
        house.device,
        CommitSnapshot=failing(error),
        DeleteLease=counting(calls, "DeleteLease"),
    )
    with pytest.raises(type(error), match=str(error)):
        house.backup(folder, appliance=watched).run(LABEL)
    assert calls == ["DeleteLease"]
    assert cache_files(house) == before
    assert house.save(folder).totals.new_bytes == 0, "what had been sent is there"


def test_the_cache_changes_only_behind_the_commit(house: Household, folder: Path) -> None:
    write_files(folder, 20)
    house.save(folder)
    (folder / "new").write_bytes(b"new")
    before = cache_files(house)
    seen: list[dict[str, bytes]] = []

    def commit(real: Callable[..., Any], request: Any) -> Any:
        seen.append(cache_files(house))
        return real(request)

    house.backup(folder, appliance=between(house.device, CommitSnapshot=commit)).run(LABEL)
    assert seen == [before]
    assert cache_files(house) != before


class _Breaking:
    """An upload that does something behind so many messages."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self._after = after
        self._act = act

    def __call__(self, real: Callable[..., Any], messages: Iterator[Any]) -> Any:
        def some() -> Iterator[Any]:
            for number, message in enumerate(messages):
                if number == self._after:
                    self._act()
                yield message

        return real(some())


def test_a_broken_upload_ends_the_run_and_the_next_one_goes_on(
    house: Household, folder: Path
) -> None:
    write_large(folder, 24 * MIB)
    calls: list[Any] = []

    def cancel() -> None:
        wait_until(lambda: bool(calls))
        calls[0].cancel()

    def upload(real: Callable[..., Any], messages: Iterator[Any]) -> Any:
        calls.append(_Breaking(3, cancel)(real, messages))
        return calls[0]

    with pytest.raises(Unavailable):
        house.backup(folder, appliance=between(house.device, Upload=upload)).run(LABEL)
    house.save(folder)
    assert house.contents(house.latest(), folder) == files_below(folder)


def test_what_was_durable_before_the_break_is_not_sent_again(
    house: Household, folder: Path
) -> None:
    write_large(folder, 20 * MIB)
    failed = between(house.device, CommitSnapshot=failing(Unavailable("away")))
    with pytest.raises(Unavailable):
        house.backup(folder, appliance=failed).run(LABEL)
    write_large(folder, 5 * MIB, "more", seed=2)
    assert house.save(folder).totals.new_bytes == 5 * MIB


def test_a_failure_to_ask_ends_both_processes_while_one_waits_for_the_other(
    house: Household, folder: Path
) -> None:
    """They used to wait for each other for ever."""
    write_large(folder, 70 * MIB)

    def wait_and_fail(_real: object, _request: object) -> None:
        wait_until(lambda: is_asleep(*children()))
        raise LeaseEnded("gone")

    failing_late = between(house.device, FindMissing=wait_and_fail)
    with pytest.raises(LeaseEnded, match="gone"):
        house.backup(folder, appliance=failing_late).run(LABEL)


def is_asleep(*processes: int) -> bool:
    """Whether a process waits for a pipe: for us."""
    return any("pipe" in Path(f"/proc/{pid}/wchan").read_text() for pid in processes)


def test_a_reading_process_that_dies_is_a_failure_and_no_silence(
    house: Household, folder: Path
) -> None:
    write_large(folder, 30 * MIB)

    def kill(real: Callable[..., Any], request: Any) -> Any:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        return real(request)

    with pytest.raises(Internal, match="the process that reads files has ended unexpectedly"):
        house.backup(folder, appliance=between(house.device, FindMissing=kill)).run(LABEL)
    assert house.history.all() == []


MOMENTS = ["CreateLease", "FindMissing", "Upload", "CommitSnapshot"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_at_any_moment_leaves_nothing_running_and_no_lease(
    house: Household, folder: Path, moment: str
) -> None:
    write_files(folder, 50)
    write_large(folder, 8 * MIB)
    with interrupts() as interrupt:
        pressed = threading.Event()

        def hook(real: Callable[..., Any], *arguments: Any) -> Any:
            if not pressed.is_set():  # a second one would end the tidying up
                pressed.set()
                interrupt()
            return real(*arguments)

        chosen = _Breaking(1, interrupt) if moment == "Upload" else hook
        outcome = run_to_its_end(
            house.backup(folder, appliance=between(house.device, **{moment: chosen}))
        )
    assert isinstance(outcome, KeyboardInterrupt)
    wait_until(lambda: not threads())
    if moment != "CreateLease":  # there nobody knows the lease's name: it ends by itself
        assert house.save(folder).snapshot == house.latest().id


def test_an_interrupt_that_ends_the_tidying_up_too_leaves_no_lease(
    house: Household, folder: Path
) -> None:
    write_files(folder, 10)

    def fail(_real: Callable[..., Any], _messages: object) -> Any:
        raise KeyboardInterrupt

    def hurry(real: Callable[..., Any], *arguments: Any) -> Any:
        if not house.device.is_leaving:
            house.device.hurry()
        return real(*arguments)

    run = house.backup(folder, appliance=between(house.device, Upload=fail, DeleteLease=hurry))
    with pytest.raises(KeyboardInterrupt):
        run.run(LABEL)
    with Appliance.connect(house.profile, house.keys.credential) as again:
        assert house.backup(folder, appliance=again).run(LABEL).snapshot is not None


def test_an_interrupt_that_nobody_has_raised_yet_leaves_no_lease(
    house: Household, folder: Path
) -> None:
    write_files(folder, 10)
    due: list[bool] = []

    def checkpoint() -> None:
        if due and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    def fail(_real: Callable[..., Any], _messages: object) -> Any:
        due.append(True)
        raise Unavailable("the interrupt ended this call")

    with Appliance.of(house.profile, checkpoint) as device:
        device.begin(house.keys.credential)
        with pytest.raises(Unavailable):
            house.backup(folder, appliance=between(device, Upload=fail)).run(LABEL)
        with pytest.raises(KeyboardInterrupt):
            house.backup(folder, appliance=device).run(LABEL)
        due.clear()
        assert house.backup(folder, appliance=device).run(LABEL).snapshot is not None


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_cache_costs_a_full_read_and_nothing_else(house: Household, folder: Path) -> None:
    write_files(folder, 300, KIB)
    settle(folder)
    house.save(folder)
    for path in house.cache.rglob("*"):
        if path.is_file() and path.name != "CACHEDIR.TAG":
            flip_a_bit(path)
    result = house.save(folder)
    assert result.totals.new_bytes == 0
    assert result.problems.failure_count == 0
    assert house.contents(house.latest(), folder) == files_below(folder)
    assert house.save(folder).totals.changed_files == 0, "it has been written anew"


def test_a_cache_of_another_head_is_not_relied_on(house: Household, folder: Path) -> None:
    write_files(folder, 10)
    settle(folder)
    house.save(folder)
    old = house.folder / "old"
    shutil.copytree(house.cache, old)
    house.save(folder)
    shutil.rmtree(house.cache)
    old.rename(house.cache)
    asked: list[str] = []
    hooked = between(house.device, FindMissing=counting(asked, "FindMissing"))
    result = house.backup(folder, appliance=hooked).run(LABEL)
    assert result.totals.changed_files == 10, "all was read"
    assert house.contents(house.latest(), folder) == files_below(folder)


def test_a_snapshot_stands_even_if_the_cache_cannot_be_written(
    house: Household, folder: Path
) -> None:
    write_files(folder, 10)
    (house.cache / "seen" / "in the way").mkdir(parents=True)
    result = house.save(folder)
    assert house.latest().id == result.snapshot
    ((path, why),) = result.problems.skips
    assert path == bytes(house.cache)
    assert why.startswith("what the next run would go by was not written: ")
    assert house.contents(house.latest(), folder) == files_below(folder)


def test_a_source_that_is_not_there_makes_the_snapshot_incomplete(
    house: Household, folder: Path
) -> None:
    write_files(folder, 5)
    result = house.save(folder, folder.parent / "nowhere")
    assert [path for path, _why in result.problems.failures] == [bytes(folder.parent / "nowhere")]
    found = house.latest()
    assert not found.complete
    assert found.body.totals.failed_files == 1
    assert house.contents(found, folder) == files_below(folder)


@pytest.mark.parametrize(
    ("label", "patterns"),
    [(lambda: Label("\udcff", "p"), 1), (lambda: Label("h", "p", ("t" * 900_000,)), 1)],
)
def test_what_has_no_room_in_a_snapshot_is_refused_before_anything_is_sent(
    house: Household, folder: Path, label: Callable[[], Label], patterns: int
) -> None:
    calls: list[str] = []
    watched = between(house.device, CreateLease=counting(calls, "CreateLease"))
    source = Source((bytes(folder),), Excludes(["x"] * patterns))
    backup = Backup(watched, house.keys, house.ledger, source, house.cache)
    with pytest.raises(Invalid):
        backup.run(label())
    assert calls == []


def test_an_appliance_that_was_turned_back_is_reported(tmp_path: Path, folder: Path) -> None:
    write_files(folder, 5)
    state, copy = tmp_path / "state", tmp_path / "copy"
    with (
        daemons.box(state=state) as box,
        household(box, "anna", tmp_path / "machine") as house,
    ):
        person, machine = house.person, house.machine
        house.save(folder)
    shutil.copytree(state, copy)
    with (
        daemons.box(state=state) as box,
        connected(box, person, machine, tmp_path / "machine") as house,
    ):
        assert house.save(folder).turned_back == ()
        series = house.latest().series
    with (
        daemons.box(state=copy) as box,
        connected(box, person, machine, tmp_path / "machine") as house,
    ):
        result = house.save(folder)
        copied, older = result.turned_back
        assert copied.startswith("the appliance's store was copied or restored")
        assert older == f"series {series.hex}: there was snapshot 2, now 1"
        assert house.contents(house.latest(), folder) == files_below(folder)
        assert house.save(folder).turned_back == ()


@dataclass
class Bundles:
    """Which files of a snapshot lie in which bundle, and how much of each bundle is alive."""

    chunk_of: dict[str, ChunkId]
    alive: dict[ChunkId, int]
    whole: dict[ChunkId, int]

    @property
    def dead_share(self) -> float:
        return 1 - sum(self.alive.values()) / sum(self.whole.values())

    def is_worn(self, chunk: ChunkId) -> bool:
        return self.alive[chunk] < self.whole[chunk] * ALIVE_MIN


def bundles_of(house: Household, folder: Path) -> Bundles:
    chunk_of: dict[str, ChunkId] = {}
    alive: dict[ChunkId, int] = {}
    for name, found in house.found(house.latest(), folder).items():
        (extent,) = found.entry.extents
        chunk = chunk_of[name] = found.leaf.references[extent.chunk]
        alive[chunk] = alive.get(chunk, 0) + extent.length
    with house.reading() as reader:
        chunks = dict(reader.chunks(list(alive)))
    whole = {
        chunk: len(data) for chunk, data in chunks.items() if not isinstance(data, BackitError)
    }
    assert set(whole) == set(alive)
    return Bundles(chunk_of, alive, whole)


def test_what_lives_in_worn_bundles_moves_and_nothing_else(house: Household, folder: Path) -> None:
    """Files die run by run, and the dead must not keep most of the appliance to themselves."""
    numbers = random.Random(1)
    for number in range(120):
        (folder / f"f{number:03}").write_bytes(numbers.randbytes(30 * KIB))
    settle(folder)
    house.save(folder)
    before = bundles_of(house, folder)
    moved_once = False
    for run in range(4):
        files = sorted(folder.glob("f*"))
        for path in numbers.sample(files, len(files) * 4 // 10):
            path.unlink()
        (folder / f"new{run}").write_bytes(b"so that something changes %d" % run)
        settle(folder)
        house.save(folder)
        after = bundles_of(house, folder)
        both = after.chunk_of.keys() & before.chunk_of.keys()
        moved = {name for name in both if after.chunk_of[name] != before.chunk_of[name]}
        worn = {name for name in both if before.is_worn(before.chunk_of[name])}
        assert moved == worn
        moved_once |= bool(moved)
        before = after
    assert moved_once
    assert house.contents(house.latest(), folder) == files_below(folder)
    # Six of ten survive each of four runs: without moving, 87 % of the first bundles were dead.
    assert before.dead_share < 0.7


def test_what_dies_adds_up_until_what_lives_is_counted_again(
    house: Household, folder: Path
) -> None:
    """Counting reads the whole tree again: not for every file that changes."""
    numbers = random.Random(1)
    for number in range(200):
        (folder / f"f{number:03}").write_bytes(numbers.randbytes(30 * KIB))
    settle(folder)
    house.save(folder)
    series = series_of(house.keys, (bytes(folder),))
    remembered = SeriesCache(house.cache, Box(cache_key(house.keys.signing)), series)
    died: list[int] = []
    for path in sorted(folder.iterdir())[:4]:
        path.unlink()
        house.save(folder)
        head = remembered.head()
        assert head is not None
        died.append(head.died)
    assert died == [30 * KIB, 0, 30 * KIB, 0], "counted when more than a hundredth had died"
