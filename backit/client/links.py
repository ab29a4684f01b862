"""Hard links of a restore: the first name of a file that is restored carries it, the others are
linked to that.

Which name that is depends on what is restored and on what already stands in the target; where one
cannot carry (it is kept as it was, its file system allows no more links), another has to. Nothing
here touches a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backit.client.folders import Folder
    from backit.client.handles import Identity
    from backit.format.v1 import tree_pb2 as pb


@dataclass(frozen=True, slots=True)
class Member:
    """A name that is to lead to a file of several names. `mtime` is that of the snapshot."""

    folder: Folder
    name: bytes
    mtime: int


class _State(Enum):
    WANTED = 0
    COMING = 1
    THERE = 2


@dataclass(slots=True, eq=False)
class Group:
    """The names of one file. To be changed by `Links` alone."""

    state: _State = _State.WANTED
    carrier: Member | None = None
    identity: Identity | None = None
    met: int = 0
    waiting: list[Member] = field(default_factory=list[Member])


class Role(Enum):
    """What becomes of a name that was met."""

    CARRIES = 0
    WAITS = 1
    LINKS = 2


class Links:
    """All groups of one run; for any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._groups: dict[tuple[int, int], Group] = {}
        self._orphans: list[tuple[Group, Member]] = []

    def group(self, entry: pb.Entry) -> Group | None:
        """The group of an entry with several names; None for others. Once an entry."""
        if entry.links < 2:
            return None
        key = (entry.link_device, entry.inode)
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = Group()
            group.met += 1
            if group.met >= entry.links:
                # Nobody will ask again: whoever waits has it in hand.
                del self._groups[key]
            return group

    def join(self, group: Group, member: Member) -> Role:
        """Whether the name must carry the file, waits for the one that does, or can be linked."""
        with self._lock:
            if group.state is _State.WANTED:
                group.state = _State.COMING
                return Role.CARRIES
            if group.state is _State.COMING:
                group.waiting.append(member)
                return Role.WAITS
            return Role.LINKS

    def settle(self, group: Group, carrier: Member, identity: Identity) -> list[Member]:
        """The carrier stands. Returns who waited for it."""
        with self._lock:
            group.state, group.carrier, group.identity = _State.THERE, carrier, identity
            waiting, group.waiting = group.waiting, []
            return waiting

    def give_up(self, group: Group) -> None:
        """The name that was to carry the file does not. Who waited is an orphan."""
        with self._lock:
            group.state, group.carrier = _State.WANTED, None
            self._orphans += [(group, member) for member in group.waiting]
            group.waiting = []

    def abandon(self, group: Group, member: Member) -> None:
        """A name could not be linked to the carrier: it, or the next one asked, becomes a carrier
        itself.
        """
        with self._lock:
            if group.state is _State.THERE:
                group.state, group.carrier = _State.WANTED, None
            self._orphans.append((group, member))

    def take_orphans(self) -> list[tuple[Group, Member]]:
        """Names that are left without a carrier, to be joined again in this order."""
        with self._lock:
            orphans, self._orphans = self._orphans, []
            return orphans
