"""Cases of sections 8 and 9: packs, and the sealed bodies of snapshots."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.vectors import record_cases, statement_cases
from tests.vectors.case import Case
from tests.vectors.record_cases import DOMAIN, TABLE, made
from tests.vectors.statement_cases import ACCOUNT, BODIES, DEVICE, KINDS, encode
from tests.vectors.wire import (
    AEGIS256,
    DATA,
    NODE,
    SUITES,
    XCHACHA,
    b3,
    field,
    message,
    pack,
    pack_name,
    padded_length,
    public_key,
    seal,
    secret,
    statement,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vectors.case import Value

KEY = record_cases.KEY
HEADER = BODIES["snapshot"]
SOURCES = (b"/home/anna", b"/srv/\xff")


def cases() -> Iterator[Case]:
    yield from _packs()
    yield from _bodies()


# --- packs ---------------------------------------------------------------------------------------


def _session() -> bytes:
    code, seed = KINDS["session"]
    return statement(code, encode(BODIES["session"]), seed, account=ACCOUNT)


def _pack_case(name: str, about: str, expect: str, encoded: bytes, /, **more: Value) -> Case:
    return Case(f"pack/{name}", about, {"expect": expect, "pack": encoded, **more})


def _packs() -> Iterator[Case]:
    data = [made(), made(b"another chunk")]
    nodes = [made(kind=NODE), made(kind=NODE, table=TABLE)]
    for name, about, kind, records, sessions in (
        ("data", "Two data records of one session.", DATA, data, [_session()]),
        ("nodes", "Two nodes.", NODE, nodes, [_session()]),
        ("bare", "Records without a session statement.", DATA, data, list[bytes]()),
        ("empty", "No records at all.", DATA, list[bytes](), list[bytes]()),
    ):
        encoded = pack(ACCOUNT, records, sessions, kind=kind)
        yield _pack_case(
            name,
            about,
            "ok",
            encoded,
            name=pack_name(encoded, records),
            account=ACCOUNT,
            kind=kind,
            random=secret("pack", 16),
            sessions=sessions,
            records=records,
        )
    yield from _wrong_packs(data)
    yield from _wrong_places(data)


def _wrong_packs(data: list[bytes]) -> Iterator[Case]:
    sessions = [_session()]

    def wrong(**fields: object) -> bytes:
        return pack(ACCOUNT, data, sessions, **fields)  # type: ignore[arg-type]

    good = wrong()
    foot = len(good) - 44
    offset, length = struct.unpack_from("<II", good, foot)

    def with_foot(offset: int, length: int) -> bytes:
        return good[:foot] + struct.pack("<II", offset, length) + good[foot + 8 :]

    for name, about, expect, encoded in (
        ("magic", "Another magic number.", "Damaged", wrong(magic=b"BKRC")),
        ("version", "A version of the future.", "Unsupported", wrong(version=2)),
        ("kind-zero", "A kind that never was.", "Damaged", wrong(kind=0)),
        ("kind-unknown", "A kind of the future.", "Damaged", wrong(kind=3)),
        ("reserved", "The reserved field is used.", "Damaged", wrong(zero=1)),
        ("end", "The end is not there.", "Damaged", wrong(end=b"BKPK")),
        ("truncated", "The last byte is missing.", "Damaged", good[:-1]),
        ("cut", "Everything behind the first record is missing.", "Damaged", good[:300]),
        ("head-only", "Nothing but the head.", "Damaged", good[:40]),
        ("none", "Nothing.", "Damaged", b""),
        ("behind", "Something stands behind it.", "Damaged", good + b"\0"),
        (
            "offset-more",
            "The directory is said to begin later.",
            "Damaged",
            with_foot(offset + 1, length),
        ),
        ("offset-less", "In the head.", "Damaged", with_foot(39, length + offset - 39)),
        (
            "length-more",
            "The directory is said to be longer.",
            "Damaged",
            with_foot(offset, length + 1),
        ),
        ("hash", "A bit of the directory.", "Damaged", _flip(good, offset + 40)),
        (
            "packets-more",
            "More session statements than there are.",
            "Damaged",
            wrong(packet_count=2),
        ),
        ("packets-many", "As many as can be said.", "Damaged", wrong(packet_count=2**32 - 1)),
        ("packets-less", "Fewer than there are.", "Damaged", wrong(packet_count=0)),
        ("records-more", "More records than there are.", "Damaged", wrong(place_count=3)),
        ("records-many", "As many as can be said.", "Damaged", wrong(place_count=2**32 - 1)),
        ("records-less", "Fewer than there are.", "Damaged", wrong(place_count=1)),
        ("rest", "Bytes left over in the directory.", "Damaged", wrong(rest=b"\0")),
        (
            "packet-short",
            "A session statement that is none.",
            "Damaged",
            pack(ACCOUNT, data, [_session()[:99]]),
        ),
    ):
        yield _pack_case(name, about, expect, encoded)


def _wrong_places(data: list[bytes]) -> Iterator[Case]:
    first, second = len(data[0]), len(data[1])
    one, other = data[0][24:56], data[1][24:56]
    for name, about, places in (
        (
            "twice",
            "A chunk that stands there twice.",
            [(one, 40, first), (one, 40 + first, second)],
        ),
        ("gap", "A byte between two records.", [(one, 40, first - 1), (other, 40 + first, second)]),
        ("overlap", "The second begins in the first.", [(one, 40, first), (other, 41, second)]),
        ("order", "Not as they lie.", [(other, 40 + first, second), (one, 40, first)]),
        (
            "in-head",
            "The first begins in the head.",
            [(one, 39, first + 1), (other, 40 + first, second)],
        ),
        (
            "beyond",
            "The second goes on in the directory.",
            [(one, 40, first), (other, 40 + first, second + 1)],
        ),
        (
            "short",
            "The second ends before the directory.",
            [(one, 40, first), (other, 40 + first, second - 1)],
        ),
        ("tiny", "Too short for any record.", [(one, 40, 100), (other, 140, first + second - 100)]),
        (
            "limit",
            "Longer than any record.",
            [(one, 40, (5 << 20) + 1), (other, 40 + first, second)],
        ),
    ):
        listed = [(chunk, DOMAIN, offset, length) for chunk, offset, length in places]
        encoded = pack(ACCOUNT, data, [], places=listed)
        yield _pack_case(f"place-{name}", about, "Damaged", encoded)


def _flip(encoded: bytes, at: int) -> bytes:
    return encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]


# --- bodies --------------------------------------------------------------------------------------


def _plain() -> bytes:
    totals = message({1: 3, 2: 2, 3: 5_000, 5: 1_000})
    head = message({1: secret("other series", 16), 2: 9, 3: secret("other head")})
    return b"".join(
        [
            *(field(1, source) for source in SOURCES),
            message({2: 1_750_000_000_000_000_000, 3: 1_750_000_001_000_000_000, 4: "laptop"}),
            field(5, "weekly"),
            field(6, head),
            field(7, totals),
            field(8, b"*.tmp"),
            field(9, "backitctl 0.1"),
        ]
    )


def _associated(number: int) -> bytes:
    ids = [HEADER[name][1] for name in ("device_id", "series_id", "session_id")]
    joined = b"".join(part for part in ids if isinstance(part, bytes))
    return b"BackIT v1 snapshot body\0" + ACCOUNT + joined + struct.pack("<Q", number)


def _padded(plain: bytes) -> bytes:
    used = struct.pack("<I", len(plain)) + plain
    return used.ljust(padded_length(max(len(used), 1024)), b"\0")


def _sealed(plain: bytes, suite: int = AEGIS256, number: int = 2) -> bytes:
    return _sealed_as_it_is(_padded(plain), suite, number)


def _sealed_as_it_is(padded: bytes, suite: int = AEGIS256, number: int = 2) -> bytes:
    nonce = secret("body nonce") if suite == AEGIS256 else secret("body nonce", 24) + bytes(8)
    return bytes([suite]) + nonce + seal(suite, KEY, nonce, padded, _associated(number))


def _header(sealed: bytes, number: int = 2) -> bytes:
    fields = {**HEADER, "sealed_hash": (7, b3(sealed))}
    return statement(8, encode(fields), DEVICE, account=ACCOUNT, number=number)


def _body_case(name: str, about: str, expect: str, header: bytes, sealed: bytes) -> Case:
    fields: dict[str, Value] = {
        "expect": expect,
        "device": public_key(DEVICE),
        "session_key": KEY,
        "header": header,
        "body": sealed,
    }
    return Case(f"snapshot/{name}", about, fields)


def _bodies() -> Iterator[Case]:
    plain = _plain()
    for suite, suite_name in SUITES.items():
        sealed = _sealed(plain, suite)
        header = _header(sealed)
        good = _body_case(suite_name, f"A body under {suite_name}.", "ok", header, sealed)
        good.fields.update(_opened(header, plain, suite, SOURCES))
        yield good
    sources = tuple(b"/home/user%d" % number for number in range(200))
    plain_of_many = b"".join(field(1, source) for source in sources)
    sealed = _sealed(plain_of_many)
    header = _header(sealed)
    long = _body_case("long", "A length that is padded.", "ok", header, sealed)
    long.fields.update(_opened(header, plain_of_many, AEGIS256, sources))
    yield long
    yield from _wrong_bodies(plain)


def _opened(
    header: bytes, plain: bytes, suite: int, sources: tuple[bytes, ...]
) -> dict[str, Value]:
    return {
        "id": b3(header),
        "plaintext": plain,
        "sources": list(sources),
        "suite": suite,
        "nonce": secret("body nonce"),
    }


def _wrong_bodies(plain: bytes) -> Iterator[Case]:
    good, other = _sealed(plain), _sealed(plain, XCHACHA)
    long_nonce = other[:32] + b"\1" + other[33:]
    for name, about, sealed in (
        ("bit", "A bit of the ciphertext; the header was signed for it.", _flip(good, 60)),
        ("tag", "A bit of the tag.", _flip(good, len(good) - 1)),
        ("nonce", "A bit of the nonce.", _flip(good, 5)),
        ("nonce-end", "Suite 2 with more than 24 bytes of nonce.", long_nonce),
        ("suite-zero", "A suite that never was.", b"\0" + good[1:]),
        ("suite-unknown", "A suite of the future.", b"\3" + good[1:]),
        ("suite-other", "The other suite.", b"\2" + good[1:]),
        ("truncated", "The last byte is missing.", good[:-1]),
        ("tag-short", "Too short for a tag.", good[:40]),
        ("head-only", "Nothing but suite and nonce.", good[:33]),
        ("empty", "Nothing.", b""),
        ("number", "Sealed for another number of the series.", _sealed(plain, number=3)),
        ("unknown", "A field that nobody knows.", _sealed(plain + field(10, 1))),
        ("garbage", "No message at all.", _sealed(b"\xff" * 20)),
        ("padding-missing", "Not padded.", _sealed_as_it_is(_padded(plain)[: 4 + len(plain)])),
        ("padding-short", "A zero less.", _sealed_as_it_is(_padded(plain)[:-1])),
        ("padding-long", "A zero more.", _sealed_as_it_is(_padded(plain) + b"\0")),
        ("padding-used", "The padding is used.", _sealed_as_it_is(_padded(plain)[:-1] + b"\1")),
        ("length-none", "No room for a length.", _sealed_as_it_is(b"\0\0\0")),
        (
            "length-more",
            "Longer than it is.",
            _sealed_as_it_is(struct.pack("<I", 1021) + _padded(plain)[4:]),
        ),
        (
            "length-less",
            "Shorter than it is.",
            _sealed_as_it_is(struct.pack("<I", len(plain) - 1) + _padded(plain)[4:]),
        ),
    ):
        yield _body_case(name, about, "Damaged", _header(sealed), sealed)
    yield _body_case(
        "hash", "Not the body that the header was signed for.", "Damaged", _header(other), good
    )
    domain = statement(4, encode(BODIES["domain"]), statement_cases.OWNER, account=ACCOUNT)
    yield _body_case("no-header", "Behind another kind of statement.", "Invalid", domain, good)
