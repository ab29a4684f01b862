"""Cases of section 5: records, whole, changed on their way, and made by somebody who lies.

`stored` is what a reader without keys says (it may be fine where `expect` is not).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.vectors.case import Case
from tests.vectors.wire import (
    AEGIS256,
    DATA,
    NODE,
    SUITES,
    XCHACHA,
    changed,
    derive,
    frame,
    keyed,
    record,
    secret,
    size_head,
    with_hash,
    zstd,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vectors.case import Value

SECRET, DOMAIN = secret("domain secret"), secret("domain", 16)
KEY, SESSION = secret("session key"), secret("session", 16)
TABLE = sorted(secret(f"reference {number}") for number in range(3))
# Bytes that are the same as they are and compressed, so that no compressor's version matters.
PLAIN = b"This is a chunk of data; it is short, but for " + b"a" * 1000
SHORT = PLAIN[:46]
COMPRESSED = zstd([(False, SHORT, 46), (True, b"a", 1000)], head=size_head(len(PLAIN)))
TABLE_AT = 116


def id_of(plaintext: bytes, kind: int = DATA, table: list[bytes] | None = None) -> bytes:
    if kind == DATA:
        return keyed(derive("data id", SECRET), plaintext)
    references = table or []
    hashed = struct.pack("<I", len(references)) + b"".join(references) + plaintext
    return keyed(derive("node id", SECRET), hashed)


def made(
    plaintext: bytes = SHORT,
    *,
    framed: bytes | None = None,
    kind: int = DATA,
    table: list[bytes] | None = None,
    **fields: object,
) -> bytes:
    """A record, right in all that is not given."""
    given: dict[str, object] = {"chunk": id_of(plaintext, kind, table), "key": KEY, **fields}
    return record(
        frame(plaintext) if framed is None else framed,
        given.pop("chunk"),  # type: ignore[arg-type]
        given.pop("key"),  # type: ignore[arg-type]
        domain=DOMAIN,
        session=SESSION,
        kind=kind,
        references=table or [],
        **given,  # type: ignore[arg-type]
    )


def cases() -> Iterator[Case]:
    yield from _good()
    yield from _malformed()
    yield from _changed()
    yield from _lying_frames()
    yield from _lying_compression()


def _case(
    name: str, about: str, encoded: bytes, wanted: bytes, *, expect: str, stored: str, **more: Value
) -> Case:
    fields: dict[str, Value] = {
        "expect": expect,
        "stored": stored,
        "domain": DOMAIN,
        "domain_secret": SECRET,
        "session_key": KEY,
        "chunk": wanted,
        "record": encoded,
        **more,
    }
    return Case(f"record/{name}", about, fields)


def _good() -> Iterator[Case]:
    for suite, suite_name in SUITES.items():
        for kind, kind_name, table in ((DATA, "data", []), (NODE, "node", TABLE)):
            for method, how, payload in ((0, "plain", PLAIN), (1, "zstd", COMPRESSED)):
                framed = frame(PLAIN, method=method, payload=payload)
                encoded = made(PLAIN, framed=framed, kind=kind, table=table, suite=suite)
                yield _case(
                    f"{kind_name}-{suite_name}-{how}",
                    f"A {kind_name} record under {suite_name}, its payload {how}.",
                    encoded,
                    id_of(PLAIN, kind, table),
                    expect="ok",
                    stored="ok",
                    suite=suite,
                    kind=kind,
                    epoch=1,
                    session=SESSION,
                    nonce=secret("nonce"),
                    references=table,
                    plaintext=PLAIN,
                    payload=payload,
                )
    for name, about, plaintext, kind in (
        ("data-empty", "A chunk of no bytes.", b"", DATA),
        ("node-empty", "A node that uses nothing.", b"", NODE),
        ("data-padded", "A length that Padmé rounds up.", secret("data", 1111), DATA),
    ):
        yield _case(
            name,
            about,
            made(plaintext, kind=kind),
            id_of(plaintext, kind),
            expect="ok",
            stored="ok",
            suite=AEGIS256,
            kind=kind,
            epoch=1,
            session=SESSION,
            nonce=secret("nonce"),
            references=list[bytes](),
            plaintext=plaintext,
            payload=plaintext,
        )


def _malformed() -> Iterator[Case]:
    """What a reader without keys refuses."""
    good, node = made(), made(kind=NODE, table=TABLE)
    other = made(suite=XCHACHA)
    sealed = struct.unpack_from("<I", good, 112)[0]
    unsorted = with_hash(node[:TABLE_AT] + TABLE[1] + TABLE[0] + node[TABLE_AT + 64 : -32])
    twice = with_hash(node[:TABLE_AT] + TABLE[0] + TABLE[0] + node[TABLE_AT + 64 : -32])
    for name, about, encoded in (
        ("magic", "Another magic number.", changed(good, 0, b"BKST")),
        ("suite-zero", "A suite that never was.", changed(good, 5, b"\0")),
        ("suite-unknown", "A suite of the future.", changed(good, 5, b"\3")),
        ("kind-zero", "A kind that never was.", changed(good, 6, b"\0")),
        ("kind-unknown", "A kind of the future.", changed(good, 6, b"\3")),
        ("reserved", "The reserved byte is used.", changed(good, 7, b"\1")),
        ("nonce-end", "Suite 2 with more than 24 bytes of nonce.", changed(other, 107, b"\1")),
        ("data-with-table", "Data has no references.", made(table=TABLE)),
        ("table-unsorted", "References that are not ascending.", unsorted),
        ("table-twice", "A reference that stands there twice.", twice),
        ("table-more", "More references than there are.", changed(node, 108, b"\4")),
        ("table-less", "Fewer references than there are.", changed(node, 108, b"\2")),
        ("table-limit", "8,193 references.", changed(node, 108, struct.pack("<I", 8193))),
        ("length-more", "Longer than it is.", changed(good, 112, struct.pack("<I", sealed + 1))),
        ("length-less", "Shorter than it is.", changed(good, 112, struct.pack("<I", sealed - 1))),
        ("length-tag", "Too short for any frame.", changed(good, 112, struct.pack("<I", 40))),
        ("length-limit", "Longer than 5 MiB.", changed(good, 112, struct.pack("<I", 5 << 20))),
        ("truncated", "The last byte is missing.", good[:-1]),
        ("behind", "Something stands behind it.", good + b"\0"),
        ("head-only", "Nothing but the head.", good[:116]),
        ("head-short", "Not even that.", good[:115]),
        ("empty", "Nothing.", b""),
        ("flipped", "A bit anywhere, and the hash does not fit.", _flipped(good, 130)),
    ):
        yield _case(name, about, encoded, id_of(SHORT), expect="Damaged", stored="RecordInvalid")
    yield _case(
        "hash",
        "A bit of the hash at the end: only who stores it has to tell.",
        _flipped(good, len(good) - 1),
        id_of(SHORT),
        expect="ok",
        stored="RecordInvalid",
        kind=DATA,
        references=[],
        plaintext=SHORT,
    )
    for name, version in (("version", b"\2"), ("version-zero", b"\0")):
        yield _case(
            name,
            "A version that nobody knows.",
            changed(good, 4, version),
            id_of(SHORT),
            expect="Unsupported",
            stored="Unsupported",
        )


def _flipped(encoded: bytes, at: int) -> bytes:
    return encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]


def _changed() -> Iterator[Case]:
    """What only who holds keys can tell: sound in form, but not what was sealed, or not this."""
    good, node = made(), made(kind=NODE, table=TABLE)
    swapped = sorted([secret("another reference"), *TABLE[1:]])
    body = good[:-32]
    for name, about, encoded, wanted in (
        ("sealed-bit", "A bit of the ciphertext.", with_hash(_flipped(body, 130)), None),
        ("sealed-tag", "A bit of the tag.", with_hash(_flipped(body, len(body) - 1)), None),
        ("sealed-nonce", "A bit of the nonce.", with_hash(_flipped(body, 80)), None),
        ("sealed-epoch", "Another epoch.", changed(good, 56, b"\2"), None),
        ("sealed-session", "Another session.", changed(good, 60, bytes(16)), None),
        ("sealed-domain", "Another domain.", changed(good, 8, bytes(16)), None),
        ("sealed-kind", "A node instead of data.", changed(good, 6, b"\2"), None),
        ("sealed-id", "Another id than was sealed.", changed(good, 24, bytes(32)), bytes(32)),
        ("wanted", "A sound record, but of another chunk.", good, bytes(32)),
        (
            "sealed-table",
            "Another table than was sealed.",
            changed(node, TABLE_AT, b"".join(swapped)),
            id_of(SHORT, NODE, TABLE),
        ),
        ("key", "Sealed under another key.", made(key=secret("another key")), None),
        (
            "id",
            "Sealed as it stands, but its content has another id.",
            made(chunk=bytes(32)),
            bytes(32),
        ),
        (
            "id-of-data",
            "A node under the id that its bytes would have as data.",
            made(kind=NODE, chunk=id_of(SHORT)),
            None,
        ),
        (
            "id-without-table",
            "A node whose id forgets its references.",
            made(kind=NODE, table=TABLE, chunk=id_of(SHORT, NODE)),
            id_of(SHORT, NODE),
        ),
    ):
        yield _case(
            name,
            about,
            encoded,
            id_of(SHORT) if wanted is None else wanted,
            expect="Damaged",
            stored="ok",
        )


def _lying_frames() -> Iterator[Case]:
    """Sealed by who holds the key, so every byte is authentic, and wrong."""
    size = len(SHORT)
    for name, about, framed in (
        ("method", "A method that nobody knows.", frame(SHORT, method=2)),
        ("plain-length", "Not compressed, but of another length.", frame(SHORT, plain_length=45)),
        ("plain-limit", "More than 4 MiB.", frame(SHORT, plain_length=(4 << 20) + 1)),
        ("payload-long", "Longer than the frame.", frame(SHORT, payload_length=1 << 20)),
        (
            "payload-short",
            "Its end is in the padding.",
            frame(SHORT, payload_length=size - 1, plain_length=size - 1),
        ),
        ("padding-missing", "Not padded.", frame(secret("data", 1111), padding=b"")),
        ("padding-long", "Padded too far.", frame(SHORT, padding=bytes(100))),
        ("padding-used", "Something in the padding.", _used_padding()),
    ):
        plaintext = secret("data", 1111) if name.startswith("padding-") else SHORT
        plaintext = SHORT if name == "padding-long" else plaintext
        yield _frame_case(name, about, plaintext, framed)


def _used_padding() -> bytes:
    framed = frame(secret("data", 1111))
    return framed[:-1] + b"\1"


def _frame_case(name: str, about: str, plaintext: bytes, framed: bytes) -> Case:
    encoded = made(plaintext, framed=framed)
    return _case(f"frame-{name}", about, encoded, id_of(plaintext), expect="Damaged", stored="ok")


def _lying_compression() -> Iterator[Case]:
    size = len(PLAIN)
    head = size_head(size)
    more = zstd([(False, SHORT, 46), (True, b"a", 1001)], head=size_head(size + 1))
    # Heads without a length of the content and with a window (RFC 8878, 3.1.1.1.2).
    window = zstd([(False, SHORT, 46), (True, b"a", 1000)], head=b"\0\x68")
    open_end = zstd([(False, SHORT, 46), (True, b"a", 1000)], head=head, is_last=False)
    dictionary = zstd([(False, SHORT, 46), (True, b"a", 1000)], head=b"\x61\x07" + head[1:])
    skippable = bytes.fromhex("502a4d18") + struct.pack("<I", 4) + bytes(4)
    bomb = zstd([(True, b"a", 128 << 10)] * 64, head=b"\0\x50")
    for name, about, payload in (
        ("bomb", "8 MiB where a kilobyte is said to be.", bomb),
        ("one-more", "One byte more than is said.", more),
        ("garbage", "No zstd at all.", secret("garbage", 60)),
        ("truncated", "The last byte is missing.", COMPRESSED[:-1]),
        ("open", "No block says that it is the last.", open_end),
        ("behind", "Something behind the frame.", COMPRESSED + b"\0"),
        ("two-frames", "A second frame behind the first.", COMPRESSED + skippable),
        ("window", "A window of 8 MiB.", window),
        ("dictionary", "Made with a dictionary.", dictionary),
        ("nothing", "An empty payload.", b""),
    ):
        framed = frame(PLAIN, method=1, payload=payload)
        yield _frame_case(f"zstd-{name}", about, PLAIN, framed)
    less = frame(PLAIN, method=1, payload=COMPRESSED, plain_length=size - 1)
    yield _frame_case("zstd-less", "It makes one byte more than is said.", PLAIN, less)
    missing = frame(PLAIN, method=1, payload=COMPRESSED, plain_length=size + 1)
    yield _frame_case("zstd-missing", "It makes one byte less than is said.", PLAIN, missing)
