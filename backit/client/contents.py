"""Where the content of new files goes: into bundles, into chunks of their own, or nowhere, if it is
there already.

A `Placement` is a promise: the chunk a file lies in gets its name only when its bundle is full and
a worker has hashed it. For one thread. What is asked and sent goes through the sender.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.client.cache import SEEN_MAX
from backit.engine.bundle import bundle_ends, bundle_overflows
from backit.engine.extents import ExtentList, ExtentsBuilder
from backit.engine.leaf import Extent
from backit.format.magic import INLINE_EXTENTS_LIMIT, KIB, MIB
from backit.ids import ChunkId

if TYPE_CHECKING:
    from collections.abc import Collection

    from backit.client.cache import SeenCache
    from backit.client.outlet import Outlet, Promise
    from backit.crypto.keys import DomainKeys
    from backit.crypto.primitives import Buffer
    from backit.engine.leaf import Where

SEEN_KEY_BYTES = 16
# Chunks of one large file whose names are not known yet, before the oldest is waited for.
LARGE_AHEAD = 128
# Memory that one of them takes.
PROMISE_BYTES = 2 * KIB
# Small files kept in memory while the appliance is asked about their old chunk.
HELD_BYTES = 16 * MIB


@dataclass(slots=True, eq=False)
class Bundle:
    """Small files that will share a chunk; `chunk` is set when it is closed."""

    parts: list[Buffer] = field(default_factory=list["Buffer"])
    size: int = 0
    chunk: Promise[ChunkId] | None = None


@dataclass(slots=True, eq=False)
class Placement:
    """Where one small file lies, once it is known."""

    length: int
    bundle: Bundle | None = None
    offset: int = 0
    chunk: ChunkId | None = None

    @property
    def count(self) -> int:
        return 1

    @property
    def burden(self) -> int:
        return 0

    @property
    def is_ready(self) -> bool:
        return self.where(wait=False) is not None

    def extent(self) -> Extent:
        """Waits for the chunk's name if need be. Raises what went wrong in the sender."""
        chunk = self.chunk
        if chunk is None:
            if self.bundle is None or self.bundle.chunk is None:
                raise ValueError("the file has not been placed yet")
            chunk = self.chunk = self.bundle.chunk.result()
        return Extent(chunk, self.offset, self.length)

    def where(self, *, wait: bool) -> Where | None:
        if self.chunk is None and not wait:
            bundle = self.bundle
            if bundle is None or bundle.chunk is None or not bundle.chunk.done():
                return None
        return (self.extent(),), None, b""


@dataclass(frozen=True, slots=True)
class _Held:
    """A small file that waits for the appliance to say whether its old chunk is there."""

    data: bytes
    content_hash: bytes
    placement: Placement
    old: tuple[bytes, int, int]
    is_live: Promise[bool]


def _answered(value: bool) -> Promise[bool]:  # noqa: FBT001 - what was asked
    future: Future[bool] = Future()
    future.set_result(value)
    return future


_ANSWERED: dict[bool, Promise[bool]] = {value: _answered(value) for value in (False, True)}


class Contents:
    """Places the contents of one run's files.

    `worn` bundles are not relied on: files that lie in them are placed anew.
    """

    def __init__(self, sender: Outlet, seen: SeenCache, worn: Collection[ChunkId]) -> None:
        self._sender = sender
        self._seen = seen
        self.worn = frozenset(worn)
        self._worn = {chunk.raw for chunk in worn}
        # This run's files by hash: the newest, and those before. The seen index has older ones.
        self._placed: dict[bytes, Placement] = {}
        self._placed_before: dict[bytes, Placement] = {}
        # Old chunks that have been asked for; once answered, all share two futures.
        self._live: dict[bytes, Promise[bool]] = {}
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._bundle = Bundle()

    def small(self, data: bytes, content_hash: bytes) -> Placement:
        """Place a file below LARGE_FILE whose content is at hand."""
        if self._held:
            self._release_held()
        key = content_hash[:SEEN_KEY_BYTES]
        placed = self._placed.get(key) or self._placed_before.get(key)
        if placed is not None and placed.length == len(data):
            return placed
        if len(self._placed) >= SEEN_MAX // 2:
            self._hand_over()
        placement = self._placed[key] = Placement(len(data))
        old = self._seen.get(key)
        if old is None or old[2] != len(data) or old[0] in self._worn:
            self._bundle_up(data, content_hash, placement)
            return placement
        is_live = self._live.get(old[0])
        if is_live is None:
            is_live = self._live[old[0]] = self._sender.is_live(ChunkId(old[0]))
        held = _Held(data, content_hash, placement, old, is_live)
        if is_live.done() and not self._held:
            self._settle(held)
        else:
            self._held.append(held)
            self._held_bytes += len(data)
        return placement

    def close(self) -> None:
        """No more small files: every placement becomes ready."""
        while self._held:
            self._settle(self._take_held())
        self._close_bundle()

    def remember(self) -> None:
        """Tell the seen index where this run's files lie; everything must have been sent."""
        for placed in (self._placed_before, self._placed):
            # Out of here as it goes in there: both as a whole would need twice the memory.
            for key in list(placed):
                self._tell_seen(key, placed.pop(key))

    def _tell_seen(self, key: bytes, placement: Placement) -> None:
        extent = placement.extent()
        self._seen.put(key, (extent.chunk.raw, extent.offset, extent.length))

    def _hand_over(self) -> None:
        """Have the seen index remember this run's older files instead; those that have a place.

        Whoever finds one there asks for its chunk, even if this run never ends.
        """
        rest: dict[bytes, Placement] = {}
        for key, placement in self._placed_before.items():
            if placement.is_ready:
                self._tell_seen(key, placement)
            else:
                rest[key] = placement
        # In one go: taking the oldest out of a large dict one by one is slow.
        self._placed_before, self._placed = rest | self._placed, {}

    def _release_held(self) -> None:
        """Place what has been answered; wait for answers if too much is held."""
        while self._held and (self._held[0].is_live.done() or self._held_bytes > HELD_BYTES):
            self._settle(self._take_held())

    def _take_held(self) -> _Held:
        held = self._held.popleft()
        self._held_bytes -= len(held.data)
        return held

    def _settle(self, held: _Held) -> None:
        is_live = held.is_live.result()
        self._live[held.old[0]] = _ANSWERED[is_live]
        if is_live:
            chunk, held.placement.offset, _length = held.old
            held.placement.chunk = ChunkId(chunk)
        else:
            self._bundle_up(held.data, held.content_hash, held.placement)

    def _bundle_up(self, data: bytes, content_hash: bytes, placement: Placement) -> None:
        size = len(data)
        if bundle_overflows(self._bundle.size, size):
            self._close_bundle()
        bundle = self._bundle
        placement.bundle, placement.offset = bundle, bundle.size
        bundle.parts.append(data)
        bundle.size += size
        if bundle_ends(bundle.size, size, content_hash):
            self._close_bundle()

    def _close_bundle(self) -> None:
        bundle, self._bundle = self._bundle, Bundle()
        if bundle.size:
            bundle.chunk = self._sender.data(bundle.parts, bundle.size)
            bundle.parts = []


class LargeFile:
    """Collects the chunks of one large file, in order."""

    def __init__(self, sender: Outlet, keys: DomainKeys) -> None:
        self._sender = sender
        self._builder = ExtentsBuilder(keys, sender.node)
        self._list = ExtentList(keys)
        self._chunks = 0
        self._ahead: deque[tuple[Promise[ChunkId], int]] = deque()
        self._found: Where | None = None

    def add(self, chunk: memoryview) -> None:
        """The next chunk. May wait for room."""
        self._chunks += 1
        self._ahead.append((self._sender.data([chunk], len(chunk)), len(chunk)))
        while self._ahead and (len(self._ahead) > LARGE_AHEAD or self._ahead[0][0].done()):
            self._settle()

    @property
    def count(self) -> int:
        return self._chunks if self._chunks <= INLINE_EXTENTS_LIMIT else 0

    @property
    def burden(self) -> int:
        return PROMISE_BYTES * len(self._ahead)

    def where(self, *, wait: bool) -> Where | None:
        if not wait and not all(chunk.done() for chunk, _length in reversed(self._ahead)):
            return None
        return self.finish()

    def finish(self) -> Where:
        """Its extents, or the root of their tree, and their hash; no more chunks may follow."""
        if self._found is None:
            while self._ahead:
                self._settle()
            self._found = *self._builder.finish(), self._list.digest()
        return self._found

    def _settle(self) -> None:
        chunk, length = self._ahead.popleft()
        extent = Extent(chunk.result(), 0, length)
        self._list.add(extent)
        self._builder.add(extent)
