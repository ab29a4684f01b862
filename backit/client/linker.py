"""Makes the hard links of a restore, and sets the flags that would have kept them from being made.

For any thread. Who carries a file and who waits for it stands in links.py.
"""

from __future__ import annotations

import errno
import os
import stat as st
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from backit.client import imprint
from backit.client.handles import open_for_reading
from backit.client.imprint import reason
from backit.client.write import is_ending, look, make_link, remove_directory
from backit.engine.plan import Action, Here, Overwrite, decide

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backit.client.folders import Folder, Folders
    from backit.client.handles import Identity
    from backit.client.links import Group, Links, Member
    from backit.client.outcome import Tally

# A file by its folder and name, what it is known by, and the flags it is to get.
_Unlocked = tuple["Folder", bytes, "Identity", int]


class Linker:
    """Raises OSError only for what ends the run; other failures are the names' own affair."""

    def __init__(self, folders: Folders, links: Links, tally: Tally, overwrite: Overwrite) -> None:
        self._folders = folders
        self._links = links
        self._tally = tally
        self._overwrite = overwrite
        self._lock = Lock()
        self._unlocked: list[_Unlocked] = []

    def link(self, members: Iterable[tuple[Group, Member]]) -> None:
        """Make names that lead to their group's carrier. Each is done afterwards, or an orphan."""
        for group, member in members:
            carrier = group.carrier
            if carrier is None:
                # It could not be linked to by the name before this one: there will be another.
                self._links.abandon(group, member)
                continue
            path = member.folder.path_of(member.name)
            try:
                action = self._link(group, carrier, member)
            except OSError as error:
                if is_ending(error):
                    raise
                self._tally.warned(path, f"could not be linked to its other names: {reason(error)}")
                self._links.abandon(group, member)
                continue
            if action is Action.KEEP:
                self._tally.kept(path, "it is not linked to its other names")
            else:
                self._tally.done(path, action)
            self._folders.drop(member.folder)

    def settle(self, group: Group, member: Member, identity: Identity | None) -> None:
        """The name that was to carry the file does so, being that file, or it does not (None)."""
        if identity is None:
            self._links.give_up(group)
        else:
            waiting = self._links.settle(group, member, identity)
            self.link((group, each) for each in waiting)

    def lock_later(self, folder: Folder, name: bytes, identity: Identity, flags: int) -> None:
        """A file gets its flags when no more links will be made."""
        with self._lock:
            self._unlocked.append((folder, name, identity, flags))

    def lock(self) -> None:
        """No more links will be made."""
        for folder, name, identity, flags in self._unlocked:
            warn = partial(self._tally.warned, folder.path_of(name))
            try:
                with self._folders.using(folder) as directory:
                    fd = open_for_reading(directory, name)
                    try:
                        _check_same(os.fstat(fd), identity)
                        imprint.imprint_flags(fd, flags, warn)
                    finally:
                        os.close(fd)
            except OSError as error:
                warn(f"inode flags {flags:#x} could not be set: {reason(error)}")
        self._unlocked.clear()

    def _link(self, group: Group, carrier: Member, member: Member) -> Action:
        identity = group.identity
        with self._folders.using(member.folder) as directory:
            found = None if member.folder.is_new else look(directory, member.name)
            if found is not None:
                if (found.st_dev, found.st_ino) == identity:
                    return Action.NOTHING
                if self._decide(found, member) is Action.KEEP:
                    return Action.KEEP
                if st.S_ISDIR(found.st_mode):
                    remove_directory(directory, member.name)
                    found = None
            with self._folders.using(carrier.folder) as there:
                _check_same(look(there, carrier.name), identity)
                source = there, carrier.name
                make_link(source, directory, member.name, replace=found is not None)
        return Action.LINK

    def _decide(self, found: os.stat_result, member: Member) -> Action:
        return decide(
            Here.OTHER,
            self._overwrite,
            mtime_here=found.st_mtime_ns,
            mtime_wanted=member.mtime,
        )


def _check_same(found: os.stat_result | None, identity: Identity | None) -> None:
    if found is None or (found.st_dev, found.st_ino) != identity:
        raise FileNotFoundError(errno.ENOENT, "it was replaced while it was being restored")
