"""The primitives are the ones that they say, and refuse whatever has been touched."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backit.crypto import primitives
from backit.crypto.primitives import Suite
from backit.errors import Damaged, Invalid, WrongKey

KEY, NONCE = bytes(range(32)), bytes(range(100, 132))
SUITES = st.sampled_from(Suite)

# RFC 10032, AEGIS-256, 256-bit tag: one block of zeros.
AEGIS_KEY = bytes.fromhex("1001" + "00" * 30)
AEGIS_NONCE = bytes.fromhex("100002" + "00" * 29)
AEGIS_SEALED = (
    "754fc3d8c973246dcc6d741412a4b236"
    "1181a1d18091082bf0266f66297d167d2e68b845f61a3b0527d31fc7b7b89f13"
)
# draft-irtf-cfrg-xchacha-03, A.3.1.
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
SUNSCREEN_TAG = "c0875924c1c7987947deafd8780acf49"
# RFC 8032, 7.1, test 1.
ED25519_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
ED25519_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
ED25519_SIGNATURE = (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
    "d25bf5f0595bbe24655141438e7a100b"
)


def flipped(data: bytes, bit: int) -> bytes:
    at = bit % (8 * len(data))
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def test_the_hash_is_blake3() -> None:
    assert primitives.digest().hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")


def test_the_first_suite_is_aegis_256() -> None:
    sealed = primitives.seal(Suite.AEGIS256, AEGIS_KEY, AEGIS_NONCE, bytes(16), b"")
    assert sealed.hex() == AEGIS_SEALED


def test_the_second_suite_is_xchacha20_poly1305() -> None:
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    sealed = primitives.seal(Suite.XCHACHA20_POLY1305, key, nonce, SUNSCREEN, associated)
    assert sealed[-16:].hex() == SUNSCREEN_TAG


def test_signatures_are_ed25519() -> None:
    seed = bytes.fromhex(ED25519_SEED)
    assert primitives.signing_public(seed).hex() == ED25519_PUBLIC
    assert primitives.sign(seed, b"").hex() == ED25519_SIGNATURE


@given(parts=st.lists(st.binary(max_size=50), max_size=4))
def test_parts_are_hashed_as_one(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert primitives.digest(*parts) == primitives.digest(whole)
    assert primitives.derive("data id", *parts) == primitives.derive("data id", whole)
    assert primitives.keyed_hasher(KEY, *parts).digest() == primitives.keyed_digest(KEY, whole)


@given(suite=SUITES, plaintext=st.binary(max_size=200), associated=st.binary(max_size=50))
def test_what_is_sealed_opens(suite: Suite, plaintext: bytes, associated: bytes) -> None:
    sealed = primitives.seal(suite, KEY, NONCE, plaintext, associated)
    assert len(sealed) == len(plaintext) + suite.tag_bytes
    assert primitives.unseal(suite, KEY, NONCE, sealed, associated) == plaintext


@given(suite=SUITES, plaintext=st.binary(max_size=200), associated=st.binary(max_size=50))
def test_in_place_is_the_same(suite: Suite, plaintext: bytes, associated: bytes) -> None:
    room = bytearray(b"before" + plaintext + bytes(suite.tag_bytes) + b"behind")
    place = memoryview(room)[6:-6]
    primitives.seal_in_place(suite, KEY, NONCE, place, associated)
    assert place == primitives.seal(suite, KEY, NONCE, plaintext, associated)
    assert room.startswith(b"before")
    assert room.endswith(b"behind")
    assert primitives.unseal_into(suite, KEY, NONCE, place, associated) == plaintext
    place[0] ^= 1
    with pytest.raises(Damaged):
        primitives.unseal_into(suite, KEY, NONCE, place, associated)


@given(
    suite=SUITES,
    key=st.binary(max_size=40).filter(lambda key: len(key) != 32),
    length=st.integers(0, 40),
)
def test_libsodium_never_reads_beyond_what_it_was_given(
    suite: Suite, key: bytes, length: int
) -> None:
    room = memoryview(bytearray(64))
    with pytest.raises(Damaged, match="a key of"):
        primitives.seal_in_place(suite, key, NONCE, room, b"")
    with pytest.raises(Damaged, match="a nonce of"):
        primitives.unseal_into(suite, KEY, key, room, b"")
    if length < suite.tag_bytes:
        with pytest.raises(Damaged, match="shorter than its tag"):
            primitives.unseal_into(suite, KEY, NONCE, room[:length], b"")


@given(suite=SUITES, plaintext=st.binary(max_size=50), bit=st.integers(0, 10_000))
def test_a_flipped_bit_anywhere_breaks_the_seal(suite: Suite, plaintext: bytes, bit: int) -> None:
    sealed = primitives.seal(suite, KEY, NONCE, plaintext, b"head")
    nonce = primitives.clear_unused(suite, NONCE)
    used = flipped(nonce[: 32 if suite is Suite.AEGIS256 else 24], bit)
    for key, other, ciphertext, associated in (
        (flipped(KEY, bit), nonce, sealed, b"head"),
        (KEY, used, sealed, b"head"),
        (KEY, nonce, flipped(sealed, bit), b"head"),
        (KEY, nonce, sealed, flipped(b"head", bit)),
    ):
        with pytest.raises(Damaged):
            primitives.unseal(suite, key, other, ciphertext, associated)


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("length", [0, 1, 15, 16, 31, 32])
def test_a_ciphertext_shorter_than_its_tag_is_damaged(suite: Suite, length: int) -> None:
    with pytest.raises(Damaged):
        primitives.unseal(suite, KEY, NONCE, bytes(length), b"")


@given(suite=SUITES, key=st.binary(max_size=40), nonce=st.binary(max_size=40))
def test_keys_and_nonces_of_any_length_raise_damaged(
    suite: Suite, key: bytes, nonce: bytes
) -> None:
    with pytest.raises(Damaged):
        primitives.unseal(suite, key, nonce, bytes(64), b"")


def test_a_wrapped_key_has_one_length() -> None:
    with pytest.raises(Invalid, match="72 bytes, not 40"):
        primitives.unwrap(KEY, bytes(40), b"")


@given(
    public=st.binary(max_size=40), message=st.binary(max_size=20), signature=st.binary(max_size=70)
)
def test_no_random_signature_verifies(public: bytes, message: bytes, signature: bytes) -> None:
    assert not primitives.verifies(public, message, signature)


@given(message=st.binary(max_size=100), bit=st.integers(0, 10_000))
def test_a_flipped_bit_breaks_a_signature(message: bytes, bit: int) -> None:
    public, signature = primitives.signing_public(KEY), primitives.sign(KEY, message)
    assert primitives.verifies(public, message, signature)
    assert not primitives.verifies(public, message, flipped(signature, bit))
    assert not primitives.verifies(public, message + b"\0", signature)
    assert not primitives.verifies(flipped(public, bit), message, signature)


@given(message=st.binary(max_size=100), bit=st.integers(0, 10_000))
def test_a_box_opens_for_its_secret_and_unchanged_only(message: bytes, bit: int) -> None:
    sealed = primitives.box_seal(primitives.box_public(KEY), message)
    assert primitives.box_open(KEY, sealed) == message
    for secret, box in ((bytes(32), sealed), (KEY, flipped(sealed, bit)), (KEY, sealed[:-1])):
        with pytest.raises(WrongKey):
            primitives.box_open(secret, box)


@given(box=st.binary(max_size=100))
def test_no_random_box_opens(box: bytes) -> None:
    with pytest.raises(WrongKey):
        primitives.box_open(KEY, box)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), bytes(32), b"\1" + bytes(31)])
def test_nothing_is_sealed_to_what_is_no_public_key(public: bytes) -> None:
    with pytest.raises(Invalid):
        primitives.box_seal(public, b"secret")


def test_comparing_sees_the_last_byte() -> None:
    assert primitives.equal(KEY, bytes(range(32)))
    assert not primitives.equal(KEY, KEY[:-1] + b"\0")
    assert not primitives.equal(KEY, KEY[:-1])


SHORT_OF_MEMORY = """
import resource
from backit.crypto import primitives
from backit.errors import Refused
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
try:
    primitives.argon2id(b"password", bytes(16), memory_kib=1 << 20, passes=3)
except Refused as error:
    print(error)
"""


def test_password_hashing_without_the_memory_for_it_is_refused() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert answer.stdout == "password hashing: 1048576 KiB of memory are not to be had\n"
