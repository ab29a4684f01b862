"""Fetches chunks and opens them, for whoever holds the keys: restore, mount, ls, diff, check.

Every plaintext that leaves here has been opened with the key of its session and has the id that was
asked for. What cannot be had, or is not what it should be, comes as an error for that one chunk.
Safe to share between threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from backit.engine.extents import extents_of
from backit.errors import BackitError, Damaged, Invalid, NotFound
from backit.format import node, record, statement
from backit.format.magic import MIB, Kind
from backit.ids import ChunkId, SessionId
from backit.v1 import chunks_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backit.client.remote import Appliance
    from backit.client.vaults import Keyring
    from backit.crypto.keys import DomainKeys
    from backit.crypto.primitives import Buffer
    from backit.engine.walk import Found
    from backit.format.node import Node
    from backit.format.record import Plain

# Ids in one Download, and opened records kept ready ahead of whoever takes them.
IDS_AT_ONCE = 1024
AHEAD = 8
NODE_CACHE_BYTES = 32 * MIB

Fetched = tuple[ChunkId, "Plain | BackitError"]


class ChunkReader:
    """Reads the chunks of one domain."""

    def __init__(
        self, appliance: Appliance, keyring: Keyring, domain: DomainKeys, *, workers: int = 2
    ) -> None:
        self._appliance = appliance
        self._keyring = keyring
        self._domain = domain
        self._sessions: dict[SessionId, bytes] = {}
        self._sessions_lock = threading.Lock()
        self._nodes = _NodeCache(NODE_CACHE_BYTES)
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="open")

    def close(self) -> None:
        self._workers.shutdown(wait=True, cancel_futures=True)

    def fetch(self, chunks: Sequence[ChunkId]) -> Iterator[Fetched]:
        """Each chunk once, in the order in which they lie on the appliance's disk."""
        for start in range(0, len(chunks), IDS_AT_ONCE):
            yield from self._fetch(chunks[start : start + IDS_AT_ONCE])

    def chunks(self, ids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, Buffer | BackitError]]:
        """The plaintexts of data chunks; see fetch."""
        for chunk, plain in self.fetch(ids):
            if isinstance(plain, BackitError):
                yield chunk, plain
            elif plain.kind is not Kind.DATA:
                yield chunk, Damaged(f"chunk {chunk}: a node where data should be")
            else:
                yield chunk, plain.plaintext

    def load(self, ids: Sequence[ChunkId]) -> Iterator[Node]:
        """Decoded nodes in the order asked for (backit.engine.walk.Load). Raises Damaged or
        NotFound.
        """
        found = {chunk: cached for chunk in ids if (cached := self._nodes.get(chunk)) is not None}
        wanted = [chunk for chunk in dict.fromkeys(ids) if chunk not in found]
        for chunk, plain in self.fetch(wanted):
            if isinstance(plain, BackitError):
                raise plain
            found[chunk] = node.decode(plain, chunk)
            self._nodes.put(chunk, found[chunk], len(plain.plaintext))
        for chunk in ids:
            if chunk not in found:
                raise NotFound(f"node {chunk}: the appliance gave no answer")
            yield found[chunk]

    def content(self, found: Found) -> Iterator[bytes]:
        """A file's bytes from start to end, holes as zeros. Raises Damaged or NotFound."""
        at = 0
        holes = deque((hole.offset, hole.length) for hole in found.entry.holes)
        for extent in extents_of(found.entry, found.leaf, self.load):
            while holes and holes[0][0] == at:
                _offset, length = holes.popleft()
                yield from _zeros(length)
                at += length
            ((_chunk, data),) = self.chunks([extent.chunk])
            if isinstance(data, BackitError):
                raise data
            view = memoryview(data)[extent.offset : extent.offset + extent.length]
            if len(view) != extent.length:
                raise Damaged(f"chunk {extent.chunk}: it is shorter than an extent says")
            while len(view):
                piece = view if not holes else view[: holes[0][0] - at]
                yield bytes(piece)
                at += len(piece)
                view = view[len(piece) :]
                while len(view) and holes and holes[0][0] == at:
                    _offset, length = holes.popleft()
                    yield from _zeros(length)
                    at += length
        for _offset, length in holes:
            yield from _zeros(length)

    def _fetch(self, chunks: Sequence[ChunkId]) -> Iterator[Fetched]:
        if not chunks:
            return
        request = chunks_pb2.DownloadRequest(
            domain_id=self._domain.domain.raw, chunk_ids=[chunk.raw for chunk in chunks]
        )
        waiting: deque[tuple[ChunkId, Future[Plain | BackitError]]] = deque()
        unanswered = {chunk.raw: chunk for chunk in chunks}
        call = self._appliance.chunks.Download(request)
        try:
            for response in call:
                chunk = unanswered.pop(response.chunk_id, None)
                if chunk is None:
                    continue  # nobody has asked for it
                if response.state != chunks_pb2.DownloadResponse.STATE_UNSPECIFIED:
                    yield chunk, _absence(chunk, response.state)
                    continue
                if len(chunks) == 1:
                    # Nothing to do meanwhile: to wake another thread would only take time.
                    yield chunk, self._opened(chunk, response.record)
                    continue
                waiting.append((chunk, self._workers.submit(self._opened, chunk, response.record)))
                if len(waiting) >= AHEAD:
                    chunk, opened = waiting.popleft()
                    yield chunk, opened.result()
        finally:
            call.cancel()  # whoever stops listening must not keep the appliance sending
        while waiting:
            chunk, opened = waiting.popleft()
            yield chunk, opened.result()
        for chunk in unanswered.values():
            yield chunk, NotFound(f"chunk {chunk}: the appliance gave no answer")

    def _opened(self, chunk: ChunkId, sealed: Buffer) -> Plain | BackitError:
        try:
            return self._open(chunk, sealed)
        except BackitError as error:
            return error

    def _open(self, chunk: ChunkId, sealed: Buffer) -> Plain:
        """Raises Damaged, naming the chunk, or what kept its session's key away."""
        try:
            session = record.parse_header(sealed).session
            if session not in self._sessions:
                record.parse(sealed)  # a damaged record must not be blamed on its session
        except Invalid as error:
            raise Damaged(f"chunk {chunk}: {error}") from None
        return record.open_record(sealed, chunk, self._session_key(session), self._domain)

    def _session_key(self, session: SessionId) -> bytes:
        with self._sessions_lock:
            key = self._sessions.get(session)
            if key is None:
                request = chunks_pb2.GetSessionsRequest(session_ids=[session.raw])
                found = self._appliance.chunks.GetSessions(request).sessions
                if not found:
                    raise Damaged(f"session {session}: the appliance has lost its key packet")
                key = self._sessions[session] = self._open_packet(session, found[0])
            return key

    def _open_packet(self, session: SessionId, encoded: bytes) -> bytes:
        try:
            packet = statement.parse(encoded)
        except Invalid as error:
            raise Damaged(f"session {session}: its key packet: {error}") from None
        if packet.subject != session.raw:
            raise Damaged(f"session {session}: the appliance gave another session's key packet")
        return self._keyring.session_key(packet)


class _NodeCache:
    """The nodes used last, up to so many bytes of plaintext."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._nodes: OrderedDict[ChunkId, tuple[Node, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, chunk: ChunkId) -> Node | None:
        with self._lock:
            if chunk not in self._nodes:
                return None
            self._nodes.move_to_end(chunk)
            return self._nodes[chunk][0]

    def put(self, chunk: ChunkId, found: Node, size: int) -> None:
        with self._lock:
            if chunk in self._nodes:
                return
            self._nodes[chunk] = (found, size)
            self._held += size
            while self._held > self._limit:
                _chunk, (_node, dropped) = self._nodes.popitem(last=False)
                self._held -= dropped


def _absence(chunk: ChunkId, state: chunks_pb2.DownloadResponse.State.ValueType) -> BackitError:
    if state == chunks_pb2.DownloadResponse.STATE_DAMAGED:
        return Damaged(f"chunk {chunk}: its record is damaged on the appliance")
    return NotFound(f"chunk {chunk}: the appliance does not have it")


def _zeros(length: int) -> Iterator[bytes]:
    for start in range(0, length, MIB):
        yield bytes(min(MIB, length - start))
