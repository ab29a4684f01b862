"""Walks what is to be saved, by directory handles, in the key order of FORMAT.md section 6.

All entries of a directory come first, sorted by their bytes, then each of its subdirectories in
turn. Nothing is read but directories; what a file holds is reader.py's business. Memory and open
handles stay bounded however large or deep the tree is.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from backit.client.descent import Descent
from backit.client.excludes import TAG_NAME, Excludes, is_cache
from backit.client.handles import (
    ENCODING,
    SURROGATES,
    open_directory,
    open_on_same_mount,
    open_place,
)
from backit.client.problems import Severity
from backit.client.sources import Place, find_places
from backit.client.spill import NameSorter

if TYPE_CHECKING:
    from pathlib import Path

    from backit.engine.merge import Scanned

BATCH_MAX = 10_000

Report = Callable[[bytes, str, Severity], None]

_FORMAT, _DIRECTORY, _SOCKET = 0o170000, 0o040000, 0o140000


@dataclass(frozen=True, slots=True)
class Batch:
    r"""Entries of one directory that follow one another.

    `directory` is its path as keys have it ("c1\0c2\0"), `fd` a handle of it that is valid until
    the next batch is asked for; one that only leads on to a source may be good for looking names up
    and nothing else.
    """

    directory: bytes
    fd: int
    entries: list[Scanned]


@dataclass(frozen=True, slots=True)
class _Source:
    """The innermost source around a directory: its file system, and how long its own path is."""

    device: int
    length: int


@dataclass(slots=True)
class _Level:
    """What there is to do in one of the directories that the walk is in."""

    place: Place | None
    # None where only what leads on to sources is looked at.
    source: _Source | None
    below: Iterator[bytes] = field(default_factory=lambda: iter(()))
    # Subdirectories that are left out themselves but lead on to a source.
    passing: frozenset[bytes] = frozenset()


class Scanner:
    """One walk over all sources: absolute paths; sources.py says what happens to links on the way.

    `report` hears of what is not saved: (path, why, severity). `scratch` is where directories of
    more than 200,000 names are sorted; None is the system's. Raises Invalid for a source that is
    not an absolute path.
    """

    def __init__(
        self,
        sources: Sequence[bytes],
        *,
        excludes: Excludes,
        one_file_system: bool,
        report: Report,
        scratch: Path | None = None,
    ) -> None:
        self._root = find_places(sources)
        self._excludes = excludes
        self._one_file_system = one_file_system
        self._report = report
        self._scratch = scratch

    def batches(self) -> Iterator[Batch]:
        """Everything, in key order. A directory without entries makes no batch."""
        at = Descent(os.O_RDONLY if self._root.is_source else os.O_PATH)
        try:
            source = _Source(os.fstat(at.fd).st_dev, 0) if self._root.is_source else None
            levels = [_Level(self._root, source)]
            yield from self._list(at, levels[-1])
            while levels:
                level = levels[-1]
                name = next(level.below, None)
                if name is None:
                    self._leave(at, levels)
                elif (entered := self._enter(at, level, name)) is not None:
                    levels.append(entered)
                    yield from self._list(at, entered)
        finally:
            at.close()

    def _enter(self, at: Descent, above: _Level, name: bytes) -> _Level | None:
        """Go into a subdirectory. None if there is nothing to do in it."""
        place = above.place.below.get(name) if above.place is not None else None
        source = None if name in above.passing else above.source
        try:
            if place is not None and place.is_source:
                found = at.enter(name, open_directory, os.O_RDONLY)
                source = _Source(found.st_dev, len(at.directory))
            elif source is None:
                at.enter(name, open_place, os.O_PATH)
            elif not self._one_file_system:
                at.enter(name, open_directory, os.O_RDONLY)
            elif not _enter_same_mount(at, name):
                if place is None:
                    return None
                source = None
                at.enter(name, open_place, os.O_PATH)
        except OSError as error:
            self._report_error(at.path_of(name), error)
            return None
        return _Level(place, source)

    def _leave(self, at: Descent, levels: list[_Level]) -> None:
        levels.pop()
        try:
            at.leave()
        except OSError as error:
            levels[-1].below = iter(())
            self._report(at.path, _reason(error), "failed")

    def _list(self, at: Descent, level: _Level) -> Iterator[Batch]:
        source = level.source
        if source is None:
            # Of a directory on the way to sources, only what leads on to them.
            entries = self._stat_way(at, level)
            level.below = iter(_subdirectories(entries))
            if entries:
                yield Batch(at.directory, at.fd, entries)
            return
        self._stat_way(at, level)
        found = self._read(at, level, source)
        if isinstance(found, NameSorter):
            yield from self._list_many(at, level, source, found)
            return
        entries = self._stat_all(at, found)
        spot = bisect_left(entries, (TAG_NAME,))
        if spot < len(entries) and entries[spot][0] == TAG_NAME and self._is_cache(at, source):
            entries = [each for each in entries if each[0] == TAG_NAME or _leads_on(level, each[0])]
            level.passing = frozenset(level.place.below) if level.place is not None else frozenset()
        below = self._sift(at, level, source, entries)
        level.below = iter(below)
        if entries:
            yield Batch(at.directory, at.fd, entries)

    def _read(
        self, at: Descent, level: _Level, source: _Source
    ) -> list[os.DirEntry[str]] | NameSorter:
        """The names of a directory that no pattern leaves out; sorted, and only names, if they are
        many.
        """
        few: list[os.DirEntry[str]] = []
        many: NameSorter | None = None
        try:
            with os.scandir(at.fd) as found:
                chosen = (
                    self._choose(found, at, level, source) if self._excludes.has_patterns else found
                )
                few.extend(islice(chosen, BATCH_MAX + 1))
                if len(few) > BATCH_MAX:
                    many = NameSorter(self._scratch)
                    for entry in few:
                        many.add(_encode(entry.name))
                    for entry in chosen:
                        many.add(_encode(entry.name))
        except OSError as error:
            self._report_error(at.path, error)
        return few if many is None else many

    def _choose(
        self, found: Iterable[os.DirEntry[str]], at: Descent, level: _Level, source: _Source
    ) -> Iterator[os.DirEntry[str]]:
        above, prefix = (
            part.replace(b"\0", b"/").decode(ENCODING, SURROGATES)
            for part in (at.directory[: source.length], at.directory[source.length :])
        )
        leave_out = self._excludes.leave_out
        for entry in found:
            is_directory = entry.is_dir(follow_symlinks=False)
            if not leave_out(prefix + entry.name, is_directory=is_directory, source=above):
                yield entry
            elif level.place is not None and _encode(entry.name) in level.place.below:
                level.passing |= {_encode(entry.name)}
                yield entry

    def _list_many(
        self, at: Descent, level: _Level, source: _Source, names: NameSorter
    ) -> Iterator[Batch]:
        """The same for more names than one batch holds."""
        below = NameSorter(self._scratch)
        level.below = iter(below)
        ordered = iter(names)
        if self._is_cache(at, source):
            ordered = (name for name in ordered if name == TAG_NAME or _leads_on(level, name))
            level.passing = frozenset(level.place.below) if level.place is not None else frozenset()
        while batch := list(islice(ordered, BATCH_MAX)):
            entries = self._stat(at, batch)
            for name in self._sift(at, level, source, entries):
                below.add(name)
            if entries:
                yield Batch(at.directory, at.fd, entries)

    def _is_cache(self, at: Descent, source: _Source) -> bool:
        is_source = len(at.directory) == source.length
        return self._excludes.skip_caches and not is_source and is_cache(at.fd)

    def _stat_all(self, at: Descent, found: list[os.DirEntry[str]]) -> list[Scanned]:
        # Inodes lie on a disk by number, a directory's names by hash: cold, this order seeks less.
        found.sort(key=_inode)
        try:
            entries = [
                (entry.name.encode(ENCODING, SURROGATES), entry.stat(follow_symlinks=False))
                for entry in found
            ]
        except OSError:
            return self._stat(at, sorted(_encode(entry.name) for entry in found))
        if len({name for name, _status in entries}) < len(entries):
            # A directory that changes while it is read may show a name twice.
            entries = list(dict(entries).items())
        entries.sort()
        return entries

    def _stat(self, at: Descent, names: Iterable[bytes]) -> list[Scanned]:
        entries: list[Scanned] = []
        for name in names:
            try:
                entries.append((name, os.stat(name, dir_fd=at.fd, follow_symlinks=False)))
            except OSError as error:
                self._report_error(at.path_of(name), error)
        return entries

    def _stat_way(self, at: Descent, level: _Level) -> list[Scanned]:
        """What leads on to sources. One that is not there is no file that vanished: it was asked
        for.
        """
        entries: list[Scanned] = []
        for name in sorted(level.place.below) if level.place is not None else ():
            try:
                entries.append((name, os.stat(name, dir_fd=at.fd, follow_symlinks=False)))
            except OSError as error:
                self._report(at.path_of(name), _reason(error), "failed")
        return entries

    def _sift(
        self, at: Descent, level: _Level, source: _Source, entries: list[Scanned]
    ) -> list[bytes]:
        """Take sockets out of the entries; returns the subdirectories to go into."""
        below: list[bytes] = []
        sockets: list[Scanned] = []
        stay = source.device if self._one_file_system else None
        for scanned in entries:
            kind = scanned[1].st_mode & _FORMAT
            if kind == _DIRECTORY:
                if stay is None or scanned[1].st_dev == stay:
                    below.append(scanned[0])
                elif _leads_on(level, scanned[0]):
                    below.append(scanned[0])
                    level.passing |= {scanned[0]}
            elif kind == _SOCKET:
                sockets.append(scanned)
        for socket in sockets:
            entries.remove(socket)
            self._report(at.path_of(socket[0]), "socket: not saved", "skipped")
        return below

    def _report_error(self, path: bytes, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            self._report(path, "it vanished while its directory was being read", "skipped")
        elif error.errno in (errno.ELOOP, errno.ENOTDIR):
            self._report(path, "it was replaced while its directory was being read", "failed")
        else:
            self._report(path, _reason(error), "failed")


def _enter_same_mount(at: Descent, name: bytes) -> bool:
    """Go into a subdirectory unless something is mounted on it. Raises OSError."""
    try:
        at.enter(name, open_on_same_mount, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _leads_on(level: _Level, name: bytes) -> bool:
    return level.place is not None and name in level.place.below


def _subdirectories(entries: Iterable[Scanned]) -> list[bytes]:
    return [name for name, status in entries if status.st_mode & _FORMAT == _DIRECTORY]


def _inode(entry: os.DirEntry[str]) -> int:
    return entry.inode()


def _encode(name: str) -> bytes:
    return name.encode(ENCODING, SURROGATES)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
