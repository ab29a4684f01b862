"""Files that are open: from an offset to bytes, and what is fetched before it is asked for.

Whoever reads a file from start to end gets the chunks behind the current one brought in the
meantime, more of them the longer it goes on; whoever reads one small file after another gets the
next bundle. Whoever jumps about gets what was asked for and nothing else. FUSE is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from backit.errors import Damaged
from backit.format.magic import KIB, MIB
from backitfs.layout import layout_of
from backitfs.view import NotLoaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.crypto.primitives import Buffer
    from backit.ids import ChunkId
    from backitfs.cache import Cache, Fetch
    from backitfs.catalogue import Volume
    from backitfs.layout import FileLayout, OnePiece, Piece
    from backitfs.view import Item, Opened

# A read may begin this far from where the last one ended and still count as going on: the kernel
# reads ahead in several requests, which may overtake each other.
NEAR = MIB
# A request costs as much as opening a chunk: what is fetched ahead comes in few of them.
FIRST_WINDOW, LAST_WINDOW = MIB, 32 * MIB
# Nodes in one request: doubled from the first to the last while misses follow each other.
FIRST_BATCH, LAST_BATCH = 2, 64
WALKS = 64
SMALL_FILE = 512 * KIB
# Entries behind a small file among which the next bundle is looked for.
NEIGHBOURS = 400


@dataclass(slots=True, eq=False)
class OpenFile:
    """A regular file for as long as somebody has it open; all who do share it."""

    volume: Volume
    item: Item
    layout: OnePiece | FileLayout
    opens: int = 0
    # Where reading is expected to go on, how far ahead of it is fetched, and up to where it was.
    next: int = 0
    window: int = 0
    asked: int = 0


class Reader:
    """Reads the files of all snapshots."""

    def __init__(
        self,
        nodes: Cache[Opened],
        data: Cache[Buffer],
        fetch_nodes: Callable[[Volume], Fetch[Opened]],
        fetch_data: Callable[[Volume], Fetch[Buffer]],
    ) -> None:
        self._nodes = nodes
        self._data = data
        self._fetch_nodes = fetch_nodes
        self._fetch_data = fetch_data
        # The node behind those brought last, and how many to bring when it is missed.
        self._walks: dict[ChunkId, int] = {}
        self._bundle: ChunkId | None = None
        # The files that are read from start to end; their windows share half of the cache.
        self._sequences: set[OpenFile] = set()

    async def load(self, volume: Volume, missing: NotLoaded) -> None:
        """Bring a node that was missed, and, on a walk, those that will be."""
        batch = self._walks.pop(missing.wanted, FIRST_BATCH)
        ahead = missing.following[: batch - 1]
        if len(missing.following) > len(ahead):
            self._walks[missing.following[len(ahead)]] = min(2 * batch, LAST_BATCH)
            while len(self._walks) > WALKS:
                del self._walks[next(iter(self._walks))]
        await self._nodes.bring(self._fetch_nodes(volume), missing.wanted, ahead)

    def open(self, volume: Volume, item: Item) -> OpenFile:
        return OpenFile(volume, item, layout_of(item, self._nodes.get))

    def close(self, file: OpenFile) -> None:
        """Nobody has it open any more."""
        self._sequences.discard(file)

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        """Exactly the bytes of this range, up to the file's end. Raises BackitError."""
        while True:
            try:
                pieces = file.layout.pieces(offset, size)
                break
            except NotLoaded as missing:
                await self.load(file.volume, missing)
        if not pieces:
            return b""
        self._look_ahead(file, offset, min(offset + size, file.layout.size), pieces)
        if len(pieces) == 1:
            return await self._bytes(file, pieces[0])
        return b"".join([await self._bytes(file, piece) for piece in pieces])

    async def _bytes(self, file: OpenFile, piece: Piece) -> Buffer:
        if piece.chunk is None:
            return bytes(piece.length)
        chunk = self._data.get(piece.chunk)
        if chunk is None:
            chunk = await self._data.bring(self._fetch_data(file.volume), piece.chunk)
        found = memoryview(chunk)[piece.offset : piece.offset + piece.length]
        if len(found) != piece.length:
            raise Damaged(f"chunk {piece.chunk}: it is shorter than an extent says")
        return found

    def _look_ahead(self, file: OpenFile, start: int, end: int, pieces: list[Piece]) -> None:
        if file.layout.size <= SMALL_FILE:
            self._next_bundle(file, pieces[-1].chunk)
            return
        if abs(start - file.next) > NEAR or (start and not file.next):
            file.window, file.asked = 0, end
            self._sequences.discard(file)
        elif start:
            self._sequences.add(file)
            largest = min(LAST_WINDOW, self._data.limit // (2 * len(self._sequences)))
            file.window = min(max(2 * file.window, FIRST_WINDOW), largest)
        file.next = end
        if not file.window:
            return
        # Ask in large steps: half of the window has to be used up first.
        begin, until = max(file.asked, end), min(end + file.window, file.layout.size)
        if until - begin >= file.window // 2 or begin < until == file.layout.size:
            file.asked = until
            self._ask(file, begin, until)

    def _ask(self, file: OpenFile, start: int, end: int) -> None:
        try:
            pieces = file.layout.pieces(start, end - start)
        except NotLoaded:
            file.asked = start  # the nodes come when the reader gets there
            return
        chunks = [piece.chunk for piece in pieces if piece.chunk is not None]
        self._data.ask(self._fetch_data(file.volume), chunks)

    def _next_bundle(self, file: OpenFile, bundle: ChunkId | None) -> None:
        """With the first file of a bundle, ask for the bundle that its neighbours go on in."""
        if bundle is None or bundle == self._bundle or file.layout.size == 0:
            return
        self._bundle = bundle
        try:
            neighbours = file.volume.tree.after(file.item.ordinal)
        except NotLoaded:
            return
        for item in islice(neighbours, NEIGHBOURS):
            for extent in item.entry.extents[:1]:
                chunk = item.leaf.references[extent.chunk]
                if chunk != bundle:
                    wanted = self._data.get(bundle) is None
                    chunks = [bundle, chunk] if wanted else [chunk]
                    self._data.ask(self._fetch_data(file.volume), chunks)
                    return
