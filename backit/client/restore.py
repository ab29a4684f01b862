"""Runs a restore: from a snapshot's tree and a source of chunks to files in a target.

    tree -> placer -> window of chunks -> source -> builder, in several threads -> target

This thread plans, another fetches, a crew writes or has processes write. Nothing ever appears
outside the target, and nothing under its name before it is whole. A second run does what the first
did not come to.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from backit.client.build import Builder
from backit.client.crew import Crew
from backit.client.fetching import Fetcher
from backit.client.flusher import Flusher
from backit.client.folders import HANDLES_MAX, Folders
from backit.client.imprint import Owners, reason
from backit.client.linker import Linker
from backit.client.links import Links
from backit.client.outcome import RestoreOptions, Silent, Tally
from backit.client.place import Placer, Scene
from backit.client.site import Site, Target
from backit.client.write import FULL
from backit.client.writing_host import WritingHosts
from backit.engine.walk import lookup, walk
from backit.errors import Damaged, NotFound, TargetFull, Unavailable
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.client.outcome import ChunkSource, RestoreProgress, RestoreResult
    from backit.crypto.keys import DomainKeys
    from backit.engine.walk import Found, Load
    from backit.ids import ChunkId

# How many entries are placed before it is asked whether the run is to end.
ENTRIES_AT_ONCE = 256


class Restore:
    """One restore of one snapshot, or of what is below one path of it, into one directory."""

    def __init__(  # noqa: PLR0913  # what to restore, from where, to where, how
        self,
        root: ChunkId,
        load: Load,
        source: ChunkSource,
        keys: DomainKeys,
        *,
        subtree: Sequence[bytes],
        target: Path,
        options: RestoreOptions | None = None,
        progress: RestoreProgress | None = None,
        stop: Event | None = None,
    ) -> None:
        """`subtree` is a path of the snapshot by its components, () for everything.

        What a directory holds goes right into the target, anything else under its own name.
        """
        self._root = root
        self._load = load
        self._source = source
        self._keys = keys
        self._subtree = tuple(subtree)
        self._target = target
        self._options = options or RestoreOptions()
        self._stop = stop or Event()
        self._tally = Tally(progress or Silent())

    def run(self) -> RestoreResult:
        """Do it. What befalls single files is in the result.

        Raises NotFound if the snapshot has no such path, TargetFull, Conflict if
        another restore is at work there, KeyboardInterrupt once `stop` is set, OSError if the
        target cannot be opened or written at all, and what the source and the loader raise. Files
        that were not finished are not there then.
        """
        try:
            return self._run()
        except Unavailable:
            if self._stop.is_set():  # whoever set it may have ended the connection as well
                raise KeyboardInterrupt from None
            raise

    def _run(self) -> RestoreResult:
        top = self._find()
        is_folder = top is not None and top.entry.type == pb.FILE_TYPE_DIRECTORY
        options = self._options
        links = Links()
        folders = Folders(self._tally, handles=_handles())
        owners = Owners(numeric=options.numeric_ids)
        site = Site(folders, owners, self._tally, options)
        linker = Linker(folders, links, self._tally, options.overwrite)
        writers = WritingHosts(self._keys.content_key, after=options.files_here)
        builder = Builder(self._keys.content_key, folders, linker, self._tally, writers)
        crew = Crew(options.threads, options.memory, self._stop)
        flusher = Flusher()
        fetcher = Fetcher(self._source, builder, crew, self._stop, flusher.count)
        scene = Scene(
            keys=self._keys,
            load=self._load,
            owners=owners,
            options=options,
            site=site,
            folders=folders,
            links=links,
            linker=linker,
            builder=builder,
            crew=crew,
            tally=self._tally,
        )
        target: Target | None = None
        try:
            target = site.open(self._target, top if is_folder else None)
            if target.folder is None or options.dry_run or not options.sync:
                self._restore(scene, fetcher, target, top)
            else:
                with folders.using(target.folder) as fd, flusher.flushing(fd):
                    self._restore(scene, fetcher, target, top)
        except OSError as error:
            if error.errno in FULL:
                raise TargetFull(f"restore to {self._target}: {reason(error)}") from error
            raise
        finally:
            fetcher.dismiss()
            crew.dismiss()
            writers.close()
            builder.discard()
            if target is not None:
                site.close(target)
            folders.close()
        return self._tally.result()

    def _restore(self, scene: Scene, fetcher: Fetcher, target: Target, top: Found | None) -> None:
        if top is not None and top.entry.type != pb.FILE_TYPE_DIRECTORY:
            placer = Placer(scene, target, top.directory, fetcher.fetch)
            placer.place(top)
        else:
            inside = top.inside if top is not None else b""
            placer = Placer(scene, target, inside, fetcher.fetch)
            for count, found in enumerate(walk(self._root, self._load, inside)):
                if not count % ENTRIES_AT_ONCE:
                    scene.crew.check()
                placer.place(found)
        placer.finish()
        fetcher.drain()
        self._place_orphans(scene, fetcher, placer)
        scene.linker.lock()

    def _find(self) -> Found | None:
        if not self._subtree:
            return None
        top = lookup(self._root, self._load, self._subtree)
        if top is None:
            path = os.fsdecode(b"/" + b"/".join(self._subtree))
            raise NotFound(f"{path} is not in the snapshot")
        return top

    def _place_orphans(self, scene: Scene, fetcher: Fetcher, placer: Placer) -> None:
        """Names whose carrier came to nothing: the first of each file carries it now."""
        while orphans := scene.links.take_orphans():
            for group, member in orphans:
                scene.crew.check()
                path = [*self._subtree, *member.folder.components, member.name]
                found = lookup(self._root, self._load, path)
                if found is None:
                    raise Damaged(f"{os.fsdecode(b'/'.join(path))} is gone from the snapshot")
                placer.place_in(member.folder, found, group)
            placer.flush()
            fetcher.drain()


def _handles() -> int:
    """How many directories may stay open: a part of what this process may open beside what is."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return HANDLES_MAX
    room = soft - sum(1 for _each in Path("/proc/self/fd").iterdir())
    return max(1, min(HANDLES_MAX, room // 4))
