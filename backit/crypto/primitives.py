"""The primitives, each with its parameters fixed, so that nobody else chooses any.

Only here are PyNaCl and blake3 imported. No key hierarchy, no formats, no randomness: a nonce or a
secret is an argument.

Records are sealed and opened by libsodium's own functions, as PyNaCl has loaded them: the ones that
PyNaCl puts around those copy each megabyte twice and clear it once more.
"""

from __future__ import annotations

import hmac
from enum import IntEnum
from importlib import import_module
from typing import Any

import nacl.bindings as sodium
from blake3 import blake3
from nacl.exceptions import BadSignatureError, CryptoError

from backit.errors import Damaged, Invalid, Refused, WrongKey

# libsodium's own functions (cffi); PyNaCl has no types for them.
_sodium: Any = import_module("nacl._sodium")
ffi, lib = _sodium.ffi, _sodium.lib

Buffer = bytes | bytearray | memoryview

HASH_BYTES = 32
KEY_BYTES = 32
NONCE_BYTES = 32
WRAP_NONCE_BYTES = 24
SIGNATURE_BYTES = 64
PUBLIC_KEY_BYTES = 32
SEALED_KEY_BYTES = 80
WRAPPED_KEY_BYTES = WRAP_NONCE_BYTES + KEY_BYTES + 16


class Suite(IntEnum):
    """How records are sealed. AEGIS-256 (RFC 10032) where the CPU has AES, else the other."""

    AEGIS256 = 1
    XCHACHA20_POLY1305 = 2

    @property
    def tag_bytes(self) -> int:
        return 32 if self is Suite.AEGIS256 else 16


def digest(*parts: Buffer) -> bytes:
    """BLAKE3 of the parts one after another."""
    hasher = blake3()
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def keyed_digest(key: bytes, data: Buffer) -> bytes:
    """BLAKE3's keyed mode."""
    return blake3(data, key=key).digest()


def keyed_hasher(key: bytes, *parts: Buffer) -> blake3:
    """The keyed hash of something that comes in pieces: update(), then digest()."""
    hasher = blake3(key=key)
    for part in parts:
        hasher.update(part)
    return hasher


def hasher() -> blake3:
    """The hash of something that comes in pieces."""
    return blake3()


def derive(label: str, *material: bytes) -> bytes:
    """A key for one purpose; labels are those of FORMAT.md section 4."""
    return blake3(b"".join(material), derive_key_context="BackIT v1 " + label).digest()


def equal(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left, right)


def clear_unused(suite: Suite, nonce: bytes) -> bytes:
    """A nonce of 32 bytes with zeros for those that the suite does not use."""
    if suite is Suite.AEGIS256:
        return nonce
    return nonce[:WRAP_NONCE_BYTES].ljust(NONCE_BYTES, b"\0")


def seal(suite: Suite, key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt and authenticate. `nonce` is 32 random bytes; suite 2 takes the first 24."""
    if suite is Suite.AEGIS256:
        return sodium.crypto_aead_aegis256_encrypt(plaintext, associated, nonce, key)
    return sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, associated, nonce[:WRAP_NONCE_BYTES], key
    )


def unseal(suite: Suite, key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Undo seal. Raises Damaged if anything given here is not what it was sealed with."""
    if len(ciphertext) < suite.tag_bytes:
        raise Damaged(f"a ciphertext of {len(ciphertext)} bytes is shorter than its tag")
    try:
        if suite is Suite.AEGIS256:
            return sodium.crypto_aead_aegis256_decrypt(ciphertext, associated, nonce, key)
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            ciphertext, associated, nonce[:WRAP_NONCE_BYTES], key
        )
    except CryptoError:
        raise Damaged("the seal does not fit: damaged bytes or another key") from None


def seal_in_place(
    suite: Suite, key: bytes, nonce: bytes, room: memoryview, associated: bytes
) -> None:
    """The same with the ciphertext where the plaintext was: `room` holds that and, at its end, as
    many bytes more as a tag has. Raises Damaged if one of them has not the right length.
    """
    _check_lengths(suite, key, nonce, len(room))
    place = ffi.from_buffer("unsigned char[]", room, require_writable=True)
    encrypt = (
        lib.crypto_aead_aegis256_encrypt
        if suite is Suite.AEGIS256
        else lib.crypto_aead_xchacha20poly1305_ietf_encrypt
    )
    code = encrypt(
        place,
        ffi.NULL,
        place,
        len(room) - suite.tag_bytes,
        associated,
        len(associated),
        ffi.NULL,
        nonce,
        key,
    )
    if code:
        raise Invalid("sealing: libsodium refuses")


def unseal_into(
    suite: Suite, key: bytes, nonce: bytes, ciphertext: memoryview, associated: bytes
) -> bytearray:
    """What unseal returns, without a copy on the way. Raises Damaged."""
    _check_lengths(suite, key, nonce, len(ciphertext))
    plaintext = bytearray(len(ciphertext) - suite.tag_bytes)
    decrypt = (
        lib.crypto_aead_aegis256_decrypt
        if suite is Suite.AEGIS256
        else lib.crypto_aead_xchacha20poly1305_ietf_decrypt
    )
    code = decrypt(
        ffi.from_buffer("unsigned char[]", plaintext, require_writable=True),
        ffi.NULL,
        ffi.NULL,
        ffi.from_buffer("unsigned char[]", ciphertext),
        len(ciphertext),
        associated,
        len(associated),
        nonce,
        key,
    )
    if code:
        raise Damaged("the seal does not fit: damaged bytes or another key")
    return plaintext


def _check_lengths(suite: Suite, key: bytes, nonce: bytes, length: int) -> None:
    """libsodium reads as many bytes as it needs, whether they are there or not."""
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise Damaged(f"a key of {len(key)} bytes and a nonce of {len(nonce)}")
    if length < suite.tag_bytes:
        raise Damaged(f"a ciphertext of {length} bytes is shorter than its tag")


def wrap(key: bytes, nonce: bytes, secret: bytes, associated: bytes) -> bytes:
    """Encrypt one 32-byte secret under another key: nonce (24), then XChaCha20-Poly1305."""
    return nonce + sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(secret, associated, nonce, key)


def unwrap(key: bytes, wrapped: bytes, associated: bytes) -> bytes:
    """Undo wrap. Raises WrongKey, or Invalid for a wrong length."""
    if len(wrapped) != WRAPPED_KEY_BYTES:
        raise Invalid(f"a wrapped key has {WRAPPED_KEY_BYTES} bytes, not {len(wrapped)}")
    nonce, sealed = wrapped[:WRAP_NONCE_BYTES], wrapped[WRAP_NONCE_BYTES:]
    try:
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
    except CryptoError:
        raise WrongKey("the wrapped key does not open with this key") from None


def signing_public(seed: bytes) -> bytes:
    """Ed25519 public key of a 32-byte seed."""
    public, _secret = sodium.crypto_sign_seed_keypair(seed)
    return public


def sign(seed: bytes, message: bytes) -> bytes:
    """Ed25519 signature (64 bytes)."""
    _public, secret = sodium.crypto_sign_seed_keypair(seed)
    return sodium.crypto_sign(message, secret)[:SIGNATURE_BYTES]


def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 signature is that of the message by the public key's owner."""
    if len(public) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        sodium.crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def box_public(secret: bytes) -> bytes:
    """X25519 public key of a 32-byte secret."""
    return sodium.crypto_scalarmult_base(secret)


def box_seal(public: bytes, message: bytes) -> bytes:
    """libsodium's sealed box: only who has the secret of `public` opens it.

    The one primitive that draws its own randomness: libsodium makes the ephemeral key inside.
    Raises Invalid for what is no public key.
    """
    try:
        return sodium.crypto_box_seal(message, public)
    except CryptoError:
        raise Invalid("sealing a box: not a public key") from None


def box_open(secret: bytes, sealed: bytes, *, public: bytes = b"") -> bytes:
    """Undo box_seal; with the secret's public key, if it is at hand, faster. Raises WrongKey."""
    try:
        return sodium.crypto_box_seal_open(sealed, public or box_public(secret), secret)
    except CryptoError:
        raise WrongKey("the sealed box does not open with this key") from None


def argon2id(password: bytes, salt: bytes, *, memory_kib: int, passes: int) -> bytes:
    """Argon2id version 1.3, one lane, 32 bytes (RFC 9106). Raises Refused if memory is short."""
    algorithm = sodium.crypto_pwhash_ALG_ARGON2ID13
    memory = memory_kib * 1024
    try:
        return sodium.crypto_pwhash_alg(KEY_BYTES, password, salt, passes, memory, algorithm)
    except CryptoError:
        raise Refused(f"password hashing: {memory_kib} KiB of memory are not to be had") from None
