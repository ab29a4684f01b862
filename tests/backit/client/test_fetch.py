"""Promises of fetching: what comes is what was asked for, and damage is that of one chunk alone."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from backit.client import fetch as fetch_module
from backit.client import ledger
from backit.client.cache import Box, SeenCache
from backit.client.contents import Contents
from backit.client.fetch import ChunkReader
from backit.client.growth import Counts, Growth
from backit.client.problems import Problems
from backit.client.scan import Batch
from backit.client.sender import Sender
from backit.client.vaults import Keyring
from backit.crypto import primitives
from backit.engine.leaf import ENTRY_WEIGHT, Extent, NewEntry
from backit.engine.tree import TreeBuilder
from backit.engine.walk import Found, walk
from backit.errors import BackitError, Damaged, NotFound, Unavailable
from backit.format import record
from backit.format.magic import KIB, MIB, Kind
from backit.format.v1 import tree_pb2 as pb
from backit.ids import ChunkId
from backit.v1 import chunks_pb2
from tests.backit.client import stand_in as stand_ins
from tests.backit.client.interruptions import threads
from tests.backit.client.stand_in import LEASE, StandIn
from tests.backitd.daemons import wait_until
from tests.backitd.people import Machine, Person, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backit.client.remote import Appliance
    from backit.crypto.primitives import Buffer
    from tests.backit.client import certificates

Responses = list[chunks_pb2.DownloadResponse]


@dataclass
class Scene:
    """An appliance with chunks of a machine, and its owner who reads them."""

    stand_in: StandIn
    appliance: Appliance
    machine: Machine
    run: Run
    reader: ChunkReader
    nodes: dict[ChunkId, bytes] = field(default_factory=dict[ChunkId, bytes])

    def put(self, plaintext: bytes) -> ChunkId:
        chunk, encoded = self.run.data(plaintext)
        self.stand_in.records[chunk.raw] = encoded
        return chunk

    def put_node(self, plaintext: bytes, references: Sequence[ChunkId] = ()) -> ChunkId:
        chunk, encoded = self.run.node(plaintext, references)
        self.stand_in.records[chunk.raw] = encoded
        return chunk

    def fetch(self, chunks: Sequence[ChunkId]) -> dict[ChunkId, Buffer | BackitError]:
        found = list(self.reader.chunks(chunks))
        assert len(found) == len(dict(found)) == len(chunks), "each chunk is answered once"
        return dict(found)


@pytest.fixture
def scene(tmp_path: Path, authority: certificates.Pair) -> Iterator[Scene]:
    person = Person("anna")
    machine = person.machine()
    run = machine.run()
    found = ledger.verify(
        [*person.first_statements(), *machine.statements()], person.root.owner.public
    )
    stand_in = StandIn()
    stand_in.sessions[run.session.raw] = run.session_statement.encoded
    with stand_ins.serving(stand_in, tmp_path / "s", authority.pem) as appliance:
        reader = ChunkReader(appliance, Keyring(person.root, found), machine.domain_keys)
        yield Scene(stand_in, appliance, machine, run, reader)
        reader.close()
    wait_until(lambda: not threads())


def test_what_was_stored_comes_back(scene: Scene) -> None:
    contents = {scene.put(b"%d" % number * 100): b"%d" % number * 100 for number in range(50)}
    assert scene.fetch(list(contents)) == contents


def test_nothing_is_asked_where_nothing_is_wanted(scene: Scene) -> None:
    scene.stand_in.answers = lambda _responses: pytest.fail("asked")
    assert scene.fetch([]) == {}
    assert list(scene.reader.load([])) == []


def test_many_are_asked_for_a_few_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "IDS_AT_ONCE", 7)
    asked: list[int] = []

    def count(responses: Responses) -> Responses:
        asked.append(len(responses))
        return responses

    scene.stand_in.answers = count
    contents = {scene.put(b"%d" % number): b"%d" % number for number in range(30)}
    assert scene.fetch(list(contents)) == contents
    assert asked == [7, 7, 7, 7, 2]


def test_missing_and_damaged_chunks_are_told_apart_and_hide_no_other(scene: Scene) -> None:
    here, missing, damaged = scene.put(b"here"), ChunkId(b"m" * 32), scene.put(b"damaged")

    def mark(responses: Responses) -> Responses:
        for response in responses:
            if response.chunk_id == damaged.raw:
                response.record = b""
                response.state = chunks_pb2.DownloadResponse.STATE_DAMAGED
        return responses

    scene.stand_in.answers = mark
    found = scene.fetch([missing, here, damaged])
    assert found[here] == b"here"
    assert isinstance(found[missing], NotFound)
    assert isinstance(found[damaged], Damaged)
    assert all(chunk.hex in str(found[chunk]) for chunk in (missing, damaged))


# Whatever a bit of these says, it is the record that is damaged, and nothing else is asked for.
HEAD = range(record.HEAD.size)


@pytest.mark.parametrize("seed", range(3))
def test_any_flipped_bit_is_an_error_of_that_chunk_alone(scene: Scene, seed: int) -> None:
    numbers = random.Random(seed)
    first, last = scene.put(b"first"), scene.put(b"last")
    data = numbers.randbytes(300)
    chunk = scene.put(data)
    whole = scene.stand_in.records[chunk.raw]
    places = [*numbers.sample(HEAD, 40), *numbers.sample(range(len(whole)), 40)]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << numbers.randrange(8)
        scene.stand_in.records[chunk.raw] = bytes(changed)
        found = scene.fetch([first, chunk, last])
        assert (found[first], found[last]) == (b"first", b"last")
        error = found[chunk]
        if place >= len(whole) - primitives.HASH_BYTES:
            assert error == data, "the hash is for the appliance, which has no key"
            continue
        assert isinstance(error, BackitError)
        assert isinstance(error, Damaged) or place == 4, "another version is another matter"
        assert "session" not in str(error)


@pytest.mark.parametrize("length", [0, 1, 3, 115, 200, -1])
def test_a_record_that_was_cut_off_is_damaged(scene: Scene, length: int) -> None:
    chunk = scene.put(bytes(range(200)))
    scene.stand_in.records[chunk.raw] = scene.stand_in.records[chunk.raw][:length]
    error = scene.fetch([chunk])[chunk]
    assert isinstance(error, Damaged)
    assert str(error).startswith(f"chunk {chunk}: ")


def test_swapped_records_are_damaged_both(scene: Scene) -> None:
    one, two, other = scene.put(b"one"), scene.put(b"two"), scene.put(b"other")
    records = scene.stand_in.records
    records[one.raw], records[two.raw] = records[two.raw], records[one.raw]
    found = scene.fetch([one, two, other])
    assert [type(found[chunk]) for chunk in (one, two)] == [Damaged, Damaged]
    assert found[other] == b"other"


def test_answers_to_what_nobody_asked_are_not_listened_to(scene: Scene) -> None:
    wanted, other = scene.put(b"wanted"), scene.put(b"other")
    stranger = chunks_pb2.DownloadResponse(
        chunk_id=other.raw, record=scene.stand_in.records[other.raw]
    )
    nonsense = chunks_pb2.DownloadResponse(chunk_id=b"short")
    scene.stand_in.answers = lambda responses: [stranger, nonsense, *responses, *responses]
    assert scene.fetch([wanted]) == {wanted: b"wanted"}
    scene.stand_in.answers = lambda _responses: [stranger]
    found = scene.fetch([wanted])
    assert isinstance(found[wanted], NotFound)
    assert "gave no answer" in str(found[wanted])


def test_a_node_is_no_data_and_data_is_no_node(scene: Scene) -> None:
    node, data = scene.put_node(b"x"), scene.put(b"x")
    assert isinstance(scene.fetch([node])[node], Damaged)
    with pytest.raises(Damaged, match="a data chunk where a node should be"):
        list(scene.reader.load([data]))


def test_a_chunk_of_another_domain_is_refused(scene: Scene) -> None:
    stranger = scene.machine.owner.machine("other").run()
    chunk, encoded = stranger.data(b"theirs")
    scene.stand_in.records[chunk.raw] = encoded
    scene.stand_in.sessions[stranger.session.raw] = stranger.session_statement.encoded
    assert isinstance(scene.fetch([chunk])[chunk], Damaged)


def other_run(scene: Scene) -> Run:
    return scene.machine.run()


def changed_at(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


PACKETS: dict[str, Callable[[Scene, Run], bytes | None]] = {
    "lost": lambda _scene, _run: None,
    "another's": lambda scene, _run: scene.run.session_statement.encoded,
    "garbage": lambda _scene, _run: b"garbage" * 30,
    "cut off": lambda _scene, run: run.session_statement.encoded[:-1],
    "not signed": lambda _scene, run: changed_at(run.session_statement.encoded, -5),
    "a certificate": lambda scene, _run: scene.machine.certificate(1).encoded,
}


@pytest.mark.parametrize("packet", PACKETS)
def test_a_session_whose_key_is_not_to_be_had_costs_its_own_chunks_only(
    scene: Scene, packet: str
) -> None:
    run = other_run(scene)
    lost, encoded = run.data(b"lost")
    scene.stand_in.records[lost.raw] = encoded
    given = PACKETS[packet](scene, run)
    if given is not None:
        scene.stand_in.sessions[run.session.raw] = given
    here = scene.put(b"here")
    found = scene.fetch([lost, here])
    assert found[here] == b"here"
    assert isinstance(found[lost], Damaged)


def test_a_session_key_is_asked_for_once(scene: Scene) -> None:
    asked: list[int] = []
    scene.stand_in.on_session = asked.append
    chunks = [scene.put(b"%d" % number) for number in range(100)]
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(scene.fetch, chunks) for _ in range(4)]:
            each.result()
    assert len(asked) == 1


def test_an_appliance_that_goes_away_is_no_damage(scene: Scene) -> None:
    here, later = scene.put(b"here"), scene.put(b"later")

    def go_away(responses: Responses) -> Iterator[chunks_pb2.DownloadResponse]:
        yield responses[0]
        raise Unavailable("away")

    scene.stand_in.answers = go_away
    with pytest.raises(BackitError) as caught:
        scene.fetch([here, later])
    assert not isinstance(caught.value, Damaged | NotFound)


def test_whoever_stops_listening_ends_the_download(scene: Scene) -> None:
    chunks = [scene.put(b"%d" % number * 100_000) for number in range(60)]
    ended = threading.Event()

    def many(responses: Responses) -> Iterator[chunks_pb2.DownloadResponse]:
        try:
            yield from responses
        finally:
            ended.set()

    scene.stand_in.answers = many
    listening = scene.reader.fetch(chunks)
    next(listening)
    listening.close()  # type: ignore[attr-defined]
    assert ended.wait(30)


def leaf_of(scene: Scene, count: int) -> ChunkId:
    """A small tree of directories, and its root."""
    builder = TreeBuilder(
        scene.machine.domain_keys, lambda node: _send(scene, node.plaintext, node.references)
    )
    for number in range(count):
        entry = pb.Entry(name=b"%05d" % number, type=pb.FILE_TYPE_DIRECTORY, inode=number)
        builder.add(NewEntry(b"", entry))
    return builder.finish().chunk


def _send(scene: Scene, plaintext: bytes, references: Sequence[ChunkId]) -> None:
    scene.put_node(plaintext, references)


def test_nodes_come_in_the_order_asked_for_also_from_memory(scene: Scene) -> None:
    leaf_of(scene, 1000)
    nodes = [
        ChunkId(raw)
        for raw, encoded in scene.stand_in.records.items()
        if record.parse_header(encoded).kind is Kind.NODE
    ]
    scene.stand_in.answers = lambda responses: responses[::-1]
    asked: list[ChunkId] = [*nodes, *reversed(nodes), nodes[0]]
    loaded = list(scene.reader.load(asked))
    again = list(scene.reader.load(asked))
    assert loaded == again
    assert [loaded[0]] * 2 == [loaded[2 * len(nodes) - 1], loaded[-1]]
    scene.stand_in.answers = lambda _responses: pytest.fail("asked for what is in memory")
    assert list(scene.reader.load(asked)) == loaded


def test_memory_for_nodes_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def count(responses: Responses) -> Responses:
        asked.append(len(responses))
        return responses

    monkeypatch.setattr(fetch_module, "NODE_CACHE_BYTES", 40 * ENTRY_WEIGHT)
    keyring = scene.reader._keyring  # pyright: ignore[reportPrivateUsage]
    reader = ChunkReader(scene.appliance, keyring, scene.machine.domain_keys)
    root = leaf_of(scene, 1000)
    scene.stand_in.answers = count
    first = [found.path for found in walk(root, reader.load)]
    once = sum(asked)
    assert [found.path for found in walk(root, reader.load)] == first
    assert sum(asked) > once + 5
    reader.close()


def test_a_node_that_cannot_be_had_is_named(scene: Scene) -> None:
    missing = ChunkId(b"m" * 32)
    with pytest.raises(NotFound, match=missing.hex):
        list(scene.reader.load([missing]))
    scene.stand_in.answers = lambda _responses: []
    with pytest.raises(NotFound, match=missing.hex):
        list(scene.reader.load([missing]))


def test_a_node_that_is_none_is_named(scene: Scene) -> None:
    node = scene.put_node(b"\xff\xff")
    with pytest.raises(Damaged, match=node.hex):
        list(scene.reader.load([node]))


class _Copying(Sender):
    """A sender that lets go of what it is given at once, as whoever reads files expects."""

    def data(
        self, parts: Sequence[Buffer], size: int, released: Callable[[], None] | None = None
    ) -> Future[ChunkId]:
        return super().data([b"".join(parts)], size, released)


def save(scene: Scene, file: Path) -> Found:
    """Back one file up, and find it again."""
    sender = _Copying(scene.appliance, LEASE, scene.run.seal, scene.machine.domain_keys, workers=2)
    contents = Contents(sender, SeenCache(file.parent / "none", Box(bytes(32))), ())
    growth = Growth(
        sender,
        scene.machine.domain_keys,
        contents,
        counts=Counts(),
        problems=Problems(),
        on_leaf=lambda _info, _leaf: None,
    )
    fd = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    batch = Batch(b"", fd, [(file.name.encode(), file.stat())])
    try:
        root = growth.run([batch], iter(()))
    finally:
        os.close(fd)
    sender.close()
    (found,) = walk(root.chunk, scene.reader.load)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_content_with_holes_is_the_file(scene: Scene, tmp_path: Path, seed: int) -> None:
    numbers = random.Random(seed)
    size = numbers.choice((0, 5000, 300 * KIB, 3 * MIB, 12 * MIB)) + numbers.randrange(5000)
    file = tmp_path / "f"
    with file.open("wb") as sparse:
        sparse.truncate(size)
        for _ in range(numbers.randrange(6)):
            sparse.seek(numbers.randrange(size) if size else 0)
            sparse.write(numbers.randbytes(numbers.randrange(1, 1 + min(size, 2 * MIB))))
    found = save(scene, file)
    content = b"".join(scene.reader.content(found))
    assert content == file.read_bytes()
    assert len(content) == found.entry.size


def found_with(
    scene: Scene, size: int, extents: Sequence[Extent], holes: Sequence[tuple[int, int]] = ()
) -> Found:
    """An entry with these extents, in a tree of its own."""
    entry = pb.Entry(name=b"f", type=pb.FILE_TYPE_REGULAR, size=size)
    for offset, length in holes:
        entry.holes.add(offset=offset, length=length)
    if extents:
        entry.content_hash = primitives.digest(b"not looked at here")
    builder = TreeBuilder(
        scene.machine.domain_keys, lambda node: _send(scene, node.plaintext, node.references)
    )
    builder.add(NewEntry(b"", entry, extents))
    (found,) = walk(builder.finish().chunk, scene.reader.load)
    return found


def test_holes_may_lie_inside_of_an_extent_and_between_two(scene: Scene) -> None:
    one, two = scene.put(b"abcdef"), scene.put(b"..ghi..")
    extents = [Extent(one, 0, 6), Extent(two, 2, 3)]
    holes = [(0, 2), (4, 1), (9, 3), (14, 2)]
    found = found_with(scene, 17, extents, holes)
    assert b"".join(scene.reader.content(found)) == (b"\0\0ab\0cdef\0\0\0gh\0\0i")


def test_long_holes_are_given_piece_by_piece(scene: Scene) -> None:
    found = found_with(scene, 10 * MIB, [], [(0, 10 * MIB)])
    pieces = list(scene.reader.content(found))
    assert sum(map(len, pieces)) == 10 * MIB
    assert max(map(len, pieces)) <= MIB


def test_content_that_is_missing_or_shorter_than_it_should_be_is_an_error(scene: Scene) -> None:
    chunk = scene.put(b"short")
    with pytest.raises(Damaged, match="shorter than an extent says"):
        list(scene.reader.content(found_with(scene, 6, [Extent(chunk, 0, 6)])))
    missing = ChunkId(b"m" * 32)
    with pytest.raises(NotFound, match=missing.hex):
        list(scene.reader.content(found_with(scene, 6, [Extent(missing, 0, 6)])))


def test_closing_leaves_no_thread(scene: Scene) -> None:
    scene.fetch([scene.put(b"x")])
    scene.reader.close()
    wait_until(lambda: not threads())
