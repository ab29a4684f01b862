"""Walks a snapshot's entries and the target side by side, and decides what becomes of each entry.

Folders are made at once, so that what belongs into them has a place; everything else is handed over
as a job. One thread. How a job is done is build.py's business, what is decided stands in
engine/plan.py.
"""

from __future__ import annotations

import stat as st
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.client.build import Job
from backit.client.compare import compare, compare_metadata, same_content
from backit.client.imprint import reason
from backit.client.links import Member, Role
from backit.client.write import is_ending, look
from backit.engine.extents import ExtentList, extents_of, is_listed, list_hash
from backit.engine.plan import Action, Here, Layout, Overwrite, Window, decide
from backit.errors import Damaged, NotFound
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from backit.client.build import Builder
    from backit.client.crew import Crew
    from backit.client.folders import Folder, Folders
    from backit.client.handles import Identity
    from backit.client.imprint import Owners
    from backit.client.linker import Linker
    from backit.client.links import Group, Links
    from backit.client.outcome import RestoreOptions, Tally
    from backit.client.site import Site, Target
    from backit.crypto.keys import DomainKeys
    from backit.engine.walk import Found, Load

# Jobs without chunks that are handed over together, and what they count for.
JOBS_AT_ONCE = 64
JOB_BYTES = 1024
# Files that are read together before anything is decided about them.
UNSURE_AT_ONCE = 256
# Files in several pieces that may be open at a time.
ASSEMBLIES_MAX = 64

OTHER_LIST = "the list of its pieces does not have the hash in the snapshot"

# A directory that the walk has yet to reach: its folder, and whether all below it is lost.
_Ahead = tuple[bytes, "Folder | None", bool]


@dataclass(slots=True)
class _Level:
    """A directory of the snapshot on the way to where the walk is."""

    # None if nothing in it can be restored, or if a dry run would have to make it first.
    folder: Folder | None
    is_lost: bool
    # Of its path as keys have it.
    length: int
    # Directories in it, in order.
    ahead: deque[_Ahead] = field(default_factory=deque[_Ahead])


@dataclass(frozen=True, slots=True)
class Scene:
    """What a placer works with."""

    keys: DomainKeys
    load: Load
    owners: Owners
    options: RestoreOptions
    site: Site
    folders: Folders
    links: Links
    linker: Linker
    builder: Builder
    crew: Crew
    tally: Tally


class Placer:
    """One walk. `fetch` gets each window that is full, to keep."""

    def __init__(
        self,
        scene: Scene,
        target: Target,
        directory: bytes,
        fetch: Callable[[Window[Job]], None],
    ) -> None:
        """`target` is where the entries of `directory` go."""
        self._scene = scene
        self._fetch = fetch
        self._target = target
        self._prefix = len(directory)
        self._levels = [_Level(target.folder, is_lost=False, length=len(directory))]
        self._at = directory
        self._window: Window[Job] = Window()
        self._assemblies = 0
        self._jobs: list[Job] = []
        self._ready: list[tuple[Group, Member]] = []
        self._unsure: list[tuple[Job, os.stat_result]] = []
        # Of a dry run: what stands where the first name of a group belongs.
        self._seen: dict[Group, Identity | None] = {}

    def place(self, found: Found) -> None:
        """The next entry in key order."""
        if found.directory != self._at:
            self._go_to(found)
        level = self._levels[-1]
        if found.entry.type == pb.FILE_TYPE_DIRECTORY:
            folder, is_lost = self._place_folder(level, found)
            level.ahead.append((found.entry.name, folder, is_lost))
        elif level.folder is not None:
            self.place_in(level.folder, found)
        elif not level.is_lost:
            self._scene.tally.done(self._path(found), Action.MAKE, found.entry.size)

    def place_in(self, folder: Folder, found: Found, group: Group | None = None) -> None:
        """An entry that is no directory, in this folder.

        `group` is given if it was placed before and waited for a carrier that never came.
        """
        scene = self._scene
        wanted = scene.owners.metadata(found.entry, found.leaf)
        if group is None:
            group = scene.links.group(found.entry)
            folder.placed += 1
        job = Job(folder, found.entry, found.leaf, wanted, group)
        if group is None and folder.is_new:
            self._make(job)
            return
        try:
            if group is None or self._carries(group, job):
                self._look(job)
        except OSError as error:
            if is_ending(error):
                raise
            scene.builder.fail(job, reason(error))

    def finish(self) -> None:
        """There are no more entries: leave every folder, and hand over all that was put off."""
        while self._levels:
            self._leave()
        self.flush()

    def flush(self) -> None:
        """Hand over all that was put off."""
        self._settle_unsure()
        self._hand_over()
        self._fetch_window()

    def _go_to(self, found: Found) -> None:
        """Go to the directory that the entry is in."""
        directory = found.directory
        while not directory.startswith(self._at[: self._levels[-1].length]):
            self._leave()
        level = self._levels[-1]
        step = directory[level.length : -1]
        while level.ahead and level.ahead[0][0] < step:
            self._pass_by(level)
        folder: Folder | None = None
        is_lost = True
        if level.ahead and level.ahead[0][0] == step:
            _name, folder, is_lost = level.ahead.popleft()
        elif not level.is_lost:
            where = self._target.path_of(directory[self._prefix : -1].split(b"\0"))
            self._scene.tally.failed(where, "its directory is not in the snapshot")
        self._levels.append(_Level(folder, is_lost, len(directory)))
        self._at = directory

    def _leave(self) -> None:
        level = self._levels.pop()
        while level.ahead:
            self._pass_by(level)
        if level.folder is not None:
            self._scene.folders.leave(level.folder)

    def _pass_by(self, level: _Level) -> None:
        """A directory that holds nothing."""
        _name, folder, _is_lost = level.ahead.popleft()
        if folder is not None:
            self._scene.folders.leave(folder)

    def _place_folder(self, level: _Level, found: Found) -> tuple[Folder | None, bool]:
        """Returns the folder, and whether everything below it is lost."""
        if level.is_lost:
            return None, True
        if level.folder is None:
            self._scene.tally.done(self._path(found), Action.MAKE)
            return None, False
        try:
            return self._scene.site.make(level.folder, found)
        except OSError as error:
            if is_ending(error):
                raise
            why = f"{reason(error)}; nothing below it was restored"
            self._scene.tally.failed(self._path(found), why)
            return None, True

    def _carries(self, group: Group, job: Job) -> bool:
        """Whether this name is the one that the others of its file will be linked to."""
        if self._scene.options.dry_run:
            return self._would_carry(group, job)
        member = Member(job.folder, job.entry.name, job.wanted.mtime)
        role = self._scene.links.join(group, member)
        if role is Role.LINKS:
            self._ready.append((group, member))
            if len(self._ready) >= JOBS_AT_ONCE:
                self._hand_over()
        return role is Role.CARRIES

    def _would_carry(self, group: Group, job: Job) -> bool:
        found = self._stat(job)
        identity = None if found is None else (found.st_dev, found.st_ino)
        if group not in self._seen:
            self._seen[group] = identity
            return True
        action = Action.LINK
        if found is not None and identity == self._seen[group]:
            action = Action.NOTHING
        elif found is not None and self._decide(job, Here.OTHER, found) is Action.KEEP:
            self._keep(job)
            return False
        self._scene.tally.done(job.path, action)
        self._scene.folders.drop(job.folder)
        return False

    def _look(self, job: Job) -> None:
        """See what stands there, and put the job where it belongs. Raises OSError."""
        scene = self._scene
        if job.folder.is_new:
            self._put(job, Here.NOTHING, None)
            return
        with scene.folders.using(job.folder) as directory:
            found = look(directory, job.entry.name)
            if found is None:
                here = Here.NOTHING
            else:
                verify = scene.options.verify
                here = compare(directory, found, job.entry, job.wanted, verify=verify)
        if found is not None and here is Here.UNKNOWN:
            self._unsure.append((job, found))
            if len(self._unsure) >= UNSURE_AT_ONCE:
                self._settle_unsure()
        else:
            self._put(job, here, found)

    def _stat(self, job: Job) -> os.stat_result | None:
        with self._scene.folders.using(job.folder) as directory:
            return look(directory, job.entry.name)

    def _settle_unsure(self) -> None:
        unsure, self._unsure = self._unsure, []
        if not unsure:
            return
        answers = self._scene.crew.each(self._read, [job for job, _found in unsure])
        for (job, found), answer in zip(unsure, answers, strict=True):
            if isinstance(answer, OSError):
                self._scene.builder.fail(job, reason(answer))
            else:
                self._put(job, answer, found)

    def _read(self, job: Job) -> Here | OSError:
        """Compare what only reading can tell. In any thread."""
        scene = self._scene
        entry = job.entry
        layout = _layout(entry)
        try:
            with scene.folders.using(job.folder) as directory:
                check = scene.crew.check
                extents = extents_of(entry, job.leaf, scene.load) if is_listed(entry) else None
                if not same_content(directory, entry, layout, scene.keys, extents, check):
                    return Here.OTHER
                found = look(directory, entry.name)
                if found is None:
                    return Here.NOTHING
                return compare_metadata(directory, found, entry, job.wanted)
        except (PermissionError, Damaged, NotFound):
            return Here.OTHER  # what cannot be read is not known to be right
        except OSError as error:
            return error

    def _decide(self, job: Job, here: Here, found: os.stat_result | None) -> Action:
        return decide(
            here,
            self._scene.options.overwrite,
            mtime_here=found.st_mtime_ns if found is not None else 0,
            mtime_wanted=job.wanted.mtime,
        )

    def _put(self, job: Job, here: Here, found: os.stat_result | None) -> None:
        """What stands there is known: have done what is to be done."""
        scene = self._scene
        action = self._decide(job, here, found)
        if action is Action.NOTHING and found is not None:
            scene.tally.done(job.path, action)
            scene.builder.settle(job, (found.st_dev, found.st_ino))
            return
        if action is Action.KEEP:
            self._keep(job)
            return
        job.action = action
        job.over_directory = found is not None and st.S_ISDIR(found.st_mode)
        if scene.options.dry_run:
            size = 0 if action is Action.METADATA else job.entry.size
            scene.tally.done(job.path, action, size)
            scene.folders.drop(job.folder)
        else:
            self._make(job)

    def _make(self, job: Job) -> None:
        """Have done what the job says."""
        if job.action is not Action.METADATA and job.entry.content_hash:
            self._want(job)
            return
        if job.entry.size:
            job.layout = _layout(job.entry)
        self._jobs.append(job)
        if len(self._jobs) >= JOBS_AT_ONCE:
            self._hand_over()

    def _keep(self, job: Job) -> None:
        why = "it is there already, and differs"
        if self._scene.options.overwrite is Overwrite.OLDER:
            why = "it was changed later than in the snapshot"
        self._scene.tally.kept(job.path, why)
        self._scene.builder.settle(job, None)

    def _want(self, job: Job) -> None:
        """Have the file's chunks fetched."""
        entry = job.entry
        if entry.holes:
            job.layout = _layout(entry)
        job.is_listed = is_listed(entry)
        if len(entry.extents) == 1:
            (only,) = extents_of(entry, job.leaf, self._scene.load)
            if job.is_listed and list_hash(self._scene.keys, only) != entry.content_hash:
                self._scene.builder.fail(job, OTHER_LIST)
                return
            self._window.add(only.chunk, (job, 0, only.offset, only.length))
        else:
            self._want_pieces(job)
        if self._window.is_full or self._assemblies >= ASSEMBLIES_MAX:
            self._fetch_window()

    def _want_pieces(self, job: Job) -> None:
        scene = self._scene
        assembly = scene.builder.assemble(job)
        self._assemblies += 1
        at = 0
        listed = ExtentList(scene.keys)
        try:
            for extent in extents_of(job.entry, job.leaf, scene.load):
                listed.add(extent)
                assembly.expect()
                self._window.add(extent.chunk, (job, at, extent.offset, extent.length))
                at += extent.length
                if self._window.is_full:
                    self._fetch_window()
                if assembly.is_given_up:
                    return
        except (Damaged, NotFound) as error:
            scene.builder.fail(job, str(error))
            return
        if listed.digest() != job.entry.content_hash:
            scene.builder.fail(job, OTHER_LIST)
        elif assembly.all_expected():
            scene.crew.submit(0, scene.builder.finish_assembly, job)

    def _fetch_window(self) -> None:
        # Nothing that was decided earlier may come much later.
        self._hand_over()
        self._assemblies = 0
        if self._window.chunks:
            window, self._window = self._window, Window()
            self._fetch(window)

    def _hand_over(self) -> None:
        jobs, self._jobs = self._jobs, []
        ready, self._ready = self._ready, []
        if jobs:
            size = JOB_BYTES * len(jobs)
            self._scene.crew.submit(size, self._scene.builder.do, jobs)
        if ready:
            size = JOB_BYTES * len(ready)
            self._scene.crew.submit(size, self._scene.linker.link, ready)

    def _path(self, found: Found) -> bytes:
        below = found.directory[self._prefix :].split(b"\0")[:-1]
        return self._target.path_of((*below, found.entry.name))


def _layout(entry: pb.Entry) -> Layout:
    return Layout(entry.size, ((hole.offset, hole.length) for hole in entry.holes))
