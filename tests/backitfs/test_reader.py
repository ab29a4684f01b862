"""Whoever reads from start to end is served in few requests, and within a share of the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from backit.format.magic import KIB, MIB
from backit.format.node import Node
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId, DeviceId, DomainId, SnapshotId
from backitfs.cache import Brought, Cache
from backitfs.catalogue import Listed, Volume
from backitfs.reader import LAST_WINDOW, OpenFile, Reader
from backitfs.view import Item, Tree
from tests.backit.engine.forests import chunk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backit.crypto.primitives import Buffer
    from backit.errors import BackitError
    from backitfs.view import Opened

CHUNKS = 200
REQUEST = 128 * KIB
DATA = bytes(MIB)


@dataclass
class Appliance:
    """Gives any chunk: a MiB of zeros. Remembers what it was asked for together."""

    asked: list[list[ChunkId]] = field(default_factory=list["list[ChunkId]"])

    def fetch(
        self, chunks: Sequence[ChunkId]
    ) -> Iterator[tuple[ChunkId, Brought[Buffer] | BackitError]]:
        self.asked.append(list(chunks))
        for each in chunks:
            yield each, Brought(DATA, len(DATA))


@dataclass
class Scene:
    """A reader, and files of MiB chunks of their own."""

    appliance: Appliance
    reader: Reader
    files: int = 0

    def open(self, chunks: int = CHUNKS) -> OpenFile:
        own = [chunk(self.files * CHUNKS + number) for number in range(chunks)]
        self.files += 1
        entry = pb.Entry(name=b"file", type=pb.FILE_TYPE_REGULAR, size=chunks * MIB)
        for number in range(chunks):
            entry.extents.add(chunk=number, length=MIB)
        item = Item(0, b"", entry, Node(pb.Node(), tuple(own)))
        return self.reader.open(volume(), item)

    async def read(self, file: OpenFile, start: int, end: int) -> None:
        """As the kernel does, a piece after another."""
        for at in range(start, end, REQUEST):
            assert len(await self.reader.read(file, at, REQUEST)) == min(REQUEST, end - at)


def volume() -> Volume:
    listed = Listed(
        SnapshotId(bytes(32)), DeviceId(bytes(16)), "", 0, chunk(0), DomainId(bytes(16))
    )
    return Volume(0, b"", listed, Tree(chunk(0), lambda _chunk: None))


def staged(nursery: trio.Nursery, limit: int) -> Scene:
    """With a cache of so many bytes."""
    appliance = Appliance()
    nodes: Cache[Opened] = Cache(MIB, nursery, 60.0)
    data: Cache[Buffer] = Cache(limit, nursery, 60.0)
    reader = Reader(nodes, data, lambda _volume: no_nodes, lambda _volume: appliance.fetch)
    return Scene(appliance, reader)


def no_nodes(
    chunks: Sequence[ChunkId],
) -> Iterator[tuple[ChunkId, Brought[Opened] | BackitError]]:
    raise AssertionError(f"{chunks} were asked for, but these files need no nodes")


def test_a_file_that_is_read_through_comes_in_few_requests() -> None:
    async def main() -> list[list[ChunkId]]:
        async with trio.open_nursery() as nursery:
            scene = staged(nursery, 192 * MIB)
            file = scene.open()
            await scene.read(file, 0, CHUNKS * MIB)
            return scene.appliance.asked

    asked = trio.run(main)
    assert sorted(each.raw for batch in asked for each in batch) == sorted(
        chunk(number).raw for number in range(CHUNKS)
    ), "each chunk once"
    assert len(asked) <= CHUNKS // 10


def test_what_is_fetched_ahead_has_a_bound() -> None:
    async def main() -> list[list[ChunkId]]:
        async with trio.open_nursery() as nursery:
            scene = staged(nursery, 192 * MIB)
            file = scene.open()
            await scene.read(file, 0, 64 * MIB)
            return scene.appliance.asked

    fetched = sum(map(len, trio.run(main)))
    assert 64 < fetched <= 64 + LAST_WINDOW // MIB + 1


def test_many_readers_share_half_of_the_cache() -> None:
    readers, limit = 8, 64 * MIB

    async def main() -> tuple[list[list[ChunkId]], int]:
        async with trio.open_nursery() as nursery:
            scene = staged(nursery, limit)
            files = [scene.open() for _ in range(readers)]
            for start in range(0, 32 * MIB, REQUEST):
                for file in files:
                    await scene.read(file, start, start + REQUEST)
            first = [batch.copy() for batch in scene.appliance.asked]
            for file in files[1:]:
                scene.reader.close(file)
            before = len(scene.appliance.asked)
            await scene.read(files[0], 32 * MIB, CHUNKS * MIB)
            return first, max(map(len, scene.appliance.asked[before:]))

    asked, largest = trio.run(main)
    chunks = [each for batch in asked for each in batch]
    assert len(set(chunks)) == len(chunks), "nothing was dropped before it was read"
    assert len(chunks) <= readers * (32 + limit // MIB // 2 // readers + 1)
    assert largest > limit // MIB // 2 // readers, "whoever is left has all of it again"


def test_whoever_jumps_about_gets_what_was_asked_for_and_no_more() -> None:
    async def main() -> list[list[ChunkId]]:
        async with trio.open_nursery() as nursery:
            scene = staged(nursery, 192 * MIB)
            file = scene.open()
            for number in (150, 20, 90, 60, 199, 3):
                await scene.read(file, number * MIB + 5 * KIB, number * MIB + 5 * KIB + REQUEST)
            return scene.appliance.asked

    assert trio.run(main) == [[chunk(number)] for number in (150, 20, 90, 60, 199, 3)]
