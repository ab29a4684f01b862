"""Keys and objects that the tests of the format start from."""

from __future__ import annotations

from hypothesis import strategies as st

from backit.crypto import primitives
from backit.crypto.keys import DomainKeys
from backit.crypto.primitives import Suite
from backit.format import record
from backit.format.compression import Compressor
from backit.format.record import Seal
from backit.ids import AccountId, ChunkId, DomainId, SessionId

ACCOUNT = AccountId(b"a" * 16)
KEYS = DomainKeys(DomainId(b"d" * 16), b"s" * 32)
KEY, NONCE = b"k" * 32, b"n" * 32
COMPRESSOR = Compressor()

SUITES = st.sampled_from(Suite)


def _repeated(head: bytes, count: int) -> bytes:
    return head * count


# Bytes that do not compress, and bytes that do.
PLAINTEXTS: st.SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=300),
    st.builds(_repeated, st.binary(min_size=1, max_size=20), st.integers(0, 500)),
)
TABLES = st.one_of(
    st.none(),
    st.sets(st.binary(min_size=32, max_size=32), max_size=8).map(
        lambda raw: [ChunkId(each) for each in sorted(raw)]
    ),
)
BITS = st.integers(0, 2**20)


def noise(length: int) -> bytes:
    """Bytes that do not compress, always the same."""
    return primitives.keyed_hasher(KEY).digest(length)


def seal_of(suite: Suite = Suite.AEGIS256) -> Seal:
    return Seal(suite, KEYS.domain, 1, SessionId(b"x" * 16), KEY)


def chunk_of(plaintext: bytes, table: list[ChunkId] | None = None) -> ChunkId:
    if table is None:
        return record.data_id(KEYS, plaintext)
    return record.node_id(KEYS, table, plaintext)


def sealed(
    plaintext: bytes, table: list[ChunkId] | None = None, suite: Suite = Suite.AEGIS256
) -> bytes:
    """A record: of data, or, with a table, of a node."""
    return bytes(
        record.seal_record(
            seal_of(suite),
            chunk_of(plaintext, table),
            plaintext,
            nonce=NONCE,
            compressor=COMPRESSOR,
            references=table,
        )
    )


def flipped(data: bytes, bit: int) -> bytes:
    """One bit of it changed; any number will do for which."""
    at = bit % (8 * len(data))
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]
