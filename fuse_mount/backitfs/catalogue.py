"""The two upper levels of a mount: which devices and snapshots there are, and what they are called.

Pure. A name, once given, stays for as long as the mount does: what comes or goes changes no other.
A snapshot that was forgotten is no longer listed, but who stands in it can go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backit.format.magic import NAME_LIMIT
from backitfs.view import Tree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from backit.ids import ChunkId, DeviceId, DomainId, SnapshotId
    from backitfs.view import Nodes

LATEST = b"latest"
SLOTS = 1 << 23
# What a folder of a device is numbered with: 4 bytes of its id.
FOLDERS = 1 << 32
NANO = 1_000_000_000
# What a device's id and the "-" before it take of a name.
ID_ROOM = 33


@dataclass(frozen=True, slots=True)
class Listed:
    """What a mount needs to know of a snapshot; `started` in Unix nanoseconds."""

    id: SnapshotId
    device: DeviceId
    label: str
    started: int
    root: ChunkId
    domain: DomainId
    entries: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Volume:
    """A snapshot as a folder. `slot` is the upper part of the inode numbers in it."""

    slot: int
    name: bytes
    listed: Listed
    tree: Tree


@dataclass(slots=True)
class Folder:
    """A device as a folder of its snapshots, by name, oldest first."""

    number: int
    name: bytes
    volumes: dict[bytes, Volume] = field(default_factory=dict[bytes, Volume])

    @property
    def latest(self) -> Volume:
        return next(reversed(self.volumes.values()))


class Catalogue:
    """Devices and snapshots by name and by number."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.folders: dict[bytes, Folder] = {}
        self._by_slot: dict[int, Volume] = {}
        self._by_number: dict[int, Folder] = {}
        self._volumes: dict[SnapshotId, Volume] = {}
        self._folders: dict[DeviceId, Folder] = {}

    def update(self, listed: Sequence[Listed]) -> None:
        """What there is now, oldest first."""
        for folder in self._folders.values():
            folder.volumes.clear()
        for each in listed:
            folder = self._folders.get(each.device) or self._new_folder(each)
            volume = self._volumes.get(each.id) or self._new_volume(each)
            folder.volumes[volume.name] = volume
        self.folders = {folder.name: folder for folder in self._folders.values() if folder.volumes}

    def volume(self, slot: int) -> Volume | None:
        """By the upper part of an inode number, also of one that was forgotten."""
        return self._by_slot.get(slot)

    def folder(self, number: int) -> Folder | None:
        return self._by_number.get(number)

    def folder_of(self, volume: Volume) -> Folder:
        """The folder that a snapshot is or was in."""
        return self._folders[volume.listed.device]

    @property
    def volumes(self) -> Iterable[Volume]:
        """All that are listed."""
        return (each for folder in self.folders.values() for each in folder.volumes.values())

    def _new_folder(self, listed: Listed) -> Folder:
        taken = {folder.name for folder in self._folders.values()}
        name = _free(name_of(listed.label), listed.device.hex, taken)
        number = int.from_bytes(listed.device.raw[:4]) % FOLDERS
        while number in self._by_number:
            number = (number + 1) % FOLDERS
        folder = self._folders[listed.device] = self._by_number[number] = Folder(number, name)
        return folder

    def _new_volume(self, listed: Listed) -> Volume:
        device = listed.device
        taken = {v.name for v in self._volumes.values() if v.listed.device == device}
        name = _free(time_of(listed.started), listed.id.hex, taken | {LATEST})
        # Slot 0 is that of the levels above the snapshots.
        slot = int.from_bytes(listed.id.raw[:4]) % SLOTS or 1
        while slot in self._by_slot:
            slot = (slot + 1) % SLOTS or 1
        volume = Volume(slot, name, listed, Tree(listed.root, self._nodes))
        self._volumes[listed.id] = self._by_slot[slot] = volume
        return volume


def time_of(nanoseconds: int) -> bytes:
    """A snapshot's name: when its backup began, in UTC. What no calendar has is named by number."""
    try:
        moment = datetime.fromtimestamp(nanoseconds // NANO, UTC)
    except (OverflowError, ValueError):
        return b"%d" % (nanoseconds // NANO)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}".encode()


def name_of(label: str) -> bytes:
    """A device's label as a name that a folder can have."""
    name = label.encode("utf-8", "surrogateescape").replace(b"/", b"_").replace(b"\0", b"_")
    name = name[: NAME_LIMIT - ID_ROOM]
    return b"device" if name in (b"", b".", b"..") else name


def _free(name: bytes, owner: str, taken: Collection[bytes]) -> bytes:
    """The name, or where it is taken the name and whose it is: as much of the id as it needs."""
    candidates = (name, *(b"%s-%s" % (name, owner[:length].encode()) for length in (8, len(owner))))
    return next(each for each in candidates if each not in taken)
