"""How the records of one upload become packs: what is checked, dropped, and when one is full.

Two packs are open at a time, data and nodes. No threads: `uploads` calls from one of its own and
passes on what is filled. The index is only asked here; what a pack may rely on is decided when it
is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.errors import RecordInvalid
from backit.format import record
from backit.format.magic import Kind
from backit.ids import SessionId
from backitd.store.packs import SALT_BYTES, PackWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backit.crypto.primitives import Buffer
    from backit.format.record import Header
    from backitd.store.parts import Parts
    from backitd.store.values import Lease


# A pack ends at these numbers, too: what has to be remembered of an open one is bounded.
MOST_RECORDS = 16_384
MOST_REFERENCES = 262_144


class OpenPack:
    """A pack that is being filled, and what the index will have to know of it."""

    def __init__(self, writer: PackWriter, message: int, now: float) -> None:
        self.writer = writer
        # Number of the first message with a record in it, and when that came (monotonic).
        self.first = message
        self.begun = now
        # Bytes that count against the quota while it is on its way.
        self.counted = 0
        self.ids: set[bytes] = set()
        # What its nodes use and it did not hold when they came.
        self.references: set[bytes] = set()

    def append(self, records: Sequence[tuple[Header, Buffer]]) -> None:
        for header, encoded in records:
            if header.kind is Kind.NODE:
                used = {chunk.raw for chunk in record.references(encoded, header)}
                self.references |= used - self.ids
            self.ids.add(header.chunk.raw)
        self.writer.append(records)

    def is_full(self, target: int) -> bool:
        return (
            self.writer.size >= target
            or len(self.ids) >= MOST_RECORDS
            or len(self.references) >= MOST_REFERENCES
        )


@dataclass(frozen=True, slots=True)
class Filled:
    """A pack to be made durable; then all messages up to `covered` are. No pack: they are."""

    pack: OpenPack | None
    covered: int

    def discard(self) -> None:
        """Nobody will make it durable."""
        if self.pack is not None:
            self.pack.writer.discard()


class Packing:
    """The open packs of one upload. For one thread."""

    def __init__(self, parts: Parts, lease: Lease) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._clock = parts.clock
        self._lease = lease
        self._open: dict[Kind, OpenPack] = {}
        # Ids in packs that are open, or filled and not accepted yet.
        self._pending: set[bytes] = set()
        # Those same packs: what they count against the quota.
        self._unaccepted: set[OpenPack] = set()
        self._done = 0
        self._touched = parts.clock.monotonic()

    def add(self, message: int, records: Sequence[Buffer]) -> list[Filled]:
        """Take one message.

        Raises RecordInvalid, Unsupported, QuotaExceeded, NoSpace or Internal.
        """
        headers = [(self._check(encoded), encoded) for encoded in records]
        new = self._without_known(headers)
        for kind in Kind:
            mine = [(header, encoded) for header, encoded in new if header.kind is kind]
            if mine:
                self._append(kind, mine, message)
        self._done = message
        self._touched = self._clock.monotonic()
        return self._close_full() or self._nothing_open()

    def seconds_left(self) -> float | None:
        """Until close_due has something to do; None if nothing is open."""
        now = self._clock.monotonic()
        return min((max(0.0, self._due(p) - now) for p in self._open.values()), default=None)

    def close_due(self) -> list[Filled]:
        """Packs that have been open for too long, or all if nothing has come for a while."""
        now = self._clock.monotonic()
        due = [kind for kind, pack in self._open.items() if self._due(pack) <= now]
        return self._close(due)

    def close_all(self) -> list[Filled]:
        return self._close(list(self._open)) or self._nothing_open()

    def forget(self, pack: OpenPack) -> None:
        """The pack is accepted: the index knows its ids now. From any thread."""
        # One call into C each, so no other thread sees half of it.
        self._pending.difference_update(pack.ids)
        self._unaccepted.discard(pack)

    def discard(self) -> None:
        """Throw away what is open, when nothing that was filled is on its way any more."""
        for pack in self._open.values():
            pack.writer.discard()
        self._open.clear()
        while self._unaccepted:
            self._parts.quota.give_up(self._lease.account, self._unaccepted.pop().counted)

    def _check(self, encoded: Buffer) -> Header:
        """The record says of itself what this lease allows. Its own hash is checked as well."""
        header = record.parse(encoded)
        lease = self._lease
        if header.domain != lease.domain:
            raise RecordInvalid(f"record {header.chunk}: it is of domain {header.domain}")
        if header.session != SessionId(lease.session.subject):
            raise RecordInvalid(f"record {header.chunk}: it is of session {header.session}")
        return header

    def _without_known(
        self, headers: Iterable[tuple[Header, Buffer]]
    ) -> list[tuple[Header, Buffer]]:
        """Each id once, and none that is live or on its way already."""
        new: dict[bytes, tuple[Header, Buffer]] = {}
        for header, encoded in headers:
            if header.chunk.raw not in self._pending:
                new.setdefault(header.chunk.raw, (header, encoded))
        for known in self._parts.index.live(self._lease.domain, list(new)):
            del new[known]
        return list(new.values())

    def _append(self, kind: Kind, records: Sequence[tuple[Header, Buffer]], message: int) -> None:
        now = self._clock.monotonic()
        size = sum(len(encoded) for _header, encoded in records)
        self._parts.quota.take(self._lease.account, size)
        try:
            pack = self._open.get(kind) or self._begin(kind, message, now)
        except BaseException:
            self._parts.quota.give_up(self._lease.account, size)
            raise
        pack.counted += size
        pack.append(records)
        self._pending.update(header.chunk.raw for header, _encoded in records)

    def _begin(self, kind: Kind, message: int, now: float) -> OpenPack:
        target = self._settings.pack_bytes
        self._parts.space.require(target)
        salt = self._parts.random(SALT_BYTES)
        writer = PackWriter(self._parts.packs, self._lease.account, kind, salt, target=target)
        pack = self._open[kind] = OpenPack(writer, message, now)
        self._unaccepted.add(pack)
        return pack

    def _due(self, pack: OpenPack) -> float:
        settings = self._settings
        return min(self._touched + settings.idle_seconds, pack.begun + settings.age_seconds)

    def _close_full(self) -> list[Filled]:
        target = self._settings.pack_bytes
        return self._close([kind for kind, pack in self._open.items() if pack.is_full(target)])

    def _close(self, kinds: Sequence[Kind]) -> list[Filled]:
        """Data before nodes, and nodes never alone: what they use must be accepted before them."""
        closing = list(Kind) if Kind.NODE in kinds else kinds
        for kind in closing:
            if kind in self._open:
                self._open[kind].writer.finish([self._lease.session.encoded])
        filled: list[Filled] = []
        for kind in closing:
            pack = self._open.pop(kind, None)
            if pack is not None:
                filled.append(Filled(pack, self._covered()))
        return filled

    def _nothing_open(self) -> list[Filled]:
        """A message of which nothing had to be kept waits for nothing but the packs before it."""
        return [] if self._open else [Filled(None, self._done)]

    def _covered(self) -> int:
        """Every message before the first one that is still open somewhere."""
        return min((pack.first - 1 for pack in self._open.values()), default=self._done)
