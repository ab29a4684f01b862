"""Cases of section 3: every kind of statement, and each with every field wrong once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.vectors.case import Case
from tests.vectors.wire import field, message, public_key, secret, statement, varint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vectors.case import Scalar, Value

ACCOUNT = secret("account", 16)
OWNER, DEVICE, APPLIANCE = secret("owner seed"), secret("device seed"), secret("appliance seed")
ID, KEY, WRAPPED, SEALED = 16, 32, 72, 80
# kind -> (number in the head, who signs)
KINDS = {
    "account": (1, OWNER),
    "slot": (2, OWNER),
    "epoch": (3, OWNER),
    "domain": (4, OWNER),
    "device": (5, OWNER),
    "revocation": (6, OWNER),
    "session": (7, DEVICE),
    "snapshot": (8, DEVICE),
    "forget": (9, OWNER),
    "receipt": (10, APPLIANCE),
}
ONCE = ("revocation", "session", "receipt")
# statement.proto: kind -> field -> (number, value)
Fields = dict[str, tuple[int, "Scalar"]]


def _id(name: str) -> bytes:
    return secret(name, ID)


BODIES: dict[str, Fields] = {
    "account": {
        "user": (1, "anna"),
        "owner_key": (2, public_key(OWNER)),
        "created": (3, 1_750_000_000),
    },
    "slot": {
        "slot_id": (1, _id("slot")),
        "kind": (2, 1),
        "salt": (4, secret("salt", 16)),
        "memory_kib": (5, 262_144),
        "passes": (6, 3),
        "login_key": (7, secret("login key")),
        "commitment": (8, secret("commitment")),
        "wrapped_root_key": (9, secret("wrapped", WRAPPED)),
    },
    "epoch": {
        "vault_key": (1, secret("vault key")),
        "wrapped_vault_secret": (2, secret("wrapped", WRAPPED)),
        "created": (3, 1_750_000_000),
    },
    "domain": {
        "domain_id": (1, _id("domain")),
        "wrapped_secret": (2, secret("wrapped", WRAPPED)),
    },
    "device": {
        "device_id": (1, _id("device")),
        "label": (2, "Anna's laptop"),
        "device_key": (3, public_key(DEVICE)),
        "role": (4, 1),
        "domain_id": (5, _id("domain")),
        "created": (6, 1_750_000_000),
    },
    "revocation": {"device_id": (1, _id("device")), "since": (2, 1_750_000_000)},
    "session": {
        "session_id": (1, _id("session")),
        "device_id": (2, _id("device")),
        "domain_id": (3, _id("domain")),
        "epoch": (4, 1),
        "kem": (5, 1),
        "commitment": (6, secret("commitment")),
        "sealed_key": (7, secret("sealed", SEALED)),
    },
    "snapshot": {
        "device_id": (1, _id("device")),
        "series_id": (2, _id("series")),
        "previous": (3, secret("previous")),
        "session_id": (4, _id("session")),
        "domain_id": (5, _id("domain")),
        "root": (6, secret("root")),
        "sealed_hash": (7, secret("sealed hash")),
        "complete": (8, True),
    },
    "forget": {
        "snapshot_id": (1, secret("snapshot")),
        "forgotten": (2, True),
        "ordered": (3, 1_750_000_000),
    },
    "receipt": {
        "snapshot_id": (1, secret("snapshot")),
        "received": (2, 1_750_000_000),
        "incarnation_id": (3, _id("incarnation")),
    },
}
# What a kind's fields may not be, though their type allows it.
WRONG_VALUES: dict[str, dict[str, dict[str, Scalar]]] = {
    "account": {
        "user": {
            "empty": "",
            "long": "a" * 65,
            "spaced": " anna",
            "newline": "an\nna",
        }
    },
    "slot": {
        "kind": {"unspecified": 0, "unknown": 4},
        "memory_kib": {"below": 65_535, "above": 2**22 + 1},
        "passes": {"below": 2, "above": 33},
        "device_id": {"superfluous": _id("device")},
    },
    "device": {"role": {"unspecified": 0, "unknown": 3}, "label": {"newline": "lap\ntop"}},
    "session": {"kem": {"unknown": 2}, "epoch": {"zero": 0}},
}
FIELD_NUMBERS = {"slot": {"device_id": 10}, "account": {"succession": 4}}


def encode(fields: Fields) -> bytes:
    return message(dict(fields.values()))


def cases() -> Iterator[Case]:
    for kind, (number, seed) in KINDS.items():
        yield _good(
            kind, kind, f"A {kind} statement.", BODIES[kind], 2 if kind == "snapshot" else 1
        )
        yield from _wrong_fields(kind, number, seed)
    yield from _more_good()
    yield from _wrong_heads()
    yield from _not_canonical()


def _case(name: str, about: str, expect: str, signer: bytes, encoded: bytes) -> Case:
    fields: dict[str, Value] = {"expect": expect, "signer": public_key(signer)}
    fields["statement"] = encoded
    return Case(f"statement/{name}", about, fields)


def _good(name: str, kind: str, about: str, fields: Fields, number: int = 1) -> Case:
    code, seed = KINDS[kind]
    encoded = statement(code, encode(fields), seed, account=ACCOUNT, number=number)
    found = _case(name, about, "ok", seed, encoded)
    found.fields.update(seed=seed, kind=code, account=ACCOUNT, number=number)
    found.fields["body"] = {field: value for field, (_number, value) in fields.items()}
    return found


def _more_good() -> Iterator[Case]:
    second: Fields = {**BODIES["account"], "succession": (4, secret("succession", 64))}
    yield _good("account-second", "account", "An account that was passed on.", second, 2)
    bare: Fields = {
        name: value
        for name, value in BODIES["slot"].items()
        if name not in ("salt", "memory_kib", "passes")
    }
    yield _good("slot-recovery", "slot", "A recovery kit's slot.", {**bare, "kind": (2, 2)})
    key_file: Fields = {**bare, "kind": (2, 3), "device_id": (10, _id("device"))}
    yield _good("slot-key-file", "slot", "A full device's slot.", key_file)
    removed: Fields = {"slot_id": (1, _id("slot")), "removed": (3, True)}
    yield _good("slot-removed", "slot", "A slot that is gone.", removed, 4)
    first: Fields = {k: v for k, v in BODIES["snapshot"].items() if k != "previous"}
    yield _good("snapshot-first", "snapshot", "The first of a series.", first)
    back: Fields = {"snapshot_id": (1, secret("snapshot"))}
    yield _good("forget-undo", "forget", "Out of the trash again; every default left out.", back, 2)
    full: Fields = {k: v for k, v in BODIES["device"].items() if k != "label"}
    full["role"] = (4, 2)
    yield _good("device-full", "device", "A full device without a label.", full)


def _wrong_fields(kind: str, number: int, seed: bytes) -> Iterator[Case]:
    fields = BODIES[kind]
    head = 2 if kind == "snapshot" else 1

    def refused(name: str, about: str, changed: Fields, count: int = head) -> Case:
        encoded = statement(number, encode(changed), seed, account=ACCOUNT, number=count)
        return _case(f"{kind}-{name}", about, "StatementInvalid", seed, encoded)

    for name, (place, value) in fields.items():
        if isinstance(value, bytes):
            long: Fields = {**fields, name: (place, value + b"\0")}
            yield refused(f"{name}-long", f"The {name} has one byte too many.", long)
            short: Fields = {**fields, name: (place, value[:-1])}
            yield refused(f"{name}-short", f"The {name} has one byte too few.", short)
    for name, values in WRONG_VALUES.get(kind, {}).items():
        place = fields[name][0] if name in fields else FIELD_NUMBERS[kind][name]
        for why, value in values.items():
            changed: Fields = {**fields, name: (place, value)}
            yield refused(f"{name}-{why}", f"The {name} is not one that is allowed.", changed)
    for name, about, changed, count in _wrong_numbers(kind, fields):
        yield refused(name, about, changed, count)


def _wrong_numbers(kind: str, fields: Fields) -> Iterator[tuple[str, str, Fields, int]]:
    """What does not go with the number in the head, or with another field."""
    succession: Fields = {**fields, "succession": (4, secret("succession", 64))}
    if kind in ONCE:
        yield "number", "There is only ever one about this subject.", fields, 2
    if kind == "account":
        yield "succession-missing", "A second owner whom nobody made so.", fields, 2
        yield "succession-early", "A first owner made so by somebody.", succession, 1
    if kind == "epoch":
        yield "number", "An epoch that does not fit into a record.", fields, 2**32
    if kind == "slot":
        gone: Fields = {**fields, "removed": (3, True)}
        yield "removed-kept", "Gone, but its keys are still there.", gone, 1
    if kind == "snapshot":
        yield "previous-early", "The first of a series with one before it.", fields, 1


def _wrong_heads() -> Iterator[Case]:
    body = encode(BODIES["domain"])
    size = len(body)

    def made(**wrong: object) -> bytes:
        fields: dict[str, object] = {"kind": 4, "account": ACCOUNT, **wrong}
        return statement(fields.pop("kind"), body, OWNER, **fields)  # type: ignore[arg-type]

    good = made()
    invalid = "StatementInvalid"
    for name, about, expect, encoded in (
        ("magic", "Another magic number.", invalid, made(magic=b"BKRC")),
        ("version", "A version of the future.", "Unsupported", made(version=2)),
        ("version-zero", "A version that never was.", "Unsupported", made(version=0)),
        ("kind-zero", "A kind that never was.", invalid, made(kind=0)),
        ("kind-unknown", "A kind of the future.", invalid, made(kind=11)),
        ("kind-other", "The body of another kind.", invalid, made(kind=5)),
        ("reserved", "The reserved field is used.", invalid, made(zero=1)),
        ("number-zero", "Numbers start at one.", invalid, made(number=0)),
        ("length-more", "The body is shorter than it says.", invalid, made(length=size + 1)),
        ("length-less", "The body is longer than it says.", invalid, made(length=size - 1)),
        ("label", "A signature over something that is no statement.", invalid, made(label=b"")),
        ("truncated", "The last byte is missing.", invalid, good[:-1]),
        ("head-only", "Nothing but the head.", invalid, good[:36]),
        ("empty", "Nothing.", invalid, b""),
        ("behind", "Something stands behind it.", invalid, good + b"\0"),
        ("signature", "A bit of the signature.", invalid, good[:-1] + bytes([good[-1] ^ 1])),
        ("body", "A bit of the body.", invalid, good[:45] + bytes([good[45] ^ 1]) + good[46:]),
        ("account", "Another account.", invalid, good[:8] + bytes(16) + good[24:]),
    ):
        yield _case(f"head-{name}", about, expect, OWNER, encoded)
    yield _case("signer", "Signed by somebody else.", invalid, OWNER, _by(secret("thief")))


def _by(seed: bytes) -> bytes:
    return statement(4, encode(BODIES["domain"]), seed, account=ACCOUNT)


def _not_canonical() -> Iterator[Case]:
    parts = {number: field(number, value) for number, value in BODIES["device"].values()}
    role = varint(4 << 3) + b"\x81\x00"
    for name, about, body in (
        ("order", "Two fields have changed places.", [2, 1, 3, 4, 5, 6]),
        ("duplicate", "A field twice: the last one would win.", [1, 1, 2, 3, 4, 5, 6]),
        ("truncated", "The last field ends too early.", [1, 2, 3, 4, 5]),
    ):
        encoded = b"".join(parts[number] for number in body)
        if name == "truncated":
            encoded += parts[6][:-1]
        yield _refused_body(name, about, encoded)
    whole = b"".join(parts.values())
    default = whole.replace(parts[6], field(6, 0))
    yield _refused_body("default", "A default that is written out.", default)
    yield _refused_body("unknown", "A field that nobody knows.", whole + field(7, 1))
    long = whole.replace(parts[4], role)
    yield _refused_body("varint", "A number written longer than it needs.", long)
    text = whole.replace(parts[2], varint(2 << 3 | 2) + b"\x02\xff\xfe")
    yield _refused_body("text", "A label that is no UTF-8.", text)


def _refused_body(name: str, about: str, body: bytes) -> Case:
    encoded = statement(5, body, OWNER, account=ACCOUNT)
    return _case(f"body-{name}", about, "StatementInvalid", OWNER, encoded)
