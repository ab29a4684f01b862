"""Packs: many records in one file, and the directory at its end (FORMAT.md section 8).

Bytes in, values out. Who writes the file, and when it is safe, is the store's business.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import Damaged, Unsupported
from backit.format import record, statement
from backit.format.magic import (
    PACK_END_MAGIC,
    PACK_LIMIT,
    PACK_MAGIC,
    RECORD_LIMIT,
    STATEMENT_LIMIT,
    VERSION,
    Kind,
)
from backit.ids import AccountId, ChunkId, DomainId, PackName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEAD = struct.Struct("<4sBBH16s16s")
COUNT = struct.Struct("<I")
PLACE = struct.Struct("<32s16sII")
FOOT = struct.Struct("<II32s4s")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies in its pack."""

    chunk: ChunkId
    domain: DomainId
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Directory:
    """What a pack says of its content."""

    account: AccountId
    kind: Kind
    sessions: tuple[bytes, ...]
    places: tuple[Place, ...]


def encode_head(account: AccountId, kind: Kind, random: bytes) -> bytes:
    """`random`: 16 bytes that make equal packs differ."""
    return HEAD.pack(PACK_MAGIC, VERSION, kind, 0, account.raw, random)


def encode_end(sessions: Sequence[bytes], places: Sequence[Place], offset: int) -> bytes:
    """Directory and foot, to be written at `offset`, behind the last record."""
    parts = [COUNT.pack(len(sessions))]
    for session in sessions:
        parts += (COUNT.pack(len(session)), session)
    parts.append(COUNT.pack(len(places)))
    parts += (PLACE.pack(p.chunk.raw, p.domain.raw, p.offset, p.length) for p in places)
    directory = b"".join(parts)
    foot = FOOT.pack(offset, len(directory), primitives.digest(directory), PACK_END_MAGIC)
    return directory + foot


class Naming:
    """The name of a pack while it is written, part after part."""

    def __init__(self, head: bytes) -> None:
        self._hasher = primitives.hasher()
        self._hasher.update(head)

    def add(self, encoded: primitives.Buffer) -> None:
        """The next record, whole: its hash stands for it."""
        self._hasher.update(memoryview(encoded)[-primitives.HASH_BYTES :])

    def finish(self, end: bytes) -> PackName:
        """Directory and foot, as encode_end makes them."""
        self._hasher.update(end)
        return PackName(self._hasher.digest())


def directory_range(foot: bytes, size: int) -> tuple[int, int]:
    """Offset and length of the directory, from the last FOOT.size bytes of a pack of `size` bytes.

    Raises Damaged.
    """
    offset, length, _hash = _parse_foot(foot)
    if size > PACK_LIMIT or offset < HEAD.size or offset + length + FOOT.size != size:
        raise Damaged(f"a pack of {size} bytes with a directory of {length} at {offset}")
    return offset, length


def parse_directory(head: bytes, directory: bytes, foot: bytes) -> Directory:
    """Raises Damaged or Unsupported; the places fill what is between head and directory exactly.

    What the session statements and the records say is left to whoever reads those.
    """
    account, kind = _parse_head(head)
    offset, length, expected = _parse_foot(foot)
    if len(directory) != length or primitives.digest(directory) != expected:
        raise Damaged("the pack's directory does not have the hash in its foot")
    reader = _Reader(directory)
    sessions = tuple(reader.take(_session_bytes(reader)) for _ in range(reader.count()))
    places = tuple(_places(reader, offset))
    reader.finish()
    if len({place.chunk.raw for place in places}) != len(places):
        raise Damaged("the pack's directory names a chunk twice")
    return Directory(account, kind, sessions, places)


def _parse_head(head: bytes) -> tuple[AccountId, Kind]:
    if len(head) != HEAD.size:
        raise Damaged(f"the pack's head has {len(head)} bytes")
    magic, version, kind, zero, account, _random = HEAD.unpack(head)
    if magic != PACK_MAGIC:
        raise Damaged("not a pack: wrong magic number")
    if version != VERSION:
        raise Unsupported(f"pack of version {version}; this program knows {VERSION}")
    if zero or kind not in set(Kind):
        raise Damaged(f"a pack of kind {kind}, reserved field {zero}")
    return AccountId(account), Kind(kind)


def _parse_foot(foot: bytes) -> tuple[int, int, bytes]:
    """Offset, length and hash of the directory."""
    if len(foot) != FOOT.size:
        raise Damaged(f"the pack's foot has {len(foot)} bytes")
    offset, length, expected, magic = FOOT.unpack(foot)
    if magic != PACK_END_MAGIC:
        raise Damaged("the pack's end is missing")
    return offset, length, expected


def _session_bytes(reader: _Reader) -> int:
    length = reader.count()
    if not statement.BYTES_MIN <= length <= STATEMENT_LIMIT:
        raise Damaged(f"the pack's directory has a session statement of {length} bytes")
    return length


def _places(reader: _Reader, end: int) -> Iterator[Place]:
    """Each record begins where the one before ended, and the last ends at `end`."""
    at = HEAD.size
    for _ in range(reader.count()):
        chunk, domain, offset, length = PLACE.unpack(reader.take(PLACE.size))
        if offset != at or not record.BYTES_MIN <= length <= RECORD_LIMIT:
            raise Damaged(f"the pack's directory places chunk {chunk.hex()} where it cannot be")
        at += length
        yield Place(ChunkId(chunk), DomainId(domain), offset, length)
    if at != end:
        raise Damaged(f"the pack's records end at {at}, its directory begins at {end}")


class _Reader:
    """Takes bytes from the front and never beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        if self._at + length > len(self._data):
            raise Damaged("the pack's directory ends too early")
        self._at += length
        return self._data[self._at - length : self._at]

    def count(self) -> int:
        (number,) = COUNT.unpack(self.take(COUNT.size))
        return int(number)

    def finish(self) -> None:
        if self._at != len(self._data):
            raise Damaged("the pack's directory has bytes left over")
