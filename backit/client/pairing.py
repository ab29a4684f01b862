"""Pairing: finding out which CA stands behind an address, before anything is trusted or any
password typed.

The person compares the fingerprint with the one the box shows, or has it typed in, or trusts the
first use. After that the CA's certificate is pinned in the profile, and only it can answer.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from backit.client import tls
from backit.client.border import DEADLINE_SECONDS
from backit.client.channel import open_channel
from backit.client.profile import fingerprint_of, one_certificate
from backit.client.remote import Appliance
from backit.client.status import error_of
from backit.crypto import primitives
from backit.errors import Invalid, Untrusted
from backit.v1 import appliance_pb2, appliance_pb2_grpc

if TYPE_CHECKING:
    from backit.client.profile import Address

FINGERPRINT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Found:
    """An appliance that proved to hold the key of this CA; whether it is the right one is for
    people to say.
    """

    address: Address
    ca_certificate: str
    receipt_key: bytes
    version: str
    open_signup: bool

    @property
    def fingerprint(self) -> bytes:
        return fingerprint_of(self.ca_certificate)


def look(address: Address) -> Found:
    """Who is at this address. Raises Unavailable, or Untrusted if its certificate is not by the CA
    it names.
    """
    root = "" if address.is_local else tls.shown_certificate(address)
    claimed = _claimed_ca(address, root)
    # Once more with the CA as the only root: now the handshake proves that this CA stands behind
    # the box.
    with Appliance(address, claimed) as appliance:
        found = appliance.introduce(claimed)
    return Found(address, claimed, found.receipt_key, found.version, found.open_signup)


def _claimed_ca(address: Address, shown: str) -> str:
    """The CA certificate that a box names, over a channel that only the certificate just shown can
    end.
    """
    with open_channel(address, shown) as channel:
        stub = appliance_pb2_grpc.ApplianceServiceStub(channel)
        try:
            found = stub.GetAppliance(appliance_pb2.GetApplianceRequest(), timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            raise error_of(error, "GetAppliance") from None
    return one_certificate(found.ca_certificate)


def check(found: Found, expected: bytes) -> None:
    """Raises Untrusted unless this is the CA that was expected."""
    if not primitives.equal(found.fingerprint, expected):
        raise Untrusted(
            f"the appliance at {found.address} has fingerprint {show(found.fingerprint)}, "
            f"not {show(expected)}"
        )


def parse_fingerprint(text: str) -> bytes:
    """Read a fingerprint as people type it: 64 hexadecimal digits, with any ':', '-' and spaces
    between.
    """
    digits = "".join(text.replace(":", "").replace("-", "").split())
    if len(digits) != 2 * FINGERPRINT_BYTES or not set(digits) <= set(string.hexdigits):
        raise Invalid(f"a fingerprint has {2 * FINGERPRINT_BYTES} hexadecimal digits; this is none")
    return bytes.fromhex(digits)


def show(fingerprint: bytes) -> str:
    """A fingerprint as people compare it: groups of four digits."""
    digits = fingerprint.hex()
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))
