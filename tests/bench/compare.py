"""The comparison itself: every tool in turn, row after row, run after run.

For each data set and run every tool gets a fresh repository; then come the rows, and within a row
the tools, so that what is compared was measured within a minute or so. What is not the tool's own
work (making a repository, warming the page cache, syncing, checking, deleting) is not timed.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from tests.bench import datasets, mounts
from tests.bench.datasets import DataSet
from tests.bench.measure import Usage, measure
from tests.bench.peers import PEERS, BackIT, Peer, binaries_of
from tests.bench.rows import MANY_SNAPSHOTS, DataSetName, Row

Say = Callable[[str], None]

# A tree of so many files is not deleted before its data set is done with.
MANY_FILES = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to compare; `work` is an existing folder on the disk to measure."""

    rows: Sequence[Row]
    tools: Sequence[str]
    runs: int
    small: bool
    work: Path
    peers_folder: Path

    @property
    def done(self) -> Path:
        """Where trees go that have been measured and may not be deleted yet."""
        return self.work / "done"


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run of one tool; `repository` in bytes, after a first backup only.

    `verified`: what was restored was compared with its source (an inequality ends everything).
    """

    row: str
    tool: str
    run: int
    usage: Usage
    repository: int | None = None
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """Grows while the comparison goes on, so that an interrupted one keeps what it has."""

    data_sets: list[DataSet]
    samples: list[Sample]


def compare(plan: Plan, results: Results, say: Say) -> None:
    """Carry the plan out. Raises BenchError as soon as a tool fails or restores wrongly."""
    names: dict[DataSetName, None] = dict.fromkeys(row.data_set for row in plan.rows)
    for name in names:
        say(f"making data set {name}")
        data_set = datasets.make(name, plan.work / "data" / name, small=plan.small)
        results.data_sets.append(data_set)
        say(f"data set {name}: {data_set.files} files, {data_set.size / 1e6:.0f} MB")
        rows = [row for row in plan.rows if row.data_set == name]
        for run in range(1, plan.runs + 1):
            _Round(plan, data_set, run, results.samples, say).go(rows)
        datasets.remove(data_set.folder)
        if plan.done.exists():
            datasets.remove(plan.done)


class _Round:
    """One run of all rows of one data set."""

    def __init__(
        self, plan: Plan, data_set: DataSet, run: int, samples: list[Sample], say: Say
    ) -> None:
        self._plan = plan
        self._data_set = data_set
        self._run = run
        self._samples = samples
        self._say = say

    def go(self, rows: Sequence[Row]) -> None:
        wanted = {row.action: row for row in rows}
        folder = self._plan.work / "repositories"
        folder.mkdir()
        with ExitStack() as stack:
            peers = [
                stack.enter_context(closing(PEERS[name](self._binaries(name), folder / name)))
                for name in self._plan.tools
            ]
            for peer in peers:
                peer.prepare()
            # The later rows stand on a first backup, timed or not.
            for peer in peers:
                self._first(peer, wanted.get("first"))
            if row := wanted.get("unchanged"):
                for peer in peers:
                    self._backup(peer, row)
            if row := wanted.get("restore"):
                for peer in peers:
                    self._restore(peer, row)
            for row in rows:
                self._look(peers, row)
        datasets.remove(folder)

    def _look(self, peers: Sequence[Peer], row: Row) -> None:
        """The rows of the mount, if it is one."""
        if row.action == "mount-list":
            self._list([peer for peer in peers if isinstance(peer, BackIT)], row)
        elif row.action.startswith("mount-"):
            for peer in peers:
                self._mount(peer, row)

    def _binaries(self, name: str) -> Path:
        return binaries_of(name, self._plan.peers_folder)

    def _first(self, peer: Peer, row: Row | None) -> None:
        if row is None:
            self._say(f"{self._data_set.name}: {peer.name} backs up, not measured")
            measure(peer.backup(self._data_set.folder))
        else:
            self._backup(peer, row)

    def _backup(self, peer: Peer, row: Row) -> None:
        datasets.warm(self._data_set.folder)
        os.sync()
        usage = measure(peer.backup(self._data_set.folder), peer.servers)
        os.sync()
        size = peer.repository_size() if row.action == "first" else None
        self._record(Sample(row.name, peer.name, self._run, usage, size))

    def _restore(self, peer: Peer, row: Row) -> None:
        target = self._plan.work / "restored"
        target.mkdir()
        datasets.warm(peer.repository)
        os.sync()
        usage = measure(peer.restore(target), peer.servers)
        verify = self._run == 1
        if verify:
            datasets.verify(self._data_set.folder, target)
        self._put_away(target, row, peer)
        self._record(Sample(row.name, peer.name, self._run, usage, verified=verify))

    def _mount(self, peer: Peer, row: Row) -> None:
        """A fresh mount: nothing of it is in anybody's cache."""
        datasets.warm(peer.repository)
        os.sync()
        log, target = self._plan.work / "reader.log", self._plan.work / "copied"
        target.mkdir()
        with mounts.mounted(peer, self._plan.work / "mounted") as process:
            seen = peer.mounted(self._plan.work / "mounted")
            command = mounts.reader(row.action, seen, target, log)
            usage = measure(command, [*peer.servers, process])
        self._put_away(target, row, peer)
        self._record(Sample(row.name, peer.name, self._run, usage))

    def _put_away(self, target: Path, row: Row, peer: Peer) -> None:
        """Large files are deleted. A tree of many stays for now, out of the page cache.

        ext4 looks for inode numbers that were not freed in the last minutes: whoever makes files
        after a large tree was deleted searches for seconds, which is no tool's doing.
        """
        if self._data_set.files < MANY_FILES:
            datasets.remove(target)
            return
        os.sync()
        datasets.cool(target)
        self._plan.done.mkdir(exist_ok=True)
        target.rename(self._plan.done / f"{row.name}-{peer.name}-{self._run}")

    def _list(self, peers: Sequence[BackIT], row: Row) -> None:
        """From the command that mounts to the end of the first listing."""
        folder = self._plan.work / "mounted"
        for peer in peers:
            measure(peer.add_snapshots(MANY_SNAPSHOTS - 1))
            measure(peer.login())
            folder.mkdir()
            try:
                usage = measure(peer.mount_and_list(folder), peer.servers)
            finally:
                measure(peer.unmount(folder))
            folder.rmdir()
            self._record(Sample(row.name, peer.name, self._run, usage))

    def _record(self, sample: Sample) -> None:
        self._samples.append(sample)
        usage = sample.usage
        self._say(
            f"{sample.row} {sample.run}/{self._plan.runs} {sample.tool}: {usage.wall:.2f} s, "
            f"CPU {usage.client_cpu:.2f} + {usage.server_cpu:.2f} s"
            + (", verified" if sample.verified else "")
        )
