"""The directories of a restore's target: opens it, and makes or finds what the snapshot has in it.

New directories are for their owner alone until they are finished (folders.py). What else goes into
them is place.py's business.
"""

from __future__ import annotations

import fcntl
import os
import stat as st
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backit.client import imprint, metadata
from backit.client.folders import Folder
from backit.client.handles import open_directory
from backit.client.write import is_temporary, look
from backit.engine.plan import Action, Here, Overwrite, decide
from backit.errors import Conflict, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backit.client.folders import Folders
    from backit.client.imprint import Metadata, Owners
    from backit.client.outcome import RestoreOptions, Tally
    from backit.engine.walk import Found

_ACCESS = st.S_IRWXU


@dataclass(frozen=True, slots=True)
class Target:
    """Where a restore goes to. No folder if it is not there and a dry run does not make it."""

    path: bytes
    folder: Folder | None

    def path_of(self, components: Iterable[bytes]) -> bytes:
        return b"/".join((self.path, *components))


class Site:
    """Makes folders. For one thread."""

    def __init__(
        self, folders: Folders, owners: Owners, tally: Tally, options: RestoreOptions
    ) -> None:
        self._folders = folders
        self._owners = owners
        self._tally = tally
        self._options = options

    def open(self, target: Path, top: Found | None) -> Target:
        """The target itself: made if need be, in use until `close`, and to nobody else's restore.

        `top` is the directory of the snapshot that it stands for, if any. Its owner and mode are
        set if the target was made or empty, or has them already: a restore into somebody's home or
        into /tmp must not change those. Raises Invalid if the target is no directory, Conflict if
        another restore is at work there, or OSError.
        """
        path = b"" if target == Path("/") else os.fsencode(target)
        wanted = self._owners.metadata(top.entry, top.leaf) if top is not None else None
        is_new = not os.path.lexists(target)
        if is_new and self._options.dry_run:
            if wanted is not None:
                self._tally.done(path, Action.MAKE)
            return Target(path, None)
        if is_new:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir(0o777 if wanted is None else 0o700)
        try:
            fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            raise Invalid(f"restore to {target}: it is not a directory") from None
        try:
            return Target(path, self._adopt(fd, path, wanted, is_new=is_new))
        except BaseException:
            os.close(fd)
            raise

    def close(self, target: Target) -> None:
        if target.folder is not None:
            self._folders.release(target.folder)

    def make(self, above: Folder, found: Found) -> tuple[Folder | None, bool]:
        """A directory of the snapshot. Raises OSError.

        Returns the folder, and whether everything below it is lost. No folder and nothing lost: a
        dry run would make it.
        """
        wanted = self._owners.metadata(found.entry, found.leaf)
        name = found.entry.name
        with self._folders.using(above) as parent:
            there = None if above.is_new else look(parent, name)
            if there is not None and not st.S_ISDIR(there.st_mode):
                path = above.path_of(name)
                if not self._clear(parent, name, path, there, wanted):
                    return None, True
                there = None
            if self._options.dry_run:
                return self._rehearse(above, parent, there, found, wanted), False
            if there is None:
                there = _make(parent, name)
            is_new = there is None
            folder = Folder(above, name, self._meant(wanted, is_new=is_new), is_new=is_new)
            if there is not None or above.inherits:
                self._open(folder, parent, there)
            above.placed += 1
            return folder, False

    def _adopt(self, fd: int, path: bytes, wanted: Metadata | None, *, is_new: bool) -> Folder:
        if not self._options.dry_run:
            _claim(fd, path)
            _sweep(fd)
        is_ours = is_new or not os.listdir(fd)
        if wanted is not None:
            found = os.fstat(fd)
            if is_ours and not self._options.dry_run:
                # Set now as well, so that a second run sees that the target is its own.
                with suppress(OSError):
                    os.fchown(fd, wanted.uid, wanted.gid)
                    os.fchmod(fd, wanted.mode | _ACCESS)
            else:
                has = found.st_uid, found.st_gid, found.st_mode & 0o7777 | _ACCESS
                is_ours = has == (wanted.uid, wanted.gid, wanted.mode | _ACCESS)
            wanted = self._meant(wanted, is_new=is_new) if is_ours else None
        folder = Folder(None, path, wanted, is_new=is_new)
        folder.inherits = imprint.inherits(fd)
        self._folders.adopt(folder, fd)
        return folder

    def _meant(self, wanted: Metadata, *, is_new: bool) -> Metadata | None:
        """What a folder gets in the end; one that was there, nothing if nothing may change."""
        if self._options.dry_run:
            return None
        return wanted if is_new or self._options.overwrite is not Overwrite.NEVER else None

    def _clear(
        self, parent: int, name: bytes, path: bytes, there: os.stat_result, wanted: Metadata
    ) -> bool:
        """Take away what stands where a directory belongs. False if it is to be kept."""
        action = decide(
            Here.OTHER,
            self._options.overwrite,
            mtime_here=there.st_mtime_ns,
            mtime_wanted=wanted.mtime,
        )
        if action is Action.KEEP:
            self._tally.kept(path, "it is no directory; nothing below it was restored")
            return False
        if not self._options.dry_run:
            os.unlink(name, dir_fd=parent)
        return True

    def _rehearse(
        self,
        above: Folder,
        parent: int,
        there: os.stat_result | None,
        found: Found,
        wanted: Metadata,
    ) -> Folder | None:
        """Look and tell, but make nothing."""
        path = above.path_of(found.entry.name)
        if there is None:
            self._tally.done(path, Action.MAKE)
            return None
        attributes = metadata.read_attributes_at(parent, found.entry.name)
        is_same = not imprint.differs(there, wanted)
        is_same = is_same and not imprint.attributes_differ(attributes, wanted.attributes)
        self._tally.done(path, Action.NOTHING if is_same else Action.METADATA)
        folder = Folder(above, found.entry.name, None, is_new=False)
        above.placed += 1
        return folder

    def _open(self, folder: Folder, parent: int, there: os.stat_result | None) -> None:
        """Look at a folder that was there, or that may have got something from the one above.

        One that was there is made accessible to its owner.
        """
        mine = there is not None and there.st_uid == os.geteuid() != 0
        if there is not None and mine and there.st_mode & _ACCESS != _ACCESS:
            folder.borrowed = st.S_IMODE(there.st_mode)
            _give_access(parent, folder.name)
        fd = open_directory(parent, folder.name)
        try:
            folder.inherits = imprint.inherits(fd)
            if there is not None:
                _sweep(fd)
        except BaseException:
            os.close(fd)
            raise
        self._folders.adopt(folder, fd)
        self._folders.release(folder)


def _make(parent: int, name: bytes) -> os.stat_result | None:
    """Make a directory. What stands there instead, if somebody was faster; None if not."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        there = look(parent, name)
        if there is None or not st.S_ISDIR(there.st_mode):
            raise
        return there
    return None


def _give_access(parent: int, name: bytes) -> None:
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = st.S_IMODE(os.fstat(place).st_mode)
        os.chmod(f"/proc/self/fd/{place}", mode | _ACCESS)  # noqa: PTH101  # no path, a handle
    finally:
        os.close(place)


def _claim(fd: int, path: bytes) -> None:
    """Keep other restores out for as long as the handle is open. Raises Conflict."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        name = os.fsdecode(path) or "/"
        raise Conflict(f"restore to {name}: another restore is at work there") from None
    except OSError:
        pass  # some network file systems lock no directories: then nobody is kept out


def _sweep(fd: int) -> None:
    """Take away what a restore left that was killed between giving two names."""
    with os.scandir(fd) as names:
        left = [each.name for each in names if is_temporary(os.fsencode(each.name))]
    for name in left:
        with suppress(OSError):
            os.unlink(name, dir_fd=fd)
