"""Cases of section 4, keys, and of the sizes and ids of sections 1 and 2."""

from __future__ import annotations

import struct
import unicodedata
from typing import TYPE_CHECKING

import nacl.bindings as sodium

from tests.vectors.case import Case, Value
from tests.vectors.wire import (
    b3,
    derive,
    keyed,
    padded_length,
    public_key,
    sealed_box,
    secret,
    sign,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = secret("account", 16)


def case(name: str, about: str, expect: str = "ok", /, **fields: Value) -> Case:
    return Case(name, about, {"expect": expect, **fields})


def cases() -> Iterator[Case]:
    yield from _keys()
    yield from _passphrases()
    yield from _slots()
    yield from _wrapped()
    yield from _session_keys()
    yield from _messages()
    yield from _ids()
    yield case(
        "padding/table",
        "Lengths and what they are padded to.",
        lengths=(
            lengths := [
                *range(40),
                255,
                256,
                257,
                1023,
                1025,
                16383,
                16385,
                65537,
                1 << 20,
                1_048_577,
                5 << 20,
            ]
        ),
        padded=[padded_length(length) for length in lengths],
    )


def _keys() -> Iterator[Case]:
    root = secret("root key")
    owner = derive("owner key", root)
    yield case(
        "keys/root",
        "What a root key makes.",
        secret=root,
        public=public_key(owner),
        wrap_key=derive("wrap key", root),
    )
    domain = secret("domain secret")
    (seed,) = struct.unpack("<Q", derive("chunker seed", domain)[:8])
    yield case(
        "keys/domain",
        "What a domain secret makes; the chunker seed has 63 bits.",
        secret=domain,
        data_id_key=derive("data id", domain),
        node_id_key=derive("node id", domain),
        content_key=derive("content hash", domain),
        content_list_key=derive("content list", domain),
        boundary_key=derive("node boundary", domain),
        chunker_seed=seed & (2**63 - 1),
    )
    slot = secret("slot secret")
    yield case(
        "keys/slot",
        "What a slot's secret makes.",
        secret=slot,
        public=public_key(derive("slot login", slot)),
        slot_key=derive("slot key", slot),
    )
    device = secret("device seed")
    yield case(
        "keys/device",
        "What a device's seed makes.",
        secret=device,
        public=public_key(device),
        cache_key=derive("cache key", device),
    )
    vault = secret("vault secret")
    yield case(
        "keys/vault",
        "An epoch's vault key.",
        secret=vault,
        public=sodium.crypto_scalarmult_base(vault),
    )
    for name in ("root", "domain", "slot", "device", "vault"):
        yield case(
            f"keys/{name}-short",
            "A secret that has lost its last byte.",
            "Invalid",
            secret=secret(name, 31),
        )


def _passphrases() -> Iterator[Case]:
    salt = secret("salt", 16)
    password = "Grüße, 42 Äpfel"
    stretched = sodium.crypto_pwhash_alg(
        32, password.encode(), salt, 3, 64 << 20, sodium.crypto_pwhash_ALG_ARGON2ID13
    )
    good: dict[str, Value] = {"salt": salt, "memory_kib": 65536, "passes": 3}
    yield case(
        "passphrase/composed",
        "At the floor of what is accepted; the password is in NFC as it stands.",
        password=password,
        secret=stretched,
        **good,
    )
    yield case(
        "passphrase/decomposed",
        "The same password, typed on a machine that decomposes letters.",
        password=unicodedata.normalize("NFD", password),
        secret=stretched,
        **good,
    )
    for name, about, expect, wrong in (
        ("memory-below", "Less memory than the floor.", "Refused", {"memory_kib": 65535}),
        ("memory-above", "More memory than anybody means.", "Refused", {"memory_kib": 2**22 + 1}),
        ("passes-below", "Fewer passes than the floor.", "Refused", {"passes": 2}),
        ("passes-above", "More passes than anybody means.", "Refused", {"passes": 33}),
        ("salt-short", "A salt of 15 bytes.", "Invalid", {"salt": salt[:15]}),
        ("empty", "An empty password.", "Invalid", {"password": ""}),
    ):
        fields: dict[str, Value] = {"password": password, **good, **wrong}
        yield case(f"passphrase/{name}", about, expect, **fields)


def _slots() -> Iterator[Case]:
    own = secret("slot secret")
    key = derive("slot key", own)
    for name, salt, memory, passes in (
        ("password", secret("salt", 16), 262_144, 3),
        ("recovery", b"", 0, 0),
    ):
        yield case(
            f"slot_commitment/{name}",
            f"What a {name} slot commits to.",
            secret=own,
            salt=salt,
            memory_kib=memory,
            passes=passes,
            commitment=derive("slot commitment", key + salt + struct.pack("<II", memory, passes)),
        )


def _wrap(key: bytes, wanted: bytes, kind: int, subject: bytes, number: int) -> bytes:
    associated = b"BackIT v1 wrapped\0" + ACCOUNT + bytes([kind]) + subject.ljust(16, b"\0")
    nonce = secret("wrap nonce", 24)
    return nonce + sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        wanted, associated + struct.pack("<Q", number), nonce, key
    )


def _wrapped() -> Iterator[Case]:
    key, wanted, slot = secret("key above"), secret("what is wrapped"), secret("slot", 16)
    good: dict[str, Value] = {"key": key, "account": ACCOUNT, "kind": 2, "subject": slot}
    good |= {"number": 3, "wrapped": (wrapped := _wrap(key, wanted, 2, slot, 3))}
    yield case("wrapped/slot", "A root key in a slot.", **good, secret=wanted)
    yield case(
        "wrapped/epoch",
        "A vault secret: an epoch's statement has no subject.",
        key=key,
        account=ACCOUNT,
        kind=3,
        subject=b"",
        number=7,
        wrapped=_wrap(key, wanted, 3, b"", 7),
        secret=wanted,
    )
    yield case(
        "wrapped/domain",
        "A domain secret.",
        key=key,
        account=ACCOUNT,
        kind=4,
        subject=(domain := secret("domain", 16)),
        number=1,
        wrapped=_wrap(key, wanted, 4, domain, 1),
        secret=wanted,
    )
    flipped = bytes([*wrapped[:-1], wrapped[-1] ^ 1])
    for name, about, expect, wrong in (
        ("key", "Another key.", "WrongKey", {"key": secret("another key")}),
        ("account", "Taken from another account.", "WrongKey", {"account": bytes(16)}),
        ("kind", "Taken from another kind of statement.", "WrongKey", {"kind": 4}),
        ("subject", "Taken from another slot.", "WrongKey", {"subject": bytes(16)}),
        ("number", "Taken from an earlier statement.", "WrongKey", {"number": 2}),
        ("flipped", "One bit of the tag.", "WrongKey", {"wrapped": flipped}),
        ("short", "One byte is missing.", "Invalid", {"wrapped": wrapped[:-1]}),
        ("long", "One byte too many.", "Invalid", {"wrapped": wrapped + b"\0"}),
    ):
        yield case(f"wrapped/{name}", about, expect, **(good | wrong))


def _session_keys() -> Iterator[Case]:
    vault, session = secret("vault secret"), secret("session key")
    public = sodium.crypto_scalarmult_base(vault)
    sealed = sealed_box(secret("ephemeral"), public, session)
    good: dict[str, Value] = {
        "vault_secret": vault,
        "sealed_key": sealed,
        "commitment": derive("session commitment", session),
    }
    yield case("session_key/good", "Sealed to the epoch's vault key.", **good, secret=session)
    short = session[:31]
    flipped = bytes([*sealed[:-1], sealed[-1] ^ 1])
    wrongs: tuple[tuple[str, str, dict[str, Value]], ...] = (
        ("vault", "Another epoch's vault key.", {"vault_secret": secret("another vault")}),
        ("flipped", "One bit of the box.", {"sealed_key": flipped}),
        ("truncated", "Shorter than any box.", {"sealed_key": sealed[:40]}),
        (
            "commitment",
            "The device committed to another key than it sealed.",
            {"commitment": derive("session commitment", secret("another key"))},
        ),
        (
            "short",
            "A key of 31 bytes, with the commitment to it.",
            {
                "sealed_key": sealed_box(secret("ephemeral"), public, short),
                "commitment": derive("session commitment", short),
            },
        ),
    )
    for name, about, wrong in wrongs:
        yield case(f"session_key/{name}", about, "WrongKey", **(good | wrong))


def _messages() -> Iterator[Case]:
    seed, challenge, fingerprint = secret("login"), secret("challenge"), secret("certificate")
    good: dict[str, Value] = {"seed": seed, "challenge": challenge, "fingerprint": fingerprint}
    for name, spoken in (
        ("user", "user:Änne"),
        ("slot", "slots/" + secret("slot", 16).hex()),
        ("device", "devices/" + secret("device", 16).hex()),
    ):
        signed = b"BackIT v1 login\0" + challenge + fingerprint + b3(spoken.encode())
        yield case(
            f"login/{name}",
            f"What the login of a {name} signs, and the signature.",
            **good,
            name=spoken,
            message=signed,
            signature=sign(seed, signed),
        )
    for name, wrong in (
        ("challenge-short", {"challenge": challenge[:31]}),
        ("challenge-long", {"challenge": challenge + b"\0"}),
        ("fingerprint-short", {"fingerprint": fingerprint[:31]}),
    ):
        fields: dict[str, Value] = {**good, "name": "user:anna", **wrong}
        yield case(f"login/{name}", "A part that is not 32 bytes long.", "Invalid", **fields)
    new_owner = public_key(secret("next owner"))
    yield case(
        "succession/second",
        "What an owner signs to pass an account on.",
        account=ACCOUNT,
        number=2,
        owner_key=new_owner,
        message=b"BackIT v1 succession\0" + ACCOUNT + struct.pack("<Q", 2) + new_owner,
    )
    device, box = public_key(secret("device seed")), secret("box key")
    number = int.from_bytes(b3(b"BackIT v1 enrolment\0" + device + box)[:16], "little") % 10**20
    digits = str(number).rjust(20, "0")
    yield case(
        "enrolment/code",
        "What people compare before they approve a machine.",
        device_key=device,
        box_key=box,
        code="-".join((digits[:5], digits[5:10], digits[10:15], digits[15:])),
    )


def _ids() -> Iterator[Case]:
    domain = secret("domain secret")
    plaintext = b"a chunk of data"
    yield case(
        "chunk_id/data",
        "The id of a data chunk.",
        secret=domain,
        plaintext=plaintext,
        id=keyed(derive("data id", domain), plaintext),
    )
    table = sorted(secret(f"reference {number}") for number in range(3))
    for name, references in (("node", table), ("node-without-references", [])):
        hashed = struct.pack("<I", len(references)) + b"".join(references) + plaintext
        yield case(
            f"chunk_id/{name}",
            "The id of a node: its reference table counts as well.",
            secret=domain,
            plaintext=plaintext,
            references=references,
            id=keyed(derive("node id", domain), hashed),
        )
    raw = secret("device", 16)
    yield case("id_text/good", "An id, its text, and its name.", text=raw.hex(), raw=raw)
    for name, about, text in (
        ("upper-case", "There is one way to write an id.", raw.hex().upper()),
        ("spaced", "Not with spaces.", raw.hex(" ")),
        ("short", "One digit is missing.", raw.hex()[:-1]),
        ("other-length", "An id of 32 bytes.", secret("chunk").hex()),
        ("no-hexadecimal", "Something else.", "zz" * 16),
        ("empty", "Nothing.", ""),
    ):
        yield case(f"id_text/{name}", about, "Invalid", text=text)
