"""The format once more, written down from FORMAT.md without a line of backit.

What the vectors are made with: so they say what the page says, not what the code does. Every field
can be given, so that it can be given wrong.
"""

from __future__ import annotations

import struct
from hashlib import blake2b

import nacl.bindings as sodium
from blake3 import blake3

AEGIS256, XCHACHA = 1, 2
SUITES = {AEGIS256: "aegis256", XCHACHA: "xchacha20poly1305"}
DATA, NODE = 1, 2
TAG = {AEGIS256: 32, XCHACHA: 16}


def secret(label: str, length: int = 32) -> bytes:
    """Bytes that stand for random ones."""
    return blake3(b"vector " + label.encode()).digest(length)


def b3(data: bytes) -> bytes:
    return blake3(data).digest()


def keyed(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(label: str, material: bytes) -> bytes:
    return blake3(material, derive_key_context="BackIT v1 " + label).digest()


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a message, whatever its value."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fixed64(number: int, value: int) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<Q", value)


def message(values: dict[int, int | bytes | str]) -> bytes:
    """Fields in ascending order, defaults left out."""
    return b"".join(field(number, value) for number, value in sorted(values.items()) if value)


def public_key(seed: bytes) -> bytes:
    return sodium.crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, data: bytes) -> bytes:
    return sodium.crypto_sign(data, sodium.crypto_sign_seed_keypair(seed)[1])[:64]


def seal(suite: int, key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    if suite == AEGIS256:
        return sodium.crypto_aead_aegis256_encrypt(plaintext, associated, nonce, key)
    return sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated, nonce[:24], key)


def sealed_box(ephemeral: bytes, public: bytes, plaintext: bytes) -> bytes:
    """libsodium's sealed box with an ephemeral secret of our choice."""
    ours = sodium.crypto_scalarmult_base(ephemeral)
    nonce = blake2b(ours + public, digest_size=24).digest()
    return ours + sodium.crypto_box(plaintext, nonce, public, ephemeral)


def padded_length(length: int) -> int:
    """Section 2, word by word."""
    if length < 2:
        return length
    e = length.bit_length() - 1
    s = e.bit_length()
    step = min(2 ** (e - s), 128) if e > s else 1
    return -(-length // step) * step


def statement(  # noqa: PLR0913 - one for each field of the page
    kind: int,
    body: bytes,
    seed: bytes,
    *,
    account: bytes,
    number: int = 1,
    magic: bytes = b"BKST",
    version: int = 1,
    zero: int = 0,
    length: int | None = None,
    label: bytes = b"BackIT v1 statement\0",
) -> bytes:
    """Section 3."""
    size = len(body) if length is None else length
    head = struct.pack("<4sBBH16sQI", magic, version, kind, zero, account, number, size)
    return head + body + sign(seed, label + head + body)


def frame(
    plaintext: bytes,
    *,
    method: int = 0,
    payload: bytes | None = None,
    plain_length: int | None = None,
    payload_length: int | None = None,
    padding: bytes | None = None,
) -> bytes:
    """Section 5: what is sealed in a record."""
    payload = plaintext if payload is None else payload
    head = struct.pack(
        "<BII",
        method,
        len(plaintext) if plain_length is None else plain_length,
        len(payload) if payload_length is None else payload_length,
    )
    used = len(head) + len(payload)
    return head + payload + (bytes(padded_length(used) - used) if padding is None else padding)


def record(  # noqa: PLR0913 - one for each field of the page
    framed: bytes,
    chunk: bytes,
    key: bytes,
    *,
    domain: bytes,
    session: bytes,
    references: list[bytes],
    suite: int = AEGIS256,
    kind: int = DATA,
    epoch: int = 1,
    nonce: bytes = secret("nonce"),
    magic: bytes = b"BKRC",
    version: int = 1,
    zero: int = 0,
    count: int | None = None,
    length: int | None = None,
) -> bytes:
    """Section 5."""
    if suite == XCHACHA:
        nonce = nonce[:24] + bytes(8)
    table = b"".join(references)
    clear = (
        struct.pack("<4sBBBB16s32sI", magic, version, suite, kind, zero, domain, chunk, epoch)
        + session
        + nonce
        + struct.pack("<I", len(references) if count is None else count)
        + struct.pack("<I", len(framed) + TAG.get(suite, 16) if length is None else length)
        + table
    )
    return with_hash(clear + seal(suite, key, nonce, framed, clear))


def with_hash(data: bytes) -> bytes:
    return data + b3(data)


def changed(encoded: bytes, at: int, to: bytes) -> bytes:
    """A record changed by somebody without keys: the hash at its end is right again."""
    body = encoded[:at] + to + encoded[at + len(to) :]
    return with_hash(body[:-32])


def pack(  # noqa: PLR0913 - one for each field of the page
    account: bytes,
    records: list[bytes],
    sessions: list[bytes],
    *,
    kind: int = DATA,
    magic: bytes = b"BKPK",
    version: int = 1,
    zero: int = 0,
    places: list[tuple[bytes, bytes, int, int]] | None = None,
    packet_count: int | None = None,
    place_count: int | None = None,
    rest: bytes = b"",
    end: bytes = b"BKPE",
) -> bytes:
    """Section 8; a place is (chunk, domain, offset, length)."""
    whole = struct.pack("<4sBBH", magic, version, kind, zero) + account + secret("pack", 16)
    found: list[tuple[bytes, bytes, int, int]] = []
    for encoded in records:
        found.append((encoded[24:56], encoded[8:24], len(whole), len(encoded)))
        whole += encoded
    listed = found if places is None else places
    directory = struct.pack("<I", len(sessions) if packet_count is None else packet_count)
    for session in sessions:
        directory += struct.pack("<I", len(session)) + session
    directory += struct.pack("<I", len(listed) if place_count is None else place_count)
    for chunk, domain, offset, length in listed:
        directory += chunk + domain + struct.pack("<II", offset, length)
    directory += rest
    foot = struct.pack("<II", len(whole), len(directory)) + b3(directory) + end
    return whole + directory + foot


def zstd(blocks: list[tuple[bool, bytes, int]], *, head: bytes, is_last: bool = True) -> bytes:
    """A zstd frame (RFC 8878) by hand; a block is (is it a run?, its bytes or byte, its length)."""
    data = bytes.fromhex("28b52ffd") + head
    for position, (is_run, content, length) in enumerate(blocks):
        last = is_last and position == len(blocks) - 1
        data += (last | is_run << 1 | length << 3).to_bytes(3, "little") + content
    return data


def size_head(length: int) -> bytes:
    """The head of a zstd frame in a single segment, with the length of its content."""
    if length < 256:
        return bytes([0x20, length])
    if length < 65_792:
        return b"\x60" + struct.pack("<H", length - 256)
    return b"\xa0" + struct.pack("<I", length)


def pack_name(whole: bytes, records: list[bytes]) -> bytes:
    """Section 8: of a good pack."""
    (directory,) = struct.unpack_from("<I", whole, len(whole) - 44)
    return b3(whole[:40] + b"".join(each[-32:] for each in records) + whole[directory:])
