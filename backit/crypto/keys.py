"""The key tree of FORMAT.md section 4: which key names, seals, wraps and signs what.

Values that hold secrets print without them, and refuse a secret of a wrong length (Invalid). No
formats, no storage, no randomness: secrets come in as arguments.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import Invalid, WrongKey

if TYPE_CHECKING:
    from backit.ids import AccountId, DomainId

LOGIN_LABEL = b"BackIT v1 login\0"
SUCCESSION_LABEL = b"BackIT v1 succession\0"
WRAPPED_LABEL = b"BackIT v1 wrapped\0"
ENROLMENT_LABEL = b"BackIT v1 enrolment\0"


def succession_message(account: AccountId, number: int, owner_key: bytes) -> bytes:
    """What an owner signs to make `owner_key` the account's next owner, under that number."""
    return SUCCESSION_LABEL + account.raw + struct.pack("<Q", number) + owner_key


def check_length(data: bytes, length: int, what: str) -> None:
    """Raises Invalid."""
    if len(data) != length:
        raise Invalid(f"{what} has {length} bytes, not {len(data)}")


def encode_text(text: str, what: str) -> bytes:
    """UTF-8. Raises Invalid for what has none: bytes that were no text when Python read them."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} that cannot be written in UTF-8") from None


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key: an owner's, a login's or a device's."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_length(self.seed, primitives.KEY_BYTES, "the seed of a signing key")

    @cached_property
    def public(self) -> bytes:
        return primitives.signing_public(self.seed)

    def sign(self, message: bytes) -> bytes:
        return primitives.sign(self.seed, message)

    def answer(self, challenge: bytes, ca_fingerprint: bytes, name: str) -> bytes:
        """Sign a login challenge (scheme 1)."""
        return self.sign(login_message(challenge, ca_fingerprint, name))


def login_message(challenge: bytes, ca_fingerprint: bytes, name: str) -> bytes:
    """What a login signs; `name` is "user:NAME", "slots/HEX" or "devices/HEX". Raises Invalid."""
    check_length(challenge, primitives.HASH_BYTES, "a login challenge")
    check_length(ca_fingerprint, primitives.HASH_BYTES, "a certificate's fingerprint")
    return (
        LOGIN_LABEL
        + challenge
        + ca_fingerprint
        + primitives.digest(encode_text(name, "a login name"))
    )


@dataclass(frozen=True)
class SlotKeys:
    """What a slot's secret (stretched password, kit or key file) makes."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_length(self.secret, primitives.KEY_BYTES, "a slot secret")

    @cached_property
    def login(self) -> SigningKey:
        return SigningKey(primitives.derive("slot login", self.secret))

    @cached_property
    def key(self) -> bytes:
        return primitives.derive("slot key", self.secret)

    def commitment(self, salt: bytes, memory_kib: int, passes: int) -> bytes:
        """Binds the slot to this key and these parameters before anything is decrypted."""
        numbers = struct.pack("<II", memory_kib, passes)
        return primitives.derive("slot commitment", self.key, salt, numbers)


@dataclass(frozen=True)
class RootKey:
    """The account root key: opens everything of one account."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_length(self.secret, primitives.KEY_BYTES, "a root key")

    @cached_property
    def owner(self) -> SigningKey:
        return SigningKey(primitives.derive("owner key", self.secret))

    @cached_property
    def wrap_key(self) -> bytes:
        return primitives.derive("wrap key", self.secret)


@dataclass(frozen=True, slots=True)
class WrapContext:
    """The statement a wrapped secret belongs to; it opens nowhere else."""

    account: AccountId
    kind: int
    subject: bytes
    number: int

    def associated(self) -> bytes:
        head = WRAPPED_LABEL + self.account.raw + bytes([self.kind])
        return head + self.subject.ljust(16, b"\0") + struct.pack("<Q", self.number)


@dataclass(frozen=True)
class VaultKey:
    """An epoch's secret: opens session keys."""

    epoch: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_length(self.secret, primitives.KEY_BYTES, "a vault secret")

    @cached_property
    def public(self) -> bytes:
        return primitives.box_public(self.secret)


@dataclass(frozen=True)
class DomainKeys:
    """What a domain's secret makes: names of chunks and where they end."""

    domain: DomainId
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_length(self.secret, primitives.KEY_BYTES, "a domain secret")

    @cached_property
    def data_id_key(self) -> bytes:
        return primitives.derive("data id", self.secret)

    @cached_property
    def node_id_key(self) -> bytes:
        return primitives.derive("node id", self.secret)

    @cached_property
    def content_key(self) -> bytes:
        return primitives.derive("content hash", self.secret)

    @cached_property
    def content_list_key(self) -> bytes:
        return primitives.derive("content list", self.secret)

    @cached_property
    def boundary_key(self) -> bytes:
        return primitives.derive("node boundary", self.secret)

    @cached_property
    def chunker_seed(self) -> int:
        """63 bits: the chunker shifts it once more."""
        (number,) = struct.unpack_from("<Q", primitives.derive("chunker seed", self.secret))
        return (number & (2**63 - 1)) or 1


def session_commitment(session_key: bytes) -> bytes:
    return primitives.derive("session commitment", session_key)


def open_session_key(vault: VaultKey, sealed_key: bytes, commitment: bytes) -> bytes:
    """The session key of a session statement. Raises WrongKey if it is not the committed one."""
    if len(sealed_key) != primitives.SEALED_KEY_BYTES:
        raise WrongKey(f"a sealed session key of {len(sealed_key)} bytes")
    key = primitives.box_open(vault.secret, sealed_key, public=vault.public)
    if not primitives.equal(session_commitment(key), commitment):
        raise WrongKey("the session key is not the one its statement commits to")
    return key


def cache_key(device: SigningKey) -> bytes:
    """Seals what a device keeps for itself."""
    return primitives.derive("cache key", device.seed)


def enrolment_code(device_key: bytes, box_key: bytes) -> str:
    """What people compare before they approve a machine: four groups of five decimal digits.

    66 bits: a box that wants to slip its own machine in would have to find keys with the same code
    while people are comparing.
    """
    digest = primitives.digest(ENROLMENT_LABEL, device_key, box_key)
    digits = f"{int.from_bytes(digest[:16], 'little') % 10**20:020d}"
    return "-".join(digits[i : i + 5] for i in (0, 5, 10, 15))
