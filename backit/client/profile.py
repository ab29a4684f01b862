"""A profile: one person's account on one appliance, as this machine knows it.

It pins the appliance's CA certificate, the key of its receipts and, once there is an account, the
owner's key. No secrets: those lie beside it (`device`, `login`). Nothing here talks to the
appliance.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backit.client.home import read_private, write_private
from backit.errors import Damaged, Invalid, NotFound, Unsupported, Untrusted
from backit.ids import AccountId, DeviceId

if TYPE_CHECKING:
    from backit.client.home import Home

VERSION = 1
DEFAULT_PORT = 7443


@dataclass(frozen=True, slots=True)
class Address:
    """Where an appliance is reached: a host and port over TLS, or a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read "tcp:HOST[:PORT]", "unix:PATH" or "HOST[:PORT]". Raises Invalid."""
        scheme, separator, rest = text.partition(":")
        if scheme == "unix" and separator:
            if not rest:
                raise Invalid(f"address {text!r}: the socket's path is missing")
            return cls(path=str(Path(rest).absolute()))
        host, port = _split_host(rest if scheme == "tcp" and separator else text)
        if not _is_host(host):
            raise Invalid(f"address {text[:80]!r} is neither tcp:HOST:PORT nor unix:PATH")
        return cls(host=host, port=port)

    @property
    def is_local(self) -> bool:
        return bool(self.path)

    @property
    def target(self) -> str:
        """As gRPC names it."""
        if self.path:
            return f"unix:{self.path}"
        return f"dns:///{self._host_and_port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"tcp:{self._host_and_port}"

    @property
    def _host_and_port(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _is_host(text: str) -> bool:
    if ":" not in text:
        return bool(text) and not any(c.isspace() or c == "/" for c in text)
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _split_host(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not port:
        return host, DEFAULT_PORT
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid(f"address {text[:80]!r}: {port[:20]!r} is no port")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Profile:
    """What is pinned and known; `account` and what follows it are there after signup or login."""

    name: str
    address: Address
    ca_certificate: str
    # Ed25519 key that signs the appliance's receipts, as it was told under that CA.
    receipt_key: bytes = b""
    user: str = ""
    account: AccountId | None = None
    owner_key: bytes = b""
    device: DeviceId | None = None
    label: str = ""

    @property
    def ca_fingerprint(self) -> bytes:
        """SHA-256 of the pinned CA certificate."""
        return fingerprint_of(self.ca_certificate)

    def belongs_to(self, user: str, account: AccountId, owner_key: bytes) -> Profile:
        """The same profile with its account pinned."""
        return replace(self, user=user, account=account, owner_key=owner_key)

    def save(self, home: Home) -> None:
        document = {
            "version": VERSION,
            "address": str(self.address),
            "ca_certificate": self.ca_certificate,
            "receipt_key": self.receipt_key.hex(),
            "user": self.user,
            "account": self.account.hex if self.account else None,
            "owner_key": self.owner_key.hex(),
            "device": self.device.hex if self.device else None,
            "label": self.label,
        }
        write_private(home.profile(self.name), encode(document))

    @classmethod
    def load(cls, home: Home, name: str) -> Profile:
        """Raises NotFound if there is no such profile."""
        path = home.profile(name)
        try:
            document = decode(path, read_private(path))
        except NotFound:
            raise NotFound(f"there is no profile {name!r}") from None
        try:
            account, device = document["account"], document["device"]
            return cls(
                name=name,
                address=Address.parse(document["address"]),
                ca_certificate=one_certificate(document["ca_certificate"]),
                receipt_key=bytes.fromhex(document["receipt_key"]),
                user=document["user"],
                account=AccountId.from_hex(account) if account else None,
                owner_key=bytes.fromhex(document["owner_key"]),
                device=DeviceId.from_hex(device) if device else None,
                label=document["label"],
            )
        except (KeyError, TypeError, ValueError, Invalid, Untrusted) as error:
            raise Damaged(f"profile {path}: {error!r}") from None


def one_certificate(text: str) -> str:
    """The first certificate of a PEM text, alone and in one spelling. Raises Untrusted if there is
    none.

    A text with a second certificate behind the first must never become a list of trusted roots.
    """
    return ssl.DER_cert_to_PEM_cert(_der(text))


def fingerprint_of(certificate: str) -> bytes:
    """SHA-256 of a certificate (PEM). Raises Untrusted if it is none."""
    return hashlib.sha256(_der(certificate)).digest()


def _der(text: str) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(text)
    except ValueError as error:
        raise Untrusted(f"the CA certificate is none: {error}") from None


def encode(document: dict[str, Any]) -> bytes:
    """A client's file, as it is written."""
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def decode(path: Path, content: bytes) -> dict[str, Any]:
    """A client's file, read back. Raises Damaged or Unsupported, never showing what is in it."""
    try:
        document = json.loads(content)
        version = document["version"]
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{path} is not a file of this program") from None
    if version != VERSION:
        raise Unsupported(f"{path} is of version {version!r}; this program knows {VERSION}")
    return dict(document)
