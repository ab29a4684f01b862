"""Search trees of entries: how they grow (FORMAT.md section 6). How they are read is walk.py's.

A `TreeBuilder` takes a snapshot's entries in key order and hands out finished nodes, bottom up.
Entries kept from the parent snapshot are named by the leaf they stand in; a run of kept entries
that is a whole leaf again is referred to, not encoded again, so an unchanged tree costs one
comparison a file and nothing else.

Where a leaf ends does not depend on the names of the chunks that its entries use. So a leaf may
wait for those, and what comes after it goes on growing; how much waits is bounded.

Nothing here knows where nodes are stored: finished ones go to `emit`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.engine.leaf import GrowingLeaf, NewEntry, detach, shown_path
from backit.engine.levels import ChildInfo, Levels, Sealable, make_node
from backit.errors import Invalid
from backit.format.magic import MIB
from backit.format.node import Node, entry_key

if TYPE_CHECKING:
    from backit.crypto.keys import DomainKeys
    from backit.engine.leaf import OwnerNames
    from backit.engine.levels import Emit
    from backit.format.v1 import tree_pb2 as pb

LEAF_MIN = 25
LEAF_THRESHOLD = 2**32 // 75
INNER_THRESHOLD = 2**32 // 96

# What may wait for the names of chunks before they are waited for: entries, and bytes of memory.
WAITING_MAX = 20_000
HELD_MAX = 16 * MIB


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the parent snapshot. `kept` is how whoever read it keeps it, if that can be used
    again.
    """

    info: ChildInfo
    node: Node
    is_last: bool
    kept: bytes = field(default=b"", compare=False, repr=False)


# Told of every leaf in order, whether encoded now or taken over as it is.
OnLeaf = Callable[[ChildInfo, "Sealable | Leaf"], None]


class TreeBuilder:
    """Takes entries in key order, hands out nodes bottom up. Its memory grows with their levels."""

    def __init__(
        self,
        keys: DomainKeys,
        emit: Emit,
        *,
        user_name: OwnerNames = lambda _uid: "",
        group_name: OwnerNames = lambda _gid: "",
        on_leaf: OnLeaf = lambda _info, _leaf: None,
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        """`hurry` is called before names of chunks are waited for: none must need more entries."""
        self._keys = keys
        self._emit = emit
        self._on_leaf = on_leaf
        self._user_name = user_name
        self._group_name = group_name
        self._hurry = hurry
        self._open = GrowingLeaf()
        # Leaves that have ended, in order, and what waits in them.
        self._ended: deque[GrowingLeaf | Leaf] = deque()
        self._waiting = 0
        self._held = 0
        # Directory and name of the newest entry: a tree out of order could never be read again.
        self._last = (b"", b"")
        # A run of kept entries that may become a whole leaf again.
        self._run: Leaf | None = None
        self._run_flat: list[tuple[bytes, pb.Entry]] = []
        self._run_kept = 0
        self._boundary_key = keys.boundary_key
        self._levels = Levels(keys, emit, self._inner_may_end)

    def add(self, entry: NewEntry) -> None:
        """The next entry in key order. Raises Invalid if it is not, or larger than one may be."""
        if self._run is not None:
            self._break_run()
        key = directory, name = entry.directory, entry.message.name
        if key <= self._last:
            raise self._out_of_order(key)
        self._last = key
        leaf = self._open
        if leaf.add(entry) or (
            len(leaf.entries) >= LEAF_MIN
            and _draw(self._boundary_key, (b"\0", directory, b"\0", name)) < LEAF_THRESHOLD
        ):
            self._end_leaf()
        elif self._held + leaf.held > HELD_MAX:
            self._wait()

    def keep(
        self, leaf: Leaf, flat: list[tuple[bytes, pb.Entry]], index: int, count: int = 1
    ) -> None:
        """The next entries are `count` from `flat[index]` on of this leaf of the parent, unchanged.

        `flat` is the list of the leaf's (directory, entry), the same object for the same leaf.
        """
        if self._run is leaf and index == self._run_kept:
            self._run_kept += count
        else:
            if self._run is not None:
                self._break_run()
            if index or self._open.entries or leaf.is_last:
                # Not at the start of a leaf: its end may lie elsewhere now.
                for directory, entry in flat[index : index + count]:
                    self.add(detach(leaf.node, directory, entry))
                return
            key = flat[0][0], flat[0][1].name
            if key <= self._last:
                raise self._out_of_order(key)
            self._run, self._run_flat, self._run_kept = leaf, flat, count
        if self._run_kept == len(flat):
            self._run = None
            self._last = (flat[-1][0], flat[-1][1].name)
            self._ended.append(leaf)
            self._waiting += leaf.info.count
            self._settle()

    def finish(self) -> ChildInfo:
        """The root. No more entries may follow."""
        if self._run is not None:
            self._break_run()
        if self._open.entries or (self._levels.is_empty and not self._ended):
            self._end_leaf()
        self._wait()
        return self._levels.finish()

    def _break_run(self) -> None:
        leaf, flat, kept = self._run, self._run_flat, self._run_kept
        self._run = None
        if leaf is not None:
            for directory, entry in flat[:kept]:
                self.add(detach(leaf.node, directory, entry))

    def _out_of_order(self, key: tuple[bytes, bytes]) -> Invalid:
        return Invalid(f"{shown_path(*key)!r} comes after {shown_path(*self._last)!r}")

    def _inner_may_end(self, level: int, child: ChildInfo) -> bool:
        drawn = _draw(self._boundary_key, (bytes([level]), child.first_key))
        return drawn < INNER_THRESHOLD

    def _end_leaf(self) -> None:
        ended, self._open = self._open, GrowingLeaf()
        self._ended.append(ended)
        self._waiting += len(ended.entries)
        self._held += ended.held
        self._settle()

    def _settle(self) -> None:
        """Hand out leaves that have ended, as far as their chunks have names."""
        self._hand_out(wait=False)
        if self._waiting > WAITING_MAX or self._held + self._open.held > HELD_MAX:
            self._wait()

    def _wait(self) -> None:
        """Wait for the names of all chunks that have none."""
        self._hurry()
        self._hand_out(wait=True)
        self._open.name_chunks(wait=True)
        self._open.held = 0

    def _hand_out(self, *, wait: bool) -> None:
        while self._ended:
            leaf = self._ended[0]
            if isinstance(leaf, Leaf):
                self._waiting -= leaf.info.count
                self._add_to_levels(leaf.info, leaf)
            elif leaf.name_chunks(wait=wait):
                self._waiting -= len(leaf.entries)
                self._held -= leaf.held
                self._add_to_levels(*self._encode(leaf))
            else:
                return
            self._ended.popleft()

    def _encode(self, leaf: GrowingLeaf) -> tuple[ChildInfo, Sealable]:
        node, references, size = leaf.message(self._user_name, self._group_name)
        sealable = make_node(node, references, self._keys)
        self._emit(sealable)
        entries = leaf.entries
        first = entry_key(entries[0].directory, entries[0].message.name) if entries else b""
        return ChildInfo(sealable.chunk, first, len(entries), size), sealable

    def _add_to_levels(self, info: ChildInfo, leaf: Sealable | Leaf) -> None:
        self._on_leaf(info, leaf)
        self._levels.add(info)


def _draw(boundary_key: bytes, parts: tuple[bytes, ...]) -> int:
    """A number below 2^32 that decides whether a node may end after an item: from the node's level
    and the item's key.
    """
    return int.from_bytes(primitives.keyed_digest(boundary_key, b"".join(parts))[:4], "little")
