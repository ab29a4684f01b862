"""Starts the process that reads, and hands what it finds to the one that sends: this one.

No decisions: frames in, calls of the sender out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

from backit.client.arena import Arena
from backit.client.frames import Down, Note, Up, pack_note, read_frame, write_all, write_value
from backit.errors import Internal
from backit.format.magic import MIB
from backit.ids import ChunkId

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from backit.client.growth import Counts
    from backit.client.job import Grown, Job, Start
    from backit.client.sender import Sender
    from backit.ids import SnapshotId

# What has been read and not been sealed yet.
ARENA_BYTES = 64 * MIB
# Room for more notes than are ever under way, so that a note is never waited for; and for the nodes
# of many small files, so that they are read on while larger ones before them are sealed.
PIPE_BYTES = MIB
END_SECONDS = 60.0
ENDED = "backing up: the process that reads files has ended unexpectedly"


class ReadingHost:
    """One reading process, for as long as the block runs.

    It takes a while to start, and needs nothing to begin with: make one as soon as it is known that
    something is to be saved.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        with contextlib.ExitStack() as undo:
            self._arena = Arena.create(ARENA_BYTES)
            undo.callback(self._arena.close)
            (self._up, up), (down, self._down) = os.pipe(), os.pipe()
            undo.callback(os.close, self._up)
            undo.callback(os.close, self._down)
            try:
                self._process = self._start(up, down)
            finally:
                os.close(up)
                os.close(down)
            undo.callback(self._end)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Make sure that it has ended; one that is in the middle loses nothing."""
        self._undo.close()

    def _start(self, up: int, down: int) -> subprocess.Popen[bytes]:
        with contextlib.suppress(OSError):  # users have a limit; what there is will do, too
            for fd in (self._down, up):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        arguments = [str(fd) for fd in (self._arena.fd, up, down)]
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-m", "backit.client.reading", *arguments],
            pass_fds=(self._arena.fd, up, down),
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for us, and we end it
        )

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _give(self, value: object) -> None:
        try:
            write_value(self._down, value)
        except BrokenPipeError:
            raise Internal(ENDED) from None

    def grow(self, job: Job, start: Start, sender: Sender, counts: Counts) -> Grown:
        """Have the tree grown. Raises what kept either process from it."""
        # It may be waiting for something that will never come now, and we for it.
        sender.failed.add_done_callback(lambda _failed: self._process.kill())
        self._give(job)
        self._give(start)
        while True:
            try:
                found = read_frame(self._up)
            except EOFError:
                found = None
            sender.check()
            if found is None:
                raise Internal(ENDED)
            frame, payload = found
            match frame.kind:
                case Up.DATA:
                    self._data(sender, frame.start, frame.length, frame.number)
                case Up.NODE:
                    sender.node(pickle.loads(payload))  # noqa: S301 - our own process
                case Up.LIVE:
                    self._ask(sender, ChunkId(payload), frame.number)
                case Up.PROGRESS:
                    counts.take(pickle.loads(payload))  # noqa: S301 - our own process
                case Up.GROWN:
                    grown: Grown = pickle.loads(payload)  # noqa: S301 - our own process
                    counts.take(grown.counts)
                    return grown
                case Up.FAILED:
                    raise pickle.loads(payload)  # noqa: S301 - our own process

    def committed(self, snapshot: SnapshotId, new_bytes: int) -> str:
        """Let it remember this run, and wait until it does. Says why if it does not."""
        self._tell(Note(Down.COMMITTED, 0, new_bytes, snapshot.raw))
        try:
            found = read_frame(self._up)
            code = self._process.wait(END_SECONDS)
        except (EOFError, subprocess.TimeoutExpired) as error:
            return str(error)
        if found is not None:
            return _why(pickle.loads(found[1]))  # noqa: S301 - our own process
        return ENDED if code else ""

    def _data(self, sender: Sender, start: int, length: int, number: int) -> None:
        named = sender.data(
            [self._arena.stretch(start, length)],
            length,
            lambda: self._tell(Note(Down.FREE, start, 0, b"")),
        )
        named.add_done_callback(lambda done: self._tell_name(number, done))

    def _tell_name(self, number: int, named: Future[ChunkId]) -> None:
        if named.exception() is None:
            self._tell(Note(Down.NAMED, 0, number, named.result().raw))

    def _ask(self, sender: Sender, chunk: ChunkId, number: int) -> None:
        def answered(done: Future[bool]) -> None:
            if done.exception() is None:
                self._tell(Note(Down.LIVE, int(done.result()), number, b""))

        sender.is_live(chunk).add_done_callback(answered)

    def _tell(self, note: Note) -> None:
        # The other side may have been ended: then nobody waits for the note.
        with self._lock, contextlib.suppress(BrokenPipeError, OSError):
            write_all(self._down, pack_note(note))


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)
