"""What a restore's threads do: put entries into the target, one after another, each whole or not at
all.

A `Job` is one entry that is to be made. Whoever does it settles all that hangs on it: the tally,
the folder that waits for it, the links that wait for it. Deciding what is to be made is place.py's
business.
"""

from __future__ import annotations

import errno
import os
import stat as st
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from backit.client import imprint
from backit.client.assembly import Assembly
from backit.client.batch import Batch
from backit.client.folders import Visit
from backit.client.imprint import LOCKING_FLAGS, reason
from backit.client.links import Group, Member
from backit.client.whole import Maker, Whole
from backit.client.write import Special, is_ending, make_special, remove_directory
from backit.engine.file_types import DEVICES, FORMAT_OF
from backit.engine.plan import Action, Layout
from backit.errors import BackitError, Damaged
from backit.format.node import FLAGS_MASK
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backit.client.folders import Folder, Folders
    from backit.client.handles import Identity
    from backit.client.imprint import Metadata
    from backit.client.linker import Linker
    from backit.client.outcome import Tally
    from backit.client.write import NewFile
    from backit.client.writing_host import WritingHost, WritingHosts
    from backit.crypto.primitives import Buffer
    from backit.engine.plan import Piece
    from backit.format.node import Node
    from backit.ids import ChunkId


# The identity of a file that nothing will be linked to.
NOBODY = (0, 0)


@dataclass(slots=True, eq=False)
class Job:
    """An entry that is to be made, or to get its metadata. Its folder waits for it."""

    folder: Folder
    entry: pb.Entry
    leaf: Node
    wanted: Metadata
    group: Group | None
    action: Action = Action.MAKE
    # A directory stands where it goes; it may be removed if it is empty.
    over_directory: bool = False
    # None where there are no holes.
    layout: Layout | None = None
    # None if the content comes in one piece.
    assembly: Assembly | None = None
    # The content hash is that of the list of extents, which has been checked.
    is_listed: bool = False

    @property
    def path(self) -> bytes:
        return self.folder.path_of(self.entry.name)

    @property
    def whole(self) -> Whole:
        """What is to be made, if it is a regular file."""
        return Whole(
            self.entry.name,
            self.wanted,
            b"" if self.is_listed else self.entry.content_hash,
            self.layout,
            self.folder.inherits,
            replace=self.action is Action.REPLACE and not self.over_directory,
            over_directory=self.over_directory,
        )


class Builder:
    """Everything here may be called from any thread; what a job meets is its own affair and never
    raised.

    But for what ends the run (OSError): a target that takes nothing more.
    """

    def __init__(
        self,
        content_key: bytes,
        folders: Folders,
        linker: Linker,
        tally: Tally,
        writers: WritingHosts,
    ) -> None:
        self._folders = folders
        self._linker = linker
        self._tally = tally
        self._writers = writers
        self._maker = Maker(content_key)
        self._lock = Lock()
        self._assemblies: set[Assembly] = set()

    def assemble(self, job: Job) -> Assembly:
        """Begin a file that comes in pieces."""
        layout = job.layout or Layout(job.entry.size, ())
        assembly = Assembly(layout, partial(self._open_file, job), partial(self._let_go, job))
        job.assembly = assembly
        with self._lock:
            self._assemblies.add(assembly)
        return assembly

    def write_chunk(
        self, chunk: ChunkId, data: Buffer | BackitError, pieces: Sequence[Piece[Job]]
    ) -> None:
        """Write everything that one chunk goes to."""
        if isinstance(data, BackitError):
            for piece in pieces:
                self.fail(piece[0], f"chunk {chunk}: {_without(chunk, data)}")
            return
        view = memoryview(data)
        if (host := self._writers.take(len(pieces))) is not None:
            try:
                pieces = self._write_apart(host, view, pieces)
            finally:
                self._writers.give_back(host)
        visit = Visit(self._folders)
        try:
            for job, at, offset, length in pieces:
                run = view[offset : offset + length]
                if len(run) != length:
                    self.fail(job, f"chunk {chunk}: it is shorter than the snapshot says")
                elif job.assembly is None:
                    self._write_file(visit, job, run)
                else:
                    self._write_piece(job, job.assembly, run, at)
        finally:
            visit.leave()

    def finish_assembly(self, job: Job) -> None:
        """All pieces of the file are written: check it and give it its name."""
        self._attempt(job, self._finish_assembly)

    def do(self, jobs: Sequence[Job]) -> None:
        """Make entries that need no chunk, or give what is there its metadata."""
        visit = Visit(self._folders)
        try:
            for job in jobs:
                if job.action is Action.METADATA:
                    self._attempt(job, self._give_metadata)
                elif job.entry.type == pb.FILE_TYPE_REGULAR:
                    self._write_file(visit, job, memoryview(b""))
                else:
                    self._attempt(job, self._make_special)
        finally:
            visit.leave()

    def settle(self, job: Job, identity: Identity | None) -> None:
        """The job has come to its end: it stands, as that file, or it does not (None)."""
        if job.group is not None:
            member = Member(job.folder, job.entry.name, job.wanted.mtime)
            self._linker.settle(job.group, member, identity)
        self._folders.drop(job.folder)

    def fail(self, job: Job, why: str) -> None:
        if job.assembly is not None and not self._end_assembly(job.assembly):
            return
        self._tally.failed(job.path, why)
        self.settle(job, None)

    def discard(self) -> None:
        """The run ends early: leave nothing of what is not whole. No thread may be at work any
        more.
        """
        for assembly in list(self._assemblies):
            self._end_assembly(assembly)

    def _attempt(self, job: Job, work: Callable[[Job], Identity]) -> None:
        try:
            identity = work(job)
        except (OSError, Damaged) as error:
            if is_ending(error):
                raise
            if isinstance(error, PermissionError) and job.entry.type in DEVICES:
                # Only root makes devices; nobody expects anyone else to.
                self._warn(job, f"the device could not be made: {_why(error)}")
                self.settle(job, None)
            else:
                self.fail(job, _why(error))
            return
        size = 0 if job.action is Action.METADATA else job.entry.size
        self._tally.done(job.path, job.action, size)
        self.settle(job, identity)

    def _write_apart(
        self, host: WritingHost, chunk: memoryview, pieces: Sequence[Piece[Job]]
    ) -> Sequence[Piece[Job]]:
        """Have a process write the files that it can write. Returns the rest."""
        rest: list[Piece[Job]] = []
        batch = Batch(self._folders)
        try:
            for piece in pieces:
                job, _at, start, length = piece
                if job.group is not None or job.assembly is not None or start + length > len(chunk):
                    rest.append(piece)
                    continue
                if batch.is_full:
                    self._write_batch(host, chunk, batch)
                try:
                    batch.add(job, start, length)
                except OSError as error:
                    self.fail(job, reason(error))
            self._write_batch(host, chunk, batch)
        finally:
            batch.leave()
        return rest

    def _write_batch(self, host: WritingHost, chunk: memoryview, batch: Batch) -> None:
        """Have it written, and empty it."""
        if not batch.jobs:
            return
        failed: set[int] = set()
        for trouble in host.write(chunk, batch.directories, batch.orders):
            job = batch.jobs[trouble.order]
            if trouble.code:
                raise OSError(trouble.code, trouble.text)
            if trouble.is_made:
                self._warn(job, trouble.text)
            else:
                failed.add(trouble.order)
                self.fail(job, trouble.text)
        for number, job in enumerate(batch.jobs):
            if number not in failed:
                self._tally.done(job.path, job.action, job.entry.size)
                batch.count(job)
        batch.leave()

    def _write_file(self, visit: Visit, job: Job, data: memoryview) -> None:
        """A file whose content is all here: what there is most of."""
        try:
            identity = self._write_whole(job, data, visit.enter(job.folder))
        except (OSError, Damaged) as error:
            if is_ending(error):
                raise
            self.fail(job, _why(error))
            return
        self._tally.done(job.path, job.action, job.entry.size)
        if job.group is None:
            visit.done += 1
        else:
            self.settle(job, identity)

    def _write_whole(self, job: Job, data: memoryview, directory: int) -> Identity:
        warn = partial(self._warn, job)
        file = self._maker.make(directory, job.folder.device, job.whole, data, warn)
        try:
            return self._flag(job, file.fd)
        finally:
            file.close()

    def _write_piece(self, job: Job, assembly: Assembly, data: memoryview, at: int) -> None:
        try:
            is_last = assembly.put(data, at)
        except (OSError, Damaged) as error:
            if is_ending(error):
                raise
            self.fail(job, _why(error))
            return
        if is_last:
            self.finish_assembly(job)

    def _finish_assembly(self, job: Job) -> Identity:
        assembly = job.assembly
        if assembly is None:
            raise Damaged("it has no content")
        file = assembly.take()
        self._maker.publish(file, job.whole, partial(self._warn, job))
        # It has its name now: nothing that fails from here on may take it away.
        try:
            return self._flag(job, file.fd)
        finally:
            file.close()
            assembly.drop()
            with self._lock:
                self._assemblies.discard(assembly)

    def _end_assembly(self, assembly: Assembly) -> bool:
        """True for the first who gives it up."""
        with self._lock:
            self._assemblies.discard(assembly)
        return assembly.fail()

    def _open_file(self, job: Job) -> NewFile:
        directory = self._folders.acquire(job.folder)
        try:
            warn = partial(self._warn, job)
            return self._maker.begin(directory, job.folder.device, job.whole, warn)
        except BaseException:
            self._folders.release(job.folder)
            raise

    def _let_go(self, job: Job) -> None:
        self._folders.release(job.folder)

    def _flag(self, job: Job, fd: int) -> Identity:
        """Set the flags of a file that has its name, but none that would keep links from it."""
        needs_flags = job.wanted.flags or job.folder.inherits
        if job.group is None and not needs_flags:
            return NOBODY
        found = os.fstat(fd)
        identity = found.st_dev, found.st_ino
        if needs_flags:
            now = FLAGS_MASK
            if job.group is not None and job.wanted.flags & LOCKING_FLAGS:
                now &= ~LOCKING_FLAGS
                name, flags = job.entry.name, job.wanted.flags
                self._linker.lock_later(job.folder, name, identity, flags)
            imprint.imprint_flags(fd, job.wanted.flags, partial(self._warn, job), among=now)
        return identity

    def _warn(self, job: Job, why: str) -> None:
        self._tally.warned(job.path, why)

    def _make_special(self, job: Job) -> Identity:
        entry = job.entry
        special = Special(
            FORMAT_OF[entry.type], entry.target, os.makedev(entry.device_major, entry.device_minor)
        )
        warn = partial(self._warn, job)
        is_fresh = not job.folder.inherits
        with self._folders.using(job.folder) as directory:
            if job.over_directory:
                remove_directory(directory, entry.name)
            return make_special(
                directory,
                entry.name,
                special,
                lambda path: imprint.imprint(path, job.wanted, warn, is_fresh=is_fresh),
                replace=job.action is Action.REPLACE and not job.over_directory,
            )

    def _give_metadata(self, job: Job) -> Identity:
        with self._folders.using(job.folder) as directory:
            place = os.open(
                job.entry.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
            try:
                found = os.fstat(place)
                is_ours = found.st_nlink <= max(job.entry.links, 1)
                if st.S_IFMT(found.st_mode) != FORMAT_OF[job.entry.type] or not is_ours:
                    raise FileExistsError(
                        errno.EEXIST, "it was replaced while it was being restored"
                    )
                path = b"/proc/self/fd/%d" % place
                imprint.imprint(path, job.wanted, partial(self._warn, job), is_fresh=False)
                if job.wanted.flags and st.S_ISREG(found.st_mode):
                    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                    try:
                        self._flag(job, fd)
                    finally:
                        os.close(fd)
                return found.st_dev, found.st_ino
            finally:
                os.close(place)


def _why(error: OSError | Damaged) -> str:
    return reason(error) if isinstance(error, OSError) else str(error)


def _without(chunk: ChunkId, error: BackitError) -> str:
    """The error's text, the chunk not named twice."""
    return str(error).removeprefix(f"chunk {chunk}: ")
