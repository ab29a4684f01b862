"""Promises of the sender: order, memory, one failure for all, and no thread left behind.

The appliance is in memory and behind real gRPC; what the real one says to all this is in
test_backup.py.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from backit.client import sender as sender_module
from backit.client.flow import ByteGate
from backit.client.sender import Sender
from backit.crypto.keys import DomainKeys
from backit.crypto.primitives import Suite
from backit.engine.levels import Sealable
from backit.errors import (
    BackitError,
    Internal,
    Invalid,
    LeaseEnded,
    NoSpace,
    ReferencesMissing,
    Unavailable,
)
from backit.format import record
from backit.format.magic import KIB, MIB
from backit.format.record import Seal
from backit.ids import ChunkId, DomainId, SessionId
from tests.backit.client import stand_in as stand_ins
from tests.backit.client.interruptions import interrupts, threads
from tests.backit.client.stand_in import LEASE, StandIn
from tests.backitd.daemons import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from backit.client.remote import Appliance
    from tests.backit.client import certificates

KEYS = DomainKeys(DomainId(bytes(16)), bytes(32))
SEAL = Seal(Suite.XCHACHA20_POLY1305, KEYS.domain, 1, SessionId(bytes(16)), bytes(32))


@dataclass
class Scene:
    """An appliance, and senders to it."""

    stand_in: StandIn
    appliance: Appliance
    random: random.Random = field(default_factory=lambda: random.Random(1))

    def sender(self, workers: int = 2) -> Sender:
        return Sender(self.appliance, LEASE, SEAL, KEYS, workers=workers)

    def bytes(self, length: int) -> bytes:
        return self.random.randbytes(length)


@pytest.fixture
def scene(tmp_path: Path, authority: certificates.Pair) -> Iterator[Scene]:
    found = StandIn()
    with stand_ins.serving(found, tmp_path / "s", authority.pem) as appliance:
        yield Scene(found, appliance)
    wait_until(lambda: not threads())


def node_of(references: Sequence[ChunkId], plaintext: bytes) -> Sealable:
    table = tuple(sorted(set(references)))
    return Sealable(record.node_id(KEYS, table, plaintext), table, plaintext)


def failing_at(wanted: int, error: Exception) -> Callable[[int], None]:
    """A lever that fails once, at this call or message."""

    def lever(number: int) -> None:
        if number == wanted:
            raise error

    return lever


def opened(scene: Scene, chunk: ChunkId) -> bytes:
    encoded = scene.stand_in.records[chunk.raw]
    return bytes(record.open_record(encoded, chunk, SEAL.key, KEYS).plaintext)


def test_all_that_was_submitted_is_there_when_close_returns(scene: Scene) -> None:
    sender = scene.sender()
    contents = [scene.bytes(size) for size in (1, 100, 70_000, 2 * MIB, 4 * MIB)]
    chunks = [sender.data([content], len(content)) for content in contents]
    root = node_of([chunk.result() for chunk in chunks], b"root")
    sender.node(root)
    sender.close()
    assert [opened(scene, chunk.result()) for chunk in chunks] == contents
    assert opened(scene, root.chunk) == b"root"
    assert sender.sent.new_bytes == sum(len(content) for content in contents)
    assert sender.sent.stored_bytes == sum(map(len, scene.stand_in.records.values()))


def test_the_parts_of_a_chunk_are_put_together(scene: Scene) -> None:
    sender = scene.sender()
    parts = [scene.bytes(size) for size in (10, 1, 5000)]
    chunk = sender.data(parts, 5011)
    sender.close()
    assert opened(scene, chunk.result()) == b"".join(parts)


def test_an_upload_of_nothing_ends_well(scene: Scene) -> None:
    scene.sender().close()
    assert scene.stand_in.arrived == []


class _Shuffled(ThreadPoolExecutor):
    """Does what waits in an order that depends on a seed, not on when it was asked for."""

    seed = 0

    def __init__(self, workers: int, **options: Any) -> None:
        super().__init__(workers, **options)
        self._random = random.Random(self.seed)
        self._waiting: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self._waiting_lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert not kwargs
        future: Future[Any] = Future()
        with self._waiting_lock:
            self._waiting.append((future, fn, args))
        super().submit(self._one)
        return future

    def _one(self) -> None:
        with self._waiting_lock:
            at = self._random.randrange(len(self._waiting))
            future, run, arguments = self._waiting.pop(at)
        future.set_result(run(*arguments))


@contextmanager
def restless_threads() -> Generator[None]:
    """Threads change as often as the interpreter allows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def submit_at_random(scene: Scene, sender: Sender, count: int) -> None:
    """Data and nodes in turn, some of it twice; nodes refer to anything that went before."""
    known: list[ChunkId] = []
    waiting: list[Future[ChunkId]] = []
    before: list[bytes] = []
    for _ in range(count):
        if scene.random.random() < 0.6 or not waiting:
            again = before and scene.random.random() < 0.2
            content = scene.random.choice(before) if again else scene.bytes(200)
            before.append(content)
            waiting.append(sender.data([content], len(content)))
        else:
            known.append(waiting.pop(scene.random.randrange(len(waiting))).result())
            used = scene.random.sample(known, min(len(known), 3))
            node = node_of(used, scene.bytes(8))
            known.append(node.chunk)
            sender.node(node)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("seed", range(8))
def test_a_node_is_never_sent_before_what_it_refers_to(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, seed: int, workers: int
) -> None:
    monkeypatch.setattr(_Shuffled, "seed", seed)
    monkeypatch.setattr(sender_module, "ThreadPoolExecutor", _Shuffled)
    monkeypatch.setattr(sender_module, "HANDFUL_MAX", 1 + seed % 4)
    monkeypatch.setattr(sender_module, "MESSAGE_TARGET", 300 * (1 + seed % 3))
    monkeypatch.setattr(sender_module, "GATHER_SECONDS", 0.001 * (seed % 2))
    scene.random.seed(seed)
    with restless_threads():
        sender = scene.sender(workers)
        submit_at_random(scene, sender, 60)
        sender.close()
    assert scene.stand_in.premature == []
    assert len(scene.stand_in.arrived) == len(set(scene.stand_in.arrived)) > 30


def test_what_comes_twice_in_a_run_is_sent_once(scene: Scene) -> None:
    sender = scene.sender()
    content = scene.bytes(1000)
    first = [sender.data([content], 1000) for _ in range(20)]
    node = node_of([first[0].result()], b"node")
    for _ in range(3):
        sender.node(node)
    sender.close()
    assert {chunk.result() for chunk in first} == {first[0].result()}
    assert scene.stand_in.arrived == [first[0].result().raw, node.chunk.raw]
    assert [len(batch) for batch in scene.stand_in.questions] in ([1, 1], [2])
    assert sender.sent.new_bytes == 1000


def test_the_memory_of_what_came_before_is_bounded_and_costs_only_a_question(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "CLAIMED_MAX", 3)
    sender = scene.sender()
    contents = [scene.bytes(100) for _ in range(10)]
    for content in contents:
        sender.data([content], 100).result()
    wait_until(lambda: sender.sent.acknowledged > 0 and len(scene.stand_in.arrived) == 10)
    sender.data([contents[0]], 100)
    sender.close()
    assert len(scene.stand_in.arrived) == 10
    assert sum(map(len, scene.stand_in.questions)) == 11


def test_what_the_appliance_has_is_not_sent(scene: Scene) -> None:
    contents = [scene.bytes(500) for _ in range(40)]
    first = scene.sender()
    for content in contents[:20]:
        first.data([content], 500)
    first.close()
    second = scene.sender()
    for content in contents:
        second.data([content], 500)
    second.close()
    assert len(scene.stand_in.arrived) == 40
    assert second.sent.new_bytes == 20 * 500


def test_the_appliance_is_asked_whether_chunks_are_live(scene: Scene) -> None:
    sender = scene.sender()
    there = sender.data([b"there"], 5).result()
    wait_until(lambda: there.raw in scene.stand_in.records)
    assert sender.is_live(there).result()
    assert not sender.is_live(ChunkId(bytes(32))).result()
    sender.close()


def test_small_records_travel_together_and_large_ones_alone(scene: Scene) -> None:
    release = threading.Event()
    scene.stand_in.on_message = lambda number: None if number > 1 else _wait_for(release)
    sender = scene.sender()
    for size in [100] * 50 + [3 * MIB, 4 * MIB] + [600 * KIB] * 3:
        sender.data([scene.bytes(size)], size)
    release.set()
    sender.close()
    sizes = scene.stand_in.message_sizes
    assert sum(map(len, sizes)) == 55
    assert max(map(sum, sizes)) <= sender_module.MESSAGE_MAX
    assert len(sizes) < 20


def _wait_for(event: threading.Event) -> None:
    assert event.wait(30)


class _Watched(ByteGate):
    """A gate that remembers how much was ever inside, and whether that was one alone."""

    newest: ClassVar[_Watched]

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.most = 0
        self.most_together = 0
        self._inside: list[int] = []
        _Watched.newest = self

    @property
    def held(self) -> int:
        return self._held

    def enter(self, size: int) -> None:
        super().enter(size)
        with self._changed:
            self._inside.append(size)
            self.most = max(self.most, self._held)
            if len(self._inside) > 1:
                self.most_together = max(self.most_together, self._held)

    def leave(self, size: int) -> None:
        with self._changed:
            self._inside.remove(size)
            super().leave(size)


@pytest.mark.parametrize("seed", range(4))
def test_no_more_bytes_are_in_flight_than_allowed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    limit = 256 * KIB
    monkeypatch.setattr(sender_module, "IN_FLIGHT_BYTES", limit)
    monkeypatch.setattr(sender_module, "ByteGate", _Watched)
    scene.random.seed(seed)
    sender = scene.sender(3)
    gate = _Watched.newest
    for _ in range(40):
        size = scene.random.choice((100, 5000, 60_000, limit - 1, limit + 50_000))
        sender.data([scene.bytes(size)], size)
    sender.close()
    assert gate.most_together <= limit
    assert gate.most == limit + 50_000, "a chunk above the limit goes through, and alone"
    assert gate.held == 0


def test_whoever_submits_waits_while_the_appliance_does_not_take_anything(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "IN_FLIGHT_BYTES", 16 * MIB)
    release = threading.Event()
    scene.stand_in.on_message = lambda _number: _wait_for(release)
    submitted: list[int] = []

    def submit() -> None:
        sender = scene.sender()
        for number in range(48):
            sender.data([scene.bytes(MIB)], MIB)
            submitted.append(number)
        sender.close()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(submit)
        wait_until(lambda: len(submitted) >= 16)
        # gRPC holds a few messages as well; everything else waits at the gate.
        assert len(submitted) < 40
        assert not done.done()
        release.set()
        done.result(30)
    assert len(scene.stand_in.records) == 48


class _Plain(bytearray):
    """A buffer that can be watched."""


def test_plaintext_is_let_go_once_it_has_been_sent(scene: Scene) -> None:
    sender = scene.sender()
    plain = _Plain(scene.bytes(100_000))
    watched = weakref.ref(plain)
    sender.data([plain], len(plain)).result()
    del plain
    wait_until(lambda: sender.sent.acknowledged == 1 and (gc.collect(), watched())[1] is None)
    sender.close()


def submit_all(sender: Sender, contents: Sequence[bytes]) -> None:
    for content in contents:
        sender.data([content], len(content))
    sender.close()


FAILURES = [LeaseEnded("gone"), Unavailable("away"), Invalid("malformed")]


def submit_until_it_fails(scene: Scene, sender: Sender) -> None:
    for number in range(100_000):
        chunk = sender.data([scene.bytes(1000)], 1000)
        if number % 10 == 0:
            sender.node(node_of([chunk.result()], b"%d" % number))
    sender.close()


@pytest.mark.parametrize(
    ("error", "at"), [(FAILURES[0], 1), (FAILURES[0], 3), (FAILURES[1], 2), (FAILURES[2], 2)]
)
def test_a_failure_to_ask_reaches_the_caller_and_ends_all_threads(
    scene: Scene, error: BackitError, at: int
) -> None:
    # What is out of reach is asked again by gRPC, so it has to stay so.
    scene.stand_in.on_find = lambda number: _raise(error) if number >= at else None
    sender = scene.sender()
    with pytest.raises(type(error), match=str(error)):
        submit_until_it_fails(scene, sender)
    sender.abort()
    wait_until(lambda: not threads())
    with pytest.raises(type(error)):
        sender.check()


def _raise(error: BackitError) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "at"), [(NoSpace("full"), 1), (FAILURES[1], 5), (FAILURES[2], 3)]
)
def test_a_broken_upload_reaches_the_caller_and_ends_all_threads(
    scene: Scene, error: BackitError, at: int
) -> None:
    scene.stand_in.on_message = failing_at(at, error)
    sender = scene.sender()
    with pytest.raises(type(error), match=str(error)):
        submit_until_it_fails(scene, sender)
    sender.abort()
    wait_until(lambda: not threads())


def test_references_that_are_missing_are_named(scene: Scene) -> None:
    missing = ChunkId(b"m" * 32)
    scene.stand_in.on_end = failing_at(1, ReferencesMissing("lost", [missing]))
    sender = scene.sender()
    sender.data([b"x"], 1)
    with pytest.raises(ReferencesMissing) as caught:
        sender.close()
    assert caught.value.missing == (missing,)


def test_a_failure_in_a_worker_reaches_the_caller(scene: Scene) -> None:
    sender = scene.sender()
    chunk = sender.data([bytes(4 * MIB + 1)], 4 * MIB + 1)
    with pytest.raises(Invalid, match="are more than"):
        sender.close()
    assert chunk.result(), "it had a name before it could not be sealed"
    with pytest.raises(Invalid, match="are more than"):
        sender.data([b"x"], 1)


def test_sealing_is_nicer_than_all_else_and_the_rest_stays_as_it_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def seal(*args: Any, **kwargs: Any) -> bytes:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return bytes(seal_record(*args, **kwargs))

    seal_record = record.seal_record
    monkeypatch.setattr(record, "seal_record", seal)
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    sender = scene.sender()
    sender.data([b"some bytes"], 10)
    sender.close()
    assert found == [min(before + sender_module.SEALING_NICENESS, 19)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_a_sandbox_that_allows_no_niceness_does_no_harm(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_by: int) -> int:
        raise PermissionError("not allowed")

    monkeypatch.setattr(os, "nice", refuse)
    sender = scene.sender()
    chunk = sender.data([b"some bytes"], 10)
    sender.close()
    assert opened(scene, chunk.result()) == b"some bytes"


def test_nobody_waits_for_ever_for_an_answer_that_never_comes(scene: Scene) -> None:
    scene.stand_in.on_find = lambda _number: _raise(LeaseEnded("gone"))
    sender = scene.sender()
    answers = [sender.is_live(ChunkId(bytes([number]) * 32)) for number in range(20)]
    for answer in answers:
        with pytest.raises(LeaseEnded):
            answer.result(30)
    with pytest.raises(LeaseEnded):
        sender.is_live(ChunkId(bytes(32))).result(30)
    with pytest.raises(LeaseEnded):
        sender.close()


def test_an_upload_that_the_appliance_ends_too_soon_is_a_failure(scene: Scene) -> None:
    scene.stand_in.ends_after = 2
    sender = scene.sender()
    with pytest.raises(Unavailable, match="ended the upload before it had everything"):
        submit_until_it_fails(scene, sender)
    sender.abort()


@pytest.mark.parametrize("silent_after", [0, 1])
def test_what_was_not_acknowledged_is_not_believed(scene: Scene, silent_after: int) -> None:
    scene.stand_in.silent_after = silent_after
    sender = scene.sender()
    sender.data([b"x"], 1).result()
    wait_until(lambda: len(scene.stand_in.arrived) == 1)
    sender.data([b"y"], 1)
    with pytest.raises(Internal, match=f"{silent_after} of 2 messages acknowledged"):
        sender.close()


@pytest.mark.parametrize("count", [0, 1, 5, 60])
def test_aborting_leaves_no_thread_behind(scene: Scene, count: int) -> None:
    sender = scene.sender()
    for _ in range(count):
        sender.data([scene.bytes(50_000)], 50_000)
    sender.abort()
    wait_until(lambda: not threads())
    sender.abort()
    with pytest.raises(Unavailable, match="given up"):
        sender.data([b"x"], 1)


def test_aborting_does_not_wait_for_an_appliance_that_takes_nothing(scene: Scene) -> None:
    release = threading.Event()
    scene.stand_in.on_message = lambda _number: _wait_for(release)
    sender = scene.sender()
    for _ in range(30):
        sender.data([scene.bytes(MIB)], MIB)
    sender.abort()
    wait_until(lambda: not threads())
    release.set()


def test_an_interrupt_ends_the_wait_for_room(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "IN_FLIGHT_BYTES", 4 * MIB)
    monkeypatch.setattr(sender_module, "ByteGate", _Watched)
    release = threading.Event()
    with interrupts() as interrupt:

        def block(_number: int) -> None:
            wait_until(lambda: _Watched.newest.held >= 4 * MIB)
            interrupt()
            _wait_for(release)

        scene.stand_in.on_message = block
        sender = scene.sender()
        with pytest.raises(KeyboardInterrupt):
            submit_all(sender, [scene.bytes(MIB) for _ in range(20)])
        sender.abort()
    wait_until(lambda: not threads())
    release.set()


def test_an_interrupt_ends_the_wait_for_the_last_acknowledgement(scene: Scene) -> None:
    release = threading.Event()
    with interrupts() as interrupt:

        def block(_number: int) -> None:
            interrupt()
            _wait_for(release)

        scene.stand_in.on_end = block
        sender = scene.sender()
        sender.data([b"x"], 1)
        with pytest.raises(KeyboardInterrupt):
            sender.close()
        sender.abort()
    wait_until(lambda: not threads())
    release.set()


@pytest.mark.parametrize("broken_at", [1, 4, 9])
def test_after_a_broken_upload_only_the_rest_is_sent(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, broken_at: int
) -> None:
    monkeypatch.setattr(sender_module, "MESSAGE_MAX", 500 * KIB)
    contents = [scene.bytes(400 * KIB) for _ in range(12)]
    scene.stand_in.on_message = failing_at(broken_at, Unavailable("the connection broke"))
    first = scene.sender()
    with pytest.raises(Unavailable):
        submit_all(first, contents)
    first.abort()
    arrived = len(scene.stand_in.arrived)
    assert arrived == broken_at - 1
    scene.stand_in.on_message = lambda _number: None
    second = scene.sender()
    chunks = [second.data([content], len(content)) for content in contents]
    second.close()
    assert len(scene.stand_in.arrived) == 12
    assert second.sent.new_bytes == (12 - arrived) * 400 * KIB
    assert [opened(scene, chunk.result()) for chunk in chunks] == contents


def test_a_lease_is_kept_alive_while_there_is_nothing_to_ask(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "RENEW_SECONDS", 0.001)
    sender = scene.sender()
    wait_until(lambda: scene.stand_in.renewals >= 3)
    sender.close()


def test_signs_of_life_come_well_before_another_run_may_take_over() -> None:
    from backitd.store.leases import NOTE_SECONDS
    from backitd.store.values import StoreSettings

    silence = 2 * sender_module.RENEW_SECONDS + NOTE_SECONDS
    assert silence < StoreSettings().takeover_seconds


@pytest.mark.parametrize("seed", range(3))
def test_the_bytes_sent_are_counted_right_whatever_the_threads_do(scene: Scene, seed: int) -> None:
    scene.random.seed(seed)
    with restless_threads():
        sender = scene.sender(8)
        sizes = [scene.random.randrange(1, 300) for _ in range(600)]
        for number, size in enumerate(sizes):
            sender.data([b"%8d" % number, scene.bytes(size)], size + 8)
        sender.close()
    assert sender.sent.new_bytes == sum(sizes) + 8 * len(sizes)


def test_a_thread_that_cannot_be_started_leaves_no_other_behind(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError(f"can't start {thread.name}")

    class Refusing(threading.Thread):
        def start(self) -> None:
            refuse(self) if self.name == "_receive" else super().start()

    monkeypatch.setattr(threading, "Thread", Refusing)
    with pytest.raises(RuntimeError, match="can't start _receive"):
        scene.sender()
    monkeypatch.undo()
    wait_until(lambda: not threads())
