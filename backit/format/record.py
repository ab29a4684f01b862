"""Records: one sealed chunk each (FORMAT.md section 5).

Two readers: `parse` is for whoever stores records and holds no key (form, lengths, hash);
`open_record` is for whoever holds the session key, and returns a plaintext only if its id is the
one asked for. Hot path: large buffers are joined once and never looked at byte by byte.
"""

from __future__ import annotations

import operator
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.crypto.primitives import Suite
from backit.errors import BackitError, Damaged, Invalid, RecordInvalid, Unsupported
from backit.format import compression
from backit.format.magic import (
    PLAINTEXT_LIMIT,
    RECORD_LIMIT,
    RECORD_MAGIC,
    REFERENCES_LIMIT,
    VERSION,
    Kind,
)
from backit.format.padding import padded_length
from backit.ids import ChunkId, DomainId, SessionId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.crypto.keys import DomainKeys
    from backit.format.compression import Compressor

HEAD = struct.Struct("<4sBBBB16s32sI16s32sII")
FRAME = struct.Struct("<BII")
AS_IT_IS, ZSTD = 0, 1
ID_BYTES = 32
BYTES_MIN = HEAD.size + FRAME.size + Suite.XCHACHA20_POLY1305.tag_bytes + primitives.HASH_BYTES


@dataclass(frozen=True, slots=True)
class Header:
    """What a record says of itself in clear."""

    suite: Suite
    kind: Kind
    domain: DomainId
    chunk: ChunkId
    epoch: int
    session: SessionId
    nonce: bytes
    references: int
    length: int

    def encode(self) -> bytes:
        return HEAD.pack(
            RECORD_MAGIC,
            VERSION,
            self.suite,
            self.kind,
            0,
            self.domain.raw,
            self.chunk.raw,
            self.epoch,
            self.session.raw,
            self.nonce,
            self.references,
            self.length,
        )

    @property
    def record_bytes(self) -> int:
        """Length of the whole record."""
        return HEAD.size + self.references * ID_BYTES + self.length + primitives.HASH_BYTES


@dataclass(frozen=True, slots=True)
class Seal:
    """What seals the records of one session."""

    suite: Suite
    domain: DomainId
    epoch: int
    session: SessionId
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Plain:
    """An opened chunk."""

    kind: Kind
    references: tuple[ChunkId, ...]
    plaintext: primitives.Buffer


def data_id(keys: DomainKeys, plaintext: primitives.Buffer) -> ChunkId:
    return ChunkId(primitives.keyed_digest(keys.data_id_key, plaintext))


def node_id(
    keys: DomainKeys, references: Sequence[ChunkId], plaintext: primitives.Buffer
) -> ChunkId:
    table = b"".join(reference.raw for reference in references)
    count = struct.pack("<I", len(references))
    return ChunkId(primitives.keyed_hasher(keys.node_id_key, count, table, plaintext).digest())


def seal_record(
    seal: Seal,
    chunk: ChunkId,
    plaintext: primitives.Buffer,
    *,
    nonce: bytes,
    compressor: Compressor,
    references: Sequence[ChunkId] | None = None,
) -> bytearray:
    """Compress, pad and seal one chunk; `references` makes it a node. `nonce` is 32 random bytes.

    Raises Invalid for what no reader would take: too long, or references not ascending.
    """
    if len(plaintext) > PLAINTEXT_LIMIT:
        raise Invalid(f"chunk {chunk}: {len(plaintext)} bytes are more than {PLAINTEXT_LIMIT}")
    method, payload = _compressed(plaintext, compressor)
    frame_bytes = padded_length(FRAME.size + len(payload))
    table = b"".join(reference.raw for reference in references or ())
    if len(table) > REFERENCES_LIMIT * ID_BYTES or not _is_ascending(table):
        raise Invalid(f"chunk {chunk}: its references are too many, or not ascending")
    nonce = primitives.clear_unused(seal.suite, nonce)
    header = Header(
        suite=seal.suite,
        kind=Kind.DATA if references is None else Kind.NODE,
        domain=seal.domain,
        chunk=chunk,
        epoch=seal.epoch,
        session=seal.session,
        nonce=nonce,
        references=len(references or ()),
        length=frame_bytes + seal.suite.tag_bytes,
    )
    clear = header.encode() + table
    # One piece of memory from the frame to the record: each copy of a megabyte is dear.
    encoded = bytearray(header.record_bytes)
    start, end = len(clear), len(encoded) - primitives.HASH_BYTES
    encoded[:start] = clear
    FRAME.pack_into(encoded, start, method, len(plaintext), len(payload))
    with memoryview(encoded) as view:
        view[start + FRAME.size : start + FRAME.size + len(payload)] = payload
        primitives.seal_in_place(seal.suite, seal.key, nonce, view[start:end], clear)
        view[end:] = primitives.digest(view[:end])
    return encoded


def parse(encoded: primitives.Buffer) -> Header:
    """Check one whole record without any key. Raises RecordInvalid or Unsupported."""
    header = _parse_whole(encoded)
    view = memoryview(encoded)
    found = primitives.digest(view[: -primitives.HASH_BYTES])
    if found != bytes(view[-primitives.HASH_BYTES :]):
        raise RecordInvalid(f"record {header.chunk}: its bytes do not have the hash at its end")
    return header


def parse_header(encoded: primitives.Buffer) -> Header:
    """The header alone: form and limits. Raises RecordInvalid or Unsupported."""
    if len(encoded) < HEAD.size:
        raise RecordInvalid(f"a record of {len(encoded)} bytes")
    magic, version, suite, kind, zero, domain, chunk, epoch, session, nonce, count, length = (
        HEAD.unpack_from(encoded)
    )
    if magic != RECORD_MAGIC:
        raise RecordInvalid("not a record: wrong magic number")
    if version != VERSION:
        raise Unsupported(f"record of version {version}; this program knows {VERSION}")
    try:
        header = Header(
            Suite(suite),
            Kind(kind),
            DomainId(domain),
            ChunkId(chunk),
            epoch,
            SessionId(session),
            nonce,
            count,
            length,
        )
    except ValueError:
        raise RecordInvalid(f"record of suite {suite} and kind {kind}") from None
    if zero or nonce != primitives.clear_unused(header.suite, nonce):
        raise RecordInvalid(f"record {header.chunk}: a reserved field is not zero")
    if count > REFERENCES_LIMIT or (count and header.kind is Kind.DATA):
        raise RecordInvalid(f"record {header.chunk}: {count} references")
    if length < FRAME.size + header.suite.tag_bytes or header.record_bytes > RECORD_LIMIT:
        raise RecordInvalid(f"record {header.chunk}: a ciphertext of {length} bytes")
    return header


def references(encoded: primitives.Buffer, header: Header) -> tuple[ChunkId, ...]:
    """The reference table of a record whose header has been parsed."""
    table = _table(encoded, header)
    return tuple(ChunkId(table[i : i + ID_BYTES]) for i in range(0, len(table), ID_BYTES))


def open_record(encoded: primitives.Buffer, wanted: ChunkId, key: bytes, keys: DomainKeys) -> Plain:
    """The plaintext of the chunk `wanted`, never of another.

    Raises Damaged, naming the chunk, whatever was wrong; Unsupported for another version.
    """
    try:
        header = _parse_whole(encoded)
    except RecordInvalid as error:
        raise Damaged(f"chunk {wanted}: {error}") from None
    if header.chunk != wanted or header.domain != keys.domain:
        raise Damaged(
            f"chunk {wanted}: the record is of chunk {header.chunk} and domain {header.domain}"
        )
    view = memoryview(encoded)
    start = HEAD.size + header.references * ID_BYTES
    clear, ciphertext = bytes(view[:start]), view[start : -primitives.HASH_BYTES]
    try:
        frame = primitives.unseal_into(header.suite, key, header.nonce, ciphertext, clear)
        plaintext = _unframe(frame)
    except Damaged as error:
        raise Damaged(f"chunk {wanted}: {_cause(encoded, error)}") from None
    table = references(encoded, header)
    is_node = header.kind is Kind.NODE
    found = node_id(keys, table, plaintext) if is_node else data_id(keys, plaintext)
    if not primitives.equal(found.raw, wanted.raw):
        raise Damaged(f"chunk {wanted}: the content is that of another chunk")
    return Plain(header.kind, table, plaintext)


def _parse_whole(encoded: primitives.Buffer) -> Header:
    """All but the hash at its end: whoever has the key checks the tag, over the same bytes."""
    header = parse_header(encoded)
    if header.record_bytes != len(encoded):
        raise RecordInvalid(
            f"record {header.chunk}: {len(encoded)} bytes, but it says {header.record_bytes}"
        )
    if header.references and not _is_ascending(_table(encoded, header)):
        raise RecordInvalid(f"record {header.chunk}: its reference table is not ascending")
    return header


def _cause(encoded: primitives.Buffer, found: Damaged) -> BackitError:
    """Why a record does not open: were its bytes changed, or were they sealed like that?"""
    try:
        parse(encoded)
    except RecordInvalid as error:
        return error
    return found


def _table(encoded: primitives.Buffer, header: Header) -> bytes:
    return bytes(memoryview(encoded)[HEAD.size : HEAD.size + header.references * ID_BYTES])


def _is_ascending(table: bytes) -> bool:
    ids = [table[i : i + ID_BYTES] for i in range(0, len(table), ID_BYTES)]
    return all(map(operator.lt, ids, ids[1:]))


def _compressed(
    plaintext: primitives.Buffer, compressor: Compressor
) -> tuple[int, primitives.Buffer]:
    """Method and payload: compressed, if that helps."""
    compressed = compressor.compress(plaintext)
    if compressed is not None and len(compressed) < len(plaintext):
        return ZSTD, compressed
    return AS_IT_IS, plaintext


def _unframe(frame: bytearray) -> primitives.Buffer:
    method, plain_length, length = FRAME.unpack_from(frame)
    end = FRAME.size + length
    if plain_length > PLAINTEXT_LIMIT or end > len(frame) or padded_length(end) != len(frame):
        raise Damaged("the frame's lengths are wrong")
    if frame.count(0, end) != len(frame) - end:
        raise Damaged("the frame's padding is not zero")
    payload = memoryview(frame)[FRAME.size : end]
    if method == ZSTD:
        return compression.decompress(payload, plain_length)
    if method != AS_IT_IS or length != plain_length:
        raise Damaged(f"the frame's method {method} or length is wrong")
    return payload
