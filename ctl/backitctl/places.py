"""SNAPSHOT[:PATH], as people type it: which snapshot, and what in it.

Also how entries are shown, in the same words by every command that shows some.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backit.client.fetch import ChunkReader
from backit.client.history import History
from backit.engine import walk
from backit.engine.file_types import full_mode
from backit.errors import Invalid, NotFound
from backit.format.node import decode_time
from backit.format.v1 import tree_pb2 as pb
from backitctl import clock, output

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from backit.client.account import Person
    from backit.client.history import Snapshot

TYPES = {
    pb.FILE_TYPE_REGULAR: "file",
    pb.FILE_TYPE_DIRECTORY: "directory",
    pb.FILE_TYPE_SYMLINK: "symlink",
    pb.FILE_TYPE_FIFO: "fifo",
    pb.FILE_TYPE_CHARACTER: "character",
    pb.FILE_TYPE_BLOCK: "block",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A snapshot's name and a path in it; no components mean all of it."""

    snapshot: str
    components: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises Invalid for a path that climbs."""
        name, _, path = text.partition(":")
        components = tuple(
            part for part in os.fsencode(path).split(b"/") if part not in (b"", b".")
        )
        if b".." in components:
            raise Invalid(f"{text[:80]!r}: a path in a snapshot has no '..'")
        return cls(name, components)

    @property
    def path(self) -> bytes:
        return b"/" + b"/".join(self.components)


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """A snapshot whose tree can be read."""

    snapshot: Snapshot
    reader: ChunkReader

    def lookup(self, components: Sequence[bytes]) -> walk.Found:
        """The entry at a path that is not the root. Raises NotFound."""
        found = walk.lookup(self.snapshot.root, self.reader.load, components)
        if found is None:
            path = output.shown_path(b"/" + b"/".join(components))
            raise NotFound(f"snapshot {self.snapshot.id.hex[:12]} has no {path}")
        return found


@contextmanager
def opened(person: Person, *names: str) -> Generator[list[OpenSnapshot]]:
    """These snapshots, in this order; readers are shared within a domain."""
    keyring = person.keyring()
    history = History(person.appliance, keyring)
    readers: dict[bytes, ChunkReader] = {}
    try:
        found: list[OpenSnapshot] = []
        for name in names:
            snapshot = history.resolve(name)
            domain = snapshot.domain
            if domain.raw not in readers:
                keys = keyring.domain(domain)
                readers[domain.raw] = ChunkReader(person.appliance, keyring, keys)
            found.append(OpenSnapshot(snapshot, readers[domain.raw]))
        yield found
    finally:
        for reader in readers.values():
            reader.close()


def inside(components: Sequence[bytes]) -> bytes:
    """A directory as its children's keys name it."""
    return b"".join(component + b"\0" for component in components)


def mode_of(entry: pb.Entry) -> str:
    """As `ls -l` writes it."""
    return stat.filemode(full_mode(entry))


def seconds_of(entry: pb.Entry) -> float:
    """When its content was changed, in Unix seconds."""
    return decode_time(entry.mtime) / clock.NANO


def row_of(found: walk.Found, name: bytes) -> tuple[str, ...]:
    """One line of a listing: mode, owner, size, time, name."""
    entry = found.entry
    shown = output.shown_path(name)
    if entry.type == pb.FILE_TYPE_SYMLINK:
        shown += f" -> {output.shown_path(entry.target)}"
    owner, group = owners_of(found)
    size = str(entry.size)
    return mode_of(entry), owner, group, size, output.shown_time(seconds_of(entry)), shown


def owners_of(found: walk.Found) -> tuple[str, str]:
    """User and group, by the names they had on the machine that was saved."""
    users = {each.id: each.name for each in found.leaf.message.users}
    groups = {each.id: each.name for each in found.leaf.message.groups}
    entry = found.entry
    user = users.get(entry.uid) or str(entry.uid)
    group = groups.get(entry.gid) or str(entry.gid)
    return output.printable(user), output.printable(group)


def document_of(found: walk.Found) -> dict[str, Any]:
    """An entry for programs."""
    entry = found.entry
    user, group = owners_of(found)
    document: dict[str, Any] = output.path_fields(found.path) | {
        "type": TYPES[entry.type],
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": user,
        "group": group,
        "mtime": output.iso_time(seconds_of(entry)),
        "mtime_ns": decode_time(entry.mtime),
        "inode": entry.inode,
    }
    if entry.type == pb.FILE_TYPE_REGULAR:
        document["size"] = entry.size
        document["inconsistent"] = entry.inconsistent
    if entry.type == pb.FILE_TYPE_SYMLINK:
        target = output.path_fields(entry.target)
        document["target"] = target["path"]
        if "path_b64" in target:
            document["target_b64"] = target["path_b64"]
    if entry.links:
        document["links"] = entry.links
    return document
