"""The box's certificates: an authority of its own that clients pin, and a leaf that renews itself.

Client and box agree on the authority alone, so the leaf's name is always APPLIANCE and its changes
concern nobody. ECDSA P-256, because gRPC refuses Ed25519 certificates. How TLS itself is limited to
version 1.3 stands in `process`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backit.errors import Damaged

if TYPE_CHECKING:
    from backitd.folder import SmallFiles
    from backitd.store import Clock

log = logging.getLogger(__name__)

APPLIANCE = "backit-appliance"
AUTHORITY_FILE = "authority.pem"
LEAF_FILE = "leaf.pem"
DAY = dt.timedelta(days=1)
AUTHORITY_LIFETIME = 3652 * DAY
LEAF_LIFETIME = 90 * DAY
RENEW_BEFORE = 30 * DAY
# Clocks of boxes and clients differ; one that is behind must not refuse a new certificate.
BACKDATED = 2 * DAY


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate (DER)."""
        return hashlib.sha256(self.certificate.public_bytes(serialization.Encoding.DER)).digest()

    def encode(self) -> bytes:
        return self.key_pem + self.certificate_pem


def decode(data: bytes, name: str) -> Pair:
    """Raises Damaged."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
        certificate = x509.load_pem_x509_certificate(data)
    except (ValueError, TypeError) as error:
        raise Damaged(f"the certificate file {name} does not decode: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Damaged(f"the certificate file {name} holds a key of the wrong kind")
    return Pair(certificate, key)


def make_authority(now: dt.datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("BackIT appliance authority")
    builder = _builder(name, name, key, now - BACKDATED, now + AUTHORITY_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_leaf(authority: Pair, now: dt.datetime) -> Pair:
    """Ends with its authority at the latest."""
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(now + LEAF_LIFETIME, authority.certificate.not_valid_after_utc)
    issuer = authority.certificate.subject
    builder = _builder(_name(APPLIANCE), issuer, key, now - BACKDATED, ends)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(APPLIANCE)]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


class Certificates:
    """The authority and the leaf in force, from files that are made at the first start."""

    def __init__(self, files: SmallFiles, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._lock = threading.Lock()
        self.authority = self._stored(AUTHORITY_FILE) or self._new_authority()
        self._leaf = self._stored(LEAF_FILE)

    def credentials(self) -> grpc.ServerCredentials:
        """For any number of ports; they see a new leaf without a restart."""
        return grpc.dynamic_ssl_server_credentials(self._configuration(), self._configuration)

    def leaf(self) -> Pair:
        """The leaf in force: a new one if the old ends soon or is another authority's."""
        now = self._now()
        with self._lock:
            if self._leaf is None or not _serves(self._leaf, self.authority, now):
                self._leaf = make_leaf(self.authority, now)
                self._files.replace(LEAF_FILE, self._leaf.encode())
                log.info("new TLS certificate until %s", self._leaf.certificate.not_valid_after_utc)
            return self._leaf

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        """gRPC asks before each handshake."""
        leaf = self.leaf()
        chain = leaf.certificate_pem + self.authority.certificate_pem
        return grpc.ssl_server_certificate_configuration([(leaf.key_pem, chain)])

    def _stored(self, name: str) -> Pair | None:
        path = self._files.folder / name
        return decode(path.read_bytes(), name) if path.exists() else None

    def _new_authority(self) -> Pair:
        authority = make_authority(self._now())
        self._files.create(AUTHORITY_FILE, authority.encode())
        log.info("new certificate authority, fingerprint %s", authority.fingerprint.hex())
        return authority

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)


def _serves(leaf: Pair, authority: Pair, now: dt.datetime) -> bool:
    certificate = leaf.certificate
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        return False
    ends = certificate.not_valid_after_utc
    last = authority.certificate.not_valid_after_utc
    return certificate.not_valid_before_utc <= now and (now < ends - RENEW_BEFORE or ends == last)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
