"""The directories of a target while it is being restored: few handles for many of them, and who is
done with what.

A `Folder` is finished, its metadata put on, when everything in it is done: what waits to be
written, folders in it, and links that wait for the file they lead to. That may happen in any
thread. A handle that was closed to stay within the limit is opened again below the nearest open
folder, never through a symbolic link, and only taken if it is the same directory as before.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from backit.client import imprint
from backit.client.handles import Identity, open_above, open_below
from backit.engine.plan import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from backit.client.imprint import Metadata
    from backit.client.outcome import Tally

HANDLES_MAX = 256
_WALKING = 1 << 60
# Longer paths are put together anew each time: those of a very deep tree would fill the memory.
_REMEMBERED = 1024


class Folder:
    """One directory of the target. Fields are guarded by the lock of its `Folders`, or set before
    others see it.
    """

    __slots__ = (
        "_path",
        "above",
        "borrowed",
        "device",
        "fd",
        "identity",
        "inherits",
        "is_new",
        "name",
        "pending",
        "pins",
        "placed",
        "wanted",
    )

    def __init__(
        self, above: Folder | None, name: bytes, wanted: Metadata | None, *, is_new: bool
    ) -> None:
        """`wanted` is what it gets when it is finished; None leaves it as it is."""
        self.above = above
        self.name = name
        self._path: bytes | None = None
        self.wanted = wanted
        # Made by this run, so that there was nothing in it.
        self.is_new = is_new
        # Its mode before it was made accessible; put back at the end if nothing else is wanted.
        self.borrowed: int | None = None
        # What is made in it gets an ACL or flags from it.
        self.inherits = False
        self.device = 0
        # None until it is opened for the first time.
        self.identity: Identity | None = None
        self.fd = -1
        self.pins = 0
        # What was put here by the walk; only its thread looks at this.
        self.placed = 0
        # What is still to be done here. While the walk is not through with it, that is plenty.
        self.pending = _WALKING

    def path_of(self, name: bytes) -> bytes:
        return self.path + b"/" + name

    @property
    def path(self) -> bytes:
        """In the file system, to be shown to people."""
        if self._path is None:
            path = b"/".join((self._root, *self.components))
            if len(path) > _REMEMBERED:
                return path
            self._path = path
        return self._path

    @property
    def _root(self) -> bytes:
        folder = self
        while folder.above is not None:
            folder = folder.above
        return folder.name

    @property
    def components(self) -> list[bytes]:
        """The names below the target that lead here."""
        names: list[bytes] = []
        folder = self
        while folder.above is not None:
            names.append(folder.name)
            folder = folder.above
        return names[::-1]


class Visit:
    """One thread's way through folders: the last one stays in use, and what is done there counts
    once it is left. It must be left at the end.
    """

    __slots__ = ("_folder", "_folders", "done", "fd")

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._folder: Folder | None = None
        self.fd = -1
        self.done = 0

    def enter(self, folder: Folder) -> int:
        """The handle of a folder, until another is entered. Raises OSError."""
        if folder is not self._folder:
            self.leave()
            self.fd = self._folders.acquire(folder)
            self._folder = folder
        return self.fd

    def leave(self) -> None:
        folder, done = self._folder, self.done
        if folder is not None:
            self._folder, self.done = None, 0
            self._folders.release(folder)
            if done:
                self._folders.drop(folder, done)


class Folders:
    """All folders that are not finished, and their handles."""

    def __init__(self, tally: Tally, *, handles: int = HANDLES_MAX) -> None:
        self._tally = tally
        self._handles = handles
        self._lock = Lock()
        # Open folders that nobody uses just now, the one unused for longest first.
        self._idle: OrderedDict[Folder, None] = OrderedDict()
        self._open = 0

    def adopt(self, folder: Folder, fd: int) -> None:
        """Take over an open handle of a folder. Counts as one use: release it."""
        found = os.fstat(fd)
        with self._lock:
            folder.identity = (found.st_dev, found.st_ino)
            folder.device = found.st_dev
            folder.fd = fd
            folder.pins = 1
            self._open += 1
            self._close_idle()

    def acquire(self, folder: Folder) -> int:
        """A handle that stays open until `release`. Raises OSError."""
        with self._lock:
            if folder.fd < 0:
                self._open_again(folder)
            elif not folder.pins:
                del self._idle[folder]
            folder.pins += 1
            return folder.fd

    def release(self, folder: Folder) -> None:
        with self._lock:
            folder.pins -= 1
            if not folder.pins:
                self._idle[folder] = None
                self._close_idle()

    @contextmanager
    def using(self, folder: Folder) -> Generator[int]:
        """The handle for a while. Raises OSError."""
        fd = self.acquire(folder)
        try:
            yield fd
        finally:
            self.release(folder)

    def leave(self, folder: Folder) -> None:
        """The walk puts nothing more here: what was placed has to be dropped, and that is all."""
        self.drop(folder, _WALKING - folder.placed)

    def drop(self, folder: Folder, count: int = 1) -> None:
        """So many things are done; the last of all finishes the folder, and then perhaps those
        above.
        """
        at: Folder | None = folder
        while at is not None:
            with self._lock:
                at.pending -= count
                if at.pending:
                    return
            self._finish(at)
            self._close(at)
            at, count = at.above, 1

    def close(self) -> None:
        """Close every handle that is not in use."""
        with self._lock:
            for folder in self._idle:
                self._close_handle(folder)
            self._idle.clear()

    def _finish(self, folder: Folder) -> None:
        """Put a folder's metadata on: it will be changed no more."""
        wanted = folder.wanted
        if wanted is None and folder.borrowed is None:
            return
        path = folder.path
        try:
            with self.using(folder) as fd:
                if wanted is None:
                    os.fchmod(fd, folder.borrowed or 0)
                    return
                action = Action.MAKE if folder.is_new else Action.METADATA
                if not folder.is_new and imprint.is_as_wanted(fd, wanted):
                    action = Action.NOTHING
                else:
                    self._imprint(folder, fd, wanted, partial(self._tally.warned, path))
        except OSError as error:
            self._tally.failed(path, imprint.reason(error))
            return
        self._tally.done(path, action)

    def _imprint(
        self, folder: Folder, fd: int, wanted: Metadata, warn: Callable[[str], None]
    ) -> None:
        is_fresh = folder.is_new and not folder.inherits
        imprint.imprint(fd, wanted, warn, is_fresh=is_fresh)
        if wanted.flags or not is_fresh:
            imprint.imprint_flags(fd, wanted.flags, warn)

    def _close(self, folder: Folder) -> None:
        with self._lock:
            if folder.fd >= 0 and not folder.pins:
                if folder.above is not None and folder.above.fd < 0:
                    # Likely wanted next; of a deep tree the way down to it would be long.
                    self._open_above(folder.above, folder.fd)
                del self._idle[folder]
                self._close_handle(folder)

    def _open_above(self, above: Folder, below: int) -> None:
        fd = open_above(below, above.identity)
        if fd >= 0:
            above.fd = fd
            self._open += 1
            self._idle[above] = None

    def _close_handle(self, folder: Folder) -> None:
        os.close(folder.fd)
        folder.fd = -1
        self._open -= 1

    def _close_idle(self) -> None:
        while self._open > self._handles and self._idle:
            idle, _none = self._idle.popitem(last=False)
            self._close_handle(idle)

    def _open_again(self, folder: Folder) -> None:
        names: list[bytes] = []
        nearest = folder
        # The target itself is in use, and so open, from start to end.
        while nearest.fd < 0 and nearest.above is not None:
            names.append(nearest.name)
            nearest = nearest.above
        fd = open_below(nearest.fd, reversed(names))
        found = os.fstat(fd)
        here = found.st_dev, found.st_ino
        if folder.identity is None:
            folder.identity, folder.device = here, found.st_dev
        elif here != folder.identity:
            os.close(fd)
            why = "its directory was replaced while it was being restored"
            raise FileNotFoundError(errno.ENOENT, why)
        folder.fd = fd
        self._open += 1
        self._close_idle()
