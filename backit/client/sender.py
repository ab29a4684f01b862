"""Sends chunks: names them, asks which are missing, seals those, and uploads them in order.

    data(), node() -> asker: id, FindMissing -> workers: compress, seal -> upload, in order

Order matters: a node must not reach the appliance before what it refers to. So everything submitted
joins one queue, and the upload takes from its front, however the workers finish. Memory is bounded
by the bytes of plaintext in flight. The workers spend their time in zstd, BLAKE3 and AEGIS, which
release the interpreter.

Threads here wake up seldom and then do much: each wake-up takes the interpreter away from the
thread that reads files, which on a virtual machine costs that thread up to 0.3 ms. With a wake-up
for every step of every chunk a first backup of small files took twice as long.

After the first failure every future that somebody may wait for fails with it. No decisions about
files here.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from backit.client.flow import ByteGate, Handfuls, Promises
from backit.errors import Internal, Unavailable
from backit.format import record
from backit.format.compression import Compressor
from backit.format.magic import KIB, MIB
from backit.v1 import chunks_pb2, snapshots_pb2
from backit.wire import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from backit.client.remote import Appliance
    from backit.crypto.keys import DomainKeys
    from backit.crypto.primitives import Buffer
    from backit.engine.levels import Sealable
    from backit.format.record import Seal
    from backit.ids import ChunkId
    from backit.wire import UploadMessage

IN_FLIGHT_BYTES = 32 * MIB
# Plaintext that is asked for together and shares a message, and the most that a message holds (the
# API's limit is 8 MiB).
MESSAGE_TARGET = 4 * MIB
MESSAGE_MAX = 5 * MIB
# How long what has come waits for company, and how many keep it.
GATHER_SECONDS = 0.05
HANDFUL_MAX = 1024
NODE_OVERHEAD = 4 * KIB
CLAIMED_MAX = 100_000
SEALING_NICENESS = 10
# Between two signs of life: after 60 seconds of silence another run may take the series over.
RENEW_SECONDS = 20.0

Value = TypeVar("Value")


@dataclass(slots=True)
class Sent:
    """What has been sealed and sent so far; read by others while it changes."""

    new_bytes: int = 0
    stored_bytes: int = 0
    acknowledged: int = 0


@dataclass(slots=True)
class _Chunk:
    """A chunk on its way. `record` is what to send in the end, or None if the appliance has it."""

    parts: Sequence[Buffer]
    size: int
    references: Sequence[ChunkId] | None
    record: Future[Buffer | None]
    chunk: ChunkId | None = None
    named: Future[ChunkId] | None = None
    released: Callable[[], None] | None = None

    def release(self) -> None:
        """The plaintext is needed no more."""
        self.parts = ()
        if self.released is not None:
            self.released()


@dataclass(frozen=True, slots=True)
class _Question:
    """Whether the appliance has a chunk that is not to be sent."""

    chunk: ChunkId
    answer: Future[bool]


class Sender:
    """One upload under one lease. For one thread; `close` or `abort` ends its own threads."""

    def __init__(
        self, appliance: Appliance, lease: str, seal: Seal, keys: DomainKeys, *, workers: int
    ) -> None:
        self._appliance = appliance
        self._lease = lease
        self._seal = seal
        self._keys = keys
        self._promises = Promises()
        self._gate = ByteGate(IN_FLIGHT_BYTES)
        self._local = threading.local()
        self._workers = ThreadPoolExecutor(
            workers, thread_name_prefix="seal", initializer=_stand_back
        )
        self._asked: Handfuls[_Chunk | _Question] = Handfuls(
            enough=MESSAGE_TARGET, seconds=GATHER_SECONDS, most=HANDFUL_MAX
        )
        self._outgoing: Handfuls[_Chunk] = Handfuls(
            enough=MESSAGE_TARGET, seconds=GATHER_SECONDS, most=HANDFUL_MAX
        )
        # Chunks of this run: the second time they are neither asked for nor sent. Asker only.
        self._claimed: OrderedDict[ChunkId, None] = OrderedDict()
        self._counting = threading.Lock()
        self._messages = 0
        self._all_said = False
        self.sent = Sent()
        # Fails with the first failure, for those who wait for something else; never kept.
        self.failed: Future[None] = self._promises.new()
        self._asker, self._receiver = (
            threading.Thread(target=self._guard, args=(run,), name=run.__name__, daemon=True)
            for run in (self._ask, self._receive)
        )
        # The stub's types know protobuf's own messages only.
        requests: Iterator[Any] = self._requests()
        self._call = appliance.chunks.Upload(requests)
        try:
            self._asker.start()
            self._receiver.start()
        except BaseException:
            self.abort()
            raise

    def data(
        self, parts: Sequence[Buffer], size: int, released: Callable[[], None] | None = None
    ) -> Future[ChunkId]:
        """Submit one data chunk, the parts one after another. May wait for room.

        `released` is called, in any thread, once the parts may be written over.
        """
        named: Future[ChunkId] = self._promises.new()
        record_ = self._promises.new()
        self._submit(_Chunk(parts, size, None, record_, named=named, released=released))
        return named

    def node(self, node: Sealable) -> None:
        """Submit a finished node. What it refers to must have been submitted before."""
        size = len(node.plaintext) + NODE_OVERHEAD
        record_ = self._promises.new()
        self._submit(_Chunk([node.plaintext], size, node.references, record_, chunk=node.chunk))

    def is_live(self, chunk: ChunkId) -> Future[bool]:
        """Ask whether the appliance has a chunk; it then keeps it until the lease ends."""
        answer: Future[bool] = self._promises.new()
        self._asked.put(_Question(chunk, answer))
        return answer

    def check(self) -> None:
        """Raises what has gone wrong in the background, if anything has."""
        if self._promises.failure is not None:
            raise self._promises.failure

    def close(self) -> None:
        """Everything submitted is durable when this returns. Raises what went wrong."""
        self._outgoing.close()
        self._asked.hurry()
        self._receiver.join()
        self._end_threads()
        self.check()
        if self.sent.acknowledged != self._messages:
            raise Internal(
                f"uploading: {self.sent.acknowledged} of {self._messages} messages acknowledged"
            )

    def abort(self) -> None:
        """End the threads; nothing more is sent."""
        self._fail(Unavailable("uploading: given up"))
        self._end_threads()

    def _end_threads(self) -> None:
        self._asked.close()
        for thread in (self._asker, self._receiver):
            if thread.ident is not None:  # it has been started
                thread.join()
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _submit(self, chunk: _Chunk) -> None:
        """Take the next place in the upload's order, once there is room."""
        self._gate.enter(chunk.size)
        self.check()
        self._outgoing.put(chunk, chunk.size)
        self._asked.put(chunk, chunk.size)

    def _ask(self) -> None:
        """Name and ask for what has gathered; a sign of life where nothing has."""
        while (gathered := self._asked.take(RENEW_SECONDS)) is None or gathered:
            if gathered:
                self._ask_for(gathered)
            else:
                request = snapshots_pb2.RenewLeaseRequest(name=self._lease)
                self._appliance.snapshots.RenewLease(request)

    def _ask_for(self, gathered: Sequence[_Chunk | _Question]) -> None:
        """Find out which of these are missing, and have them sealed."""
        asked: list[tuple[ChunkId, _Chunk | _Question]] = []
        for item in gathered:
            if isinstance(item, _Question):
                asked.append((item.chunk, item))
                continue
            chunk = self._name(item)
            if self._is_claimed(chunk):
                item.release()
                self._promises.keep(item.record, None)
            else:
                asked.append((chunk, item))
        if asked:
            ids = [chunk.raw for chunk, _item in asked]
            request = chunks_pb2.FindMissingRequest(lease=self._lease, chunk_ids=ids)
            missing = set(self._appliance.chunks.FindMissing(request).missing)
            for position, (chunk, item) in enumerate(asked):
                self._answer(chunk, item, is_missing=position in missing)

    def _name(self, item: _Chunk) -> ChunkId:
        if item.chunk is not None:
            return item.chunk
        if len(item.parts) > 1:
            item.parts = [b"".join(item.parts)]
        chunk = item.chunk = record.data_id(self._keys, item.parts[0])
        if item.named is not None:
            self._promises.keep(item.named, chunk)
        return chunk

    def _is_claimed(self, chunk: ChunkId) -> bool:
        """Whether this run has dealt with the chunk before; from now on it has."""
        known = chunk in self._claimed
        self._claimed[chunk] = None
        if len(self._claimed) > CLAIMED_MAX:
            self._claimed.popitem(last=False)
        return known

    def _answer(self, chunk: ChunkId, item: _Chunk | _Question, *, is_missing: bool) -> None:
        if isinstance(item, _Question):
            self._promises.keep(item.answer, not is_missing)
        elif is_missing:
            self._workers.submit(self._guard, self._seal_one, chunk, item)
        else:
            item.release()
            self._promises.keep(item.record, None)

    def _seal_one(self, chunk: ChunkId, item: _Chunk) -> None:
        compressor: Compressor | None = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = Compressor()
        plaintext = item.parts[0]
        sealed = record.seal_record(
            self._seal,
            chunk,
            plaintext,
            nonce=os.urandom(32),
            compressor=compressor,
            references=item.references,
        )
        if item.references is None:
            with self._counting:
                self.sent.new_bytes += len(plaintext)
        item.release()
        self._promises.keep(item.record, sealed)

    def _requests(self) -> Iterator[UploadMessage]:
        """The upload's messages; gRPC pulls them from a thread of its own, no faster than they
        flow.
        """
        yield chunks_pb2.UploadRequest(lease=self._lease)
        while group := self._outgoing.take():
            # The last first: when it is there, hardly any other has to be waited for.
            if any(item.record.exception() is not None for item in reversed(group)):
                return  # check() says why; whoever owns this calls abort()
            pending: list[Buffer] = []
            held = 0
            for item in group:
                sealed = item.record.result()
                self._gate.leave(item.size)
                if sealed is None:
                    continue
                if held + len(sealed) > MESSAGE_MAX:
                    yield self._message(pending, held)
                    pending, held = [], 0
                pending.append(sealed)
                held += len(sealed)
            if pending:
                yield self._message(pending, held)
        self._all_said = True

    def _message(self, records: Sequence[Buffer], size: int) -> Records:
        self._messages += 1
        self.sent.stored_bytes += size
        return Records(records)

    def _receive(self) -> None:
        for response in self._call:
            self.sent.acknowledged = response.acknowledged
        if not self._all_said:
            raise Unavailable("uploading: the appliance ended the upload before it had everything")

    def _guard(self, run: Callable[..., None], *arguments: object) -> None:
        """Run something in the background; what it raises ends the upload."""
        try:
            run(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again by check(), in the caller's thread
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._promises.fail(error)
        self._gate.open()
        self._outgoing.close()
        self._asked.close()
        self._call.cancel()


def _stand_back() -> None:
    """Let the process that reads go first: all else waits for it, and sealing has a queue to catch
    up with. Measured: two cores idle for a quarter less time.

    Niceness is a thread's own on Linux (setpriority(2)). A sandbox may refuse it, and does no harm.
    """
    with contextlib.suppress(OSError):
        os.nice(SEALING_NICENESS)
