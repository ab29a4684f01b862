"""The process that reads: scans, compares, reads files and grows the tree, and knows no network.

A process of its own because the interpreter lets only one thread run: beside threads that seal and
send, the one that reads files is stopped at every system call. Started by `reading_host`, told what
to do over a pipe (its job holds a domain's secret, which has no place in arguments), it ends when
the backup is committed, or when the other side is gone.
"""

from __future__ import annotations

import gc
import pickle
import signal
import sys
from typing import TYPE_CHECKING

from backit import process
from backit.client import surprise
from backit.client.ahead import read_ahead
from backit.client.archive import SeenArchive
from backit.client.arena import Arena
from backit.client.cache import (
    Box,
    CachedHead,
    SeenCache,
    SeriesCache,
    TreeWriter,
    as_far_as_readable,
)
from backit.client.contents import Contents
from backit.client.courier import Courier
from backit.client.excludes import Excludes
from backit.client.frames import Frame, Up, pack_frame, read_value, write_all
from backit.client.growth import Counts, Growth
from backit.client.job import Grown, Job, Start, Trust
from backit.client.problems import Problems
from backit.client.remains import remains
from backit.client.scan import Scanner
from backit.crypto.keys import DomainKeys
from backit.engine.wear import Wear, died_since, is_due
from backit.errors import BackitError, Internal, Unavailable
from backit.ids import ChunkId, SnapshotId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backit.client.scan import Batch
    from backit.engine.levels import ChildInfo
    from backit.engine.tree import Leaf

# Collections of garbage are rare: nearly nothing here is cyclic, and each looks at everything.
GC_THRESHOLD = (100_000, 50, 100)


class Reading:
    """One run of the reading process."""

    def __init__(self, job: Job, start: Start, arena: Arena, up: int, down: int) -> None:
        self._job = job
        self._start = start
        self._counts = Counts()
        self._problems = Problems()
        self._courier = Courier(arena, up, down, self._counts)
        box = Box(job.cache_key)
        self._trees = SeriesCache(job.cache_folder, box, job.series)
        self._seen = SeenCache(job.cache_folder, box, SeenArchive(job.cache_folder, box))

    def run(self) -> None:
        """Grow the tree, say so, and wait for the commit."""
        parent = self._parent()
        if self._start.trust is Trust.NOTHING:
            self._seen.forget()
        contents = Contents(self._courier, self._seen, parent.worn if parent else ())
        writer = self._trees.writer()
        growth = Growth(
            self._courier,
            DomainKeys(self._job.domain, self._job.domain_secret),
            contents,
            counts=self._counts,
            problems=self._problems,
            on_leaf=writer.add,
        )
        try:
            batches = read_ahead(self._scan(), since=self._trees.saved_ns(parent))
            root = growth.run(batches, self._leaves(parent))
            self._courier.say(Up.GROWN, Grown(root, self._counts, self._problems))
            self._remember(root, parent, contents, writer)
        finally:
            writer.discard()

    def _remember(
        self, root: ChildInfo, parent: CachedHead | None, contents: Contents, writer: TreeWriter
    ) -> None:
        """Once it is committed, keep what the next run may rely on."""
        if self._counts.changed_files:
            contents.remember()
        while self._courier.committed is None:
            self._courier.wait()
        note = self._courier.committed
        changed, died = self._counts.changed_bytes, 0
        if parent is not None:
            died = parent.died + died_since(parent.size, root.size, changed)
        head = CachedHead(SnapshotId(note.raw), root.chunk, root.size, died)
        self._trees.commit(head, writer)
        if self._counts.changed_files:
            self._seen.save()
        # Of bundles that are to be moved there may be more than the last run was told of.
        if is_due(died, root.size) or contents.worn:
            self._trees.advise(self._worn(root.chunk, note.number))

    def _worn(self, root: ChunkId, stored: int) -> list[ChunkId]:
        wear = Wear()
        for leaf in as_far_as_readable(self._trees.leaves(root)):
            wear.count(leaf.node)
        for chunk, length in self._seen.reaches():
            wear.reaches(chunk, length)
        return wear.worn(stored)

    def _scan(self) -> Iterator[Batch]:
        job = self._job
        return Scanner(
            job.paths,
            excludes=Excludes(job.patterns, skip_caches=job.skip_caches),
            one_file_system=job.one_file_system,
            report=self._problems.report,
        ).batches()

    def _parent(self) -> CachedHead | None:
        """The last tree, if this device remembers exactly the snapshot that is the head."""
        cached = None if self._start.trust is Trust.NOTHING else self._trees.head()
        return cached if cached is not None and cached.snapshot == self._start.head else None

    def _leaves(self, parent: CachedHead | None) -> Iterator[Leaf]:
        if parent is None:
            return iter(())
        leaves = as_far_as_readable(self._trees.leaves(parent.root))
        if self._start.trust is Trust.ASKING:
            return remains(leaves, self._courier.is_live)
        return leaves


def main() -> int:
    """Descriptors of the arena, the pipe up and the pipe down are the arguments."""
    # What cannot be done here could not be done in the process that started us, which has said so.
    process.harden()
    process.tune_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us decides, and closes the pipes
    gc.set_threshold(*GC_THRESHOLD)
    arena_fd, up, down = (int(argument) for argument in sys.argv[1:4])
    try:
        job: Job = read_value(down)
        start: Start = read_value(down)
        Reading(job, start, Arena(arena_fd), up, down).run()
    except (Unavailable, EOFError, BrokenPipeError):
        return 1  # the other side is gone, and knows why
    except (BackitError, OSError) as error:
        return _failed(up, error)
    except Exception as error:  # noqa: BLE001 - told by the other process, without a traceback
        if surprise.is_wanted():
            sys.stderr.write(surprise.explained(error))
        return _failed(up, Internal(f"reading what is to be saved: {surprise.told(error)}"))
    return 0


def _failed(up: int, error: Exception) -> int:
    payload = pickle.dumps(error)
    write_all(up, pack_frame(Frame(Up.FAILED, 0, len(payload), 0), payload))
    return 1


if __name__ == "__main__":
    sys.exit(main())
