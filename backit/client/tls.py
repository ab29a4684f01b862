"""What a TLS handshake shows of an appliance, below gRPC: its certificate, and whether a pinned CA
stands behind it.

No trust is decided here: `pairing` compares, `remote` connects.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from backit.errors import Unavailable, Untrusted

if TYPE_CHECKING:
    from backit.client.profile import Address

# The one name in every appliance's certificate: trust is in the CA, not in what the network calls
# the box.
SERVER_NAME = "backit-appliance"
TIMEOUT_SECONDS = 10.0


def shown_certificate(address: Address) -> str:
    """The certificate (PEM) that the appliance shows; not to be believed yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    found = _handshake(address, context)
    if found is None:
        raise Unavailable(f"connecting to {address}: it shows no certificate")
    return ssl.DER_cert_to_PEM_cert(found)


def check_pin(address: Address, ca_certificate: str) -> None:
    """Raises Untrusted if another CA stands behind the appliance at this address, Unavailable if
    none answers.
    """
    context = ssl.create_default_context(cadata=ca_certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _handshake(address, context)


def _handshake(address: Address, context: ssl.SSLContext) -> bytes | None:
    try:
        with (
            socket.create_connection((address.host, address.port), TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=SERVER_NAME) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(
            f"connecting to {address}: its certificate is not by the pinned CA "
            f"({error.verify_message})"
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise Unavailable(f"connecting to {address}: {why}") from None
