"""What the numbers and names of a mount mean: its top, devices, snapshots, entries.

Between FUSE and the pure parts: asks a tree until all that the answer needs is at hand. Raises
BackitError, and FUSEError for what is no longer there or is no directory.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pyfuse3 import FUSEError

from backit.errors import Damaged
from backitfs import attributes, inodes
from backitfs.catalogue import LATEST, Folder, Volume
from backitfs.inodes import Inodes
from backitfs.view import Item, NotLoaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfuse3 import EntryAttributes

    from backitfs.attributes import Owner
    from backitfs.reader import Reader
    from backitfs.roster import Roster

T = TypeVar("T")

# Directories whose numbers are known without looking.
ABOVE = 64
# Positions in a folder: the end of ".", of "..", and of the entry with ordinal or index n.
AFTER_SELF, AFTER_PARENT, FIRST = 1, 2, 3


class Root(NamedTuple):
    """The top of the mount, which is a snapshot's if only that is mounted."""


class Latest(NamedTuple):
    """The link to a device's newest snapshot."""

    folder: Folder


class Entry(NamedTuple):
    """An entry of a snapshot."""

    volume: Volume
    item: Item


# What an inode number may mean. A volume is its root directory.
Thing = Root | Folder | Latest | Volume | Entry


class Named(NamedTuple):
    """A name in a directory, what it leads to, and where a listing goes on behind it."""

    name: bytes
    thing: Thing
    next: int


class Dot(NamedTuple):
    """One of the two names that every directory begins with. The kernel wants its number only."""

    name: bytes
    number: int
    next: int


class Things:
    """Everything that can be seen in one mount."""

    def __init__(self, roster: Roster, reader: Reader, owner: Owner) -> None:
        self.roster = roster
        self.inodes = Inodes()
        self.owner = owner
        self._reader = reader
        # Directories that a walk was in last, by snapshot and path.
        self._above: dict[tuple[int, bytes], int] = {}

    async def ask(self, volume: Volume, question: Callable[..., T], *about: Any) -> T:
        """A question about a tree, once all it needs is at hand."""
        while True:
            try:
                return question(*about)
            except NotLoaded as missing:
                await self._reader.load(volume, missing)

    async def at(self, number: int) -> Thing:
        """What a number means. ESTALE if nothing any more."""
        if number == inodes.ROOT:
            return self.roster.only or Root()
        slot = inodes.slot_of(number)
        if not slot:
            place, is_latest = inodes.folder_of(number)
            folder = self.roster.folder(place)
            if folder is None or (is_latest and not folder.volumes):
                raise FUSEError(errno.ESTALE)
            return Latest(folder) if is_latest else folder
        volume = self.roster.volume(slot)
        if volume is None:
            raise FUSEError(errno.ESTALE)
        if inodes.is_root_of_snapshot(number):
            return volume
        ordinal = self.inodes.ordinal(number)
        if ordinal is None:
            raise FUSEError(errno.ESTALE)
        return Entry(volume, await self.ask(volume, volume.tree.item, ordinal))

    async def child(self, parent: Thing, name: bytes) -> Thing | None:
        if isinstance(parent, Volume):
            return await self._entry(parent, b"", name)
        if isinstance(parent, Entry):
            return await self._entry(parent.volume, parent.item.inside, name)
        await self.roster.look()
        if isinstance(parent, Root):
            return self.roster.folders.get(name)
        if not isinstance(parent, Folder):
            raise FUSEError(errno.ENOTDIR)
        if name == LATEST and parent.volumes:
            return Latest(parent)
        return parent.volumes.get(name)

    async def _entry(self, volume: Volume, directory: bytes, name: bytes) -> Entry | None:
        found = await self.ask(volume, volume.tree.find, directory, name)
        return found and Entry(volume, found)

    async def parent(self, thing: Thing) -> Thing:
        if isinstance(thing, Volume):
            is_top = self.roster.only is not None
            return thing if is_top else self.roster.folder_of(thing)
        if not isinstance(thing, Entry):
            return Root()
        head, _, name = thing.item.directory[:-1].rpartition(b"\0")
        if not name:
            return thing.volume
        found = await self._entry(thing.volume, head + b"\0" if head else b"", name)
        if found is None:
            raise Damaged(f"{thing.item.path!r}: its directory has no entry")
        return found

    async def dots(self, thing: Thing) -> list[Dot]:
        """What every directory begins with."""
        return [
            Dot(b".", self.number(thing), AFTER_SELF),
            Dot(b"..", await self._number_above(thing), AFTER_PARENT),
        ]

    async def _number_above(self, thing: Thing) -> int:
        """The number of the folder that this one is in; of a walk's last ones it is known."""
        if not isinstance(thing, Entry):
            return self.number(await self.parent(thing))
        place = thing.volume.slot, thing.item.directory
        number = self._above.get(place)
        if number is None:
            number = self._above[place] = self.number(await self.parent(thing))
            if len(self._above) > ABOVE:
                del self._above[next(iter(self._above))]
        return number

    async def upper(self, thing: Thing) -> list[Named]:
        """What a folder above the snapshots shows."""
        await self.roster.look()
        children: list[tuple[bytes, Thing]] = []
        if isinstance(thing, Root):
            children += self.roster.folders.items()
        elif isinstance(thing, Folder):
            children += thing.volumes.items()
            if thing.volumes:
                children.append((LATEST, Latest(thing)))
        else:
            raise FUSEError(errno.ENOTDIR)
        return [Named(name, child, FIRST + at) for at, (name, child) in enumerate(children)]

    def shown(self, number: int) -> str:
        """What a number names, as far as that is at hand."""
        volume = self.roster.only or self.roster.volume(inodes.slot_of(number))
        ordinal = None if volume is None else self.inodes.ordinal(number)
        if volume is None or ordinal is None or ordinal < 0:
            return f"inode {number}"
        try:
            path = volume.tree.item(ordinal).path
        except (NotLoaded, Damaged):
            return f"inode {number} of {os.fsdecode(volume.name)}"
        return f"{os.fsdecode(volume.name + path)!r}"

    def number(self, thing: Thing) -> int:
        if isinstance(thing, Entry):
            return self.inodes.number(thing.volume.slot, thing.item)
        if isinstance(thing, Volume):
            return inodes.root_of(thing.slot) if self.roster.only is None else inodes.ROOT
        if isinstance(thing, Root):
            return inodes.ROOT
        if isinstance(thing, Latest):
            return inodes.latest_number(thing.folder.number)
        return inodes.folder_number(thing.number)

    def attributes(self, thing: Thing) -> EntryAttributes:
        number, owner, now = self.number(thing), self.owner, attributes.FOR_NOW
        if isinstance(thing, Entry):
            return attributes.of_item(thing.item, number, owner)
        if isinstance(thing, Volume):
            return attributes.of_folder(number, owner, thing.listed.started, now)
        if isinstance(thing, Root):
            return attributes.of_folder(number, owner, self.roster.changed, now)
        folder = thing.folder if isinstance(thing, Latest) else thing
        changed = folder.latest.listed.started if folder.volumes else 0
        if isinstance(thing, Latest):
            return attributes.of_link(number, folder.latest.name, owner, changed)
        return attributes.of_folder(number, owner, changed, now)

    def hold(self, found: EntryAttributes, thing: Thing) -> None:
        if isinstance(thing, Entry):
            self.inodes.hold(found.st_ino, thing.item)
