"""What a restore is asked to do, what it tells while it runs, and what came of it. Values and
counting, no work.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from backit.engine.plan import Action, Overwrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backit.crypto.primitives import Buffer
    from backit.errors import BackitError
    from backit.ids import ChunkId

# So many of each kind are kept by name; all are counted, and told to the progress.
NOTES_MAX = 10_000
MEMORY_MAX = 48 << 20
# They mostly wait, for the disk or for a writing process of their own.
THREADS = 2
# A process takes as long to start as a thread takes for so many small files.
FILES_HERE = 1000


class ChunkSource(Protocol):
    """Where plaintexts of data chunks come from."""

    def chunks(self, ids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, Buffer | BackitError]]:
        """Each of these chunks once, in any order: its verified plaintext, or why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """`verify` reads local files even where size and time say that nothing changed.

    `memory` bounds the bytes of chunks that wait to be written. `sync` ends the run with everything
    on disk. After `files_here` small files, processes are started that write the others.
    """

    dry_run: bool = False
    overwrite: Overwrite = Overwrite.OLDER
    numeric_ids: bool = False
    verify: bool = False
    sync: bool = True
    threads: int = THREADS
    files_here: int = FILES_HERE
    memory: int = MEMORY_MAX


class RestoreProgress(Protocol):
    """Hears of everything, from several threads at once. Paths are those in the target."""

    def done(self, path: bytes, action: Action, size: int) -> None:
        """An entry is as the snapshot has it (in a dry run: would be); `size` bytes were written
        for it.
        """
        ...

    def failed(self, path: bytes, why: str) -> None:
        """An entry was not restored."""
        ...

    def kept(self, path: bytes, why: str) -> None:
        """What stood there was left as it is, because of `overwrite`."""
        ...

    def warned(self, path: bytes, why: str) -> None:
        """An entry was restored, but not all of its metadata."""
        ...


class Silent:
    """A progress that nobody listens to."""

    def done(self, path: bytes, action: Action, size: int) -> None:
        pass

    def failed(self, path: bytes, why: str) -> None:
        pass

    def kept(self, path: bytes, why: str) -> None:
        pass

    def warned(self, path: bytes, why: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell about one path of the target."""

    path: bytes
    why: str


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """Counts of entries by what was done; notes are the first 10,000 of each kind."""

    actions: dict[Action, int]
    written: int
    failed: int
    kept: int
    warned: int
    failures: Sequence[Note]
    keeps: Sequence[Note]
    warnings: Sequence[Note]

    @property
    def is_whole(self) -> bool:
        """Whether all is now as the snapshot has it, but for metadata that could not be set."""
        return not self.failed and not self.kept


class Tally:
    """Counts for the result and passes on to the progress, from any thread."""

    def __init__(self, progress: RestoreProgress) -> None:
        self._progress = progress
        self._lock = Lock()
        self._actions = dict.fromkeys(Action, 0)
        self._written = 0
        self._counts = {"failed": 0, "kept": 0, "warned": 0}
        self._notes: dict[str, list[Note]] = {"failed": [], "kept": [], "warned": []}

    def done(self, path: bytes, action: Action, size: int = 0) -> None:
        with self._lock:
            self._actions[action] += 1
            self._written += size
        self._progress.done(path, action, size)

    def failed(self, path: bytes, why: str) -> None:
        self._note("failed", path, why)
        self._progress.failed(path, why)

    def kept(self, path: bytes, why: str) -> None:
        self._note("kept", path, why)
        self._progress.kept(path, why)

    def warned(self, path: bytes, why: str) -> None:
        self._note("warned", path, why)
        self._progress.warned(path, why)

    def result(self) -> RestoreResult:
        with self._lock:
            counts, notes = self._counts, self._notes
            return RestoreResult(
                actions={each: count for each, count in self._actions.items() if count},
                written=self._written,
                failed=counts["failed"],
                kept=counts["kept"],
                warned=counts["warned"],
                failures=tuple(notes["failed"]),
                keeps=tuple(notes["kept"]),
                warnings=tuple(notes["warned"]),
            )

    def _note(self, kind: str, path: bytes, why: str) -> None:
        with self._lock:
            self._counts[kind] += 1
            if len(self._notes[kind]) < NOTES_MAX:
                self._notes[kind].append(Note(path, why))
