"""Pairing over TLS: the fingerprint that counts is that of the CA which really stands behind the
box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

from backit.client import pairing
from backit.client.profile import Address, Profile
from backit.client.remote import Appliance
from backit.errors import Invalid, Unavailable, Untrusted
from tests.backit.client import certificates
from tests.backit.client.certificates import Pair
from tests.backit.client.memory_appliance import RECEIPT_KEY, MemoryAppliance

if TYPE_CHECKING:
    from pathlib import Path

Serve = Callable[[MemoryAppliance, Pair], Address]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve an appliance in memory over TLS with this leaf; gives its address."""
    servers: list[grpc.Server] = []

    def start(memory: MemoryAppliance, leaf: Pair) -> Address:
        server = grpc.server(ThreadPoolExecutor(4))
        memory.add_to(server)
        chain = leaf.pem + memory.ca_certificate
        credentials = grpc.ssl_server_credentials([(leaf.key_pem.encode(), chain.encode())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return Address(host="127.0.0.1", port=port)

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def box(serve: Serve, authority: Pair) -> Address:
    """An honest box."""
    memory = MemoryAppliance(authority.pem, authority.fingerprint)
    return serve(memory, certificates.make_leaf(authority))


def test_a_look_finds_the_ca(box: Address, authority: Pair) -> None:
    found = pairing.look(box)
    assert (found.fingerprint, found.ca_certificate) == (authority.fingerprint, authority.pem)
    assert found.receipt_key == RECEIPT_KEY


def test_the_pinned_ca_is_all_that_is_needed(box: Address, authority: Pair) -> None:
    with Appliance.connect(Profile("default", box, authority.pem)) as appliance:
        assert appliance.introduce(authority.pem).version == "0"


def test_another_fingerprint_is_refused(box: Address) -> None:
    found = pairing.look(box)
    with pytest.raises(Untrusted, match="fingerprint"):
        pairing.check(found, bytes(32))
    pairing.check(found, found.fingerprint)


def test_a_box_cannot_name_the_ca_of_another(serve: Serve, authority: Pair) -> None:
    """Somebody in between who has seen the real CA's certificate, but not its key."""
    own = certificates.make_authority("in between")
    memory = MemoryAppliance(authority.pem, authority.fingerprint)
    address = serve(memory, certificates.make_leaf(own))
    with pytest.raises(Untrusted):
        pairing.look(address)


def test_a_pinned_client_does_not_talk_to_another_box(serve: Serve, authority: Pair) -> None:
    own = certificates.make_authority("in between")
    address = serve(
        MemoryAppliance(authority.pem, authority.fingerprint), certificates.make_leaf(own)
    )
    with pytest.raises(Untrusted, match="pinned CA"):
        Appliance.connect(Profile("default", address, authority.pem))


def test_a_certificate_for_another_name_is_not_the_appliance_s(
    serve: Serve, authority: Pair
) -> None:
    leaf = certificates.make_leaf(authority, "elsewhere.example")
    address = serve(MemoryAppliance(authority.pem, authority.fingerprint), leaf)
    with pytest.raises(Untrusted):
        Appliance.connect(Profile("default", address, authority.pem))


def test_a_second_certificate_cannot_hide_behind_the_first(serve: Serve, authority: Pair) -> None:
    """A bundle of the real CA and another must not make the other one a root."""
    own = certificates.make_authority("in between")
    bundle = authority.pem.rstrip("\n") + "\n" + own.pem
    memory = MemoryAppliance(bundle, authority.fingerprint)
    address = serve(memory, certificates.make_leaf(own))
    with pytest.raises((Untrusted, Unavailable)):
        pairing.look(address)


def test_a_unix_socket_is_paired_like_a_port(memory: MemoryAppliance, profile: Profile) -> None:
    assert pairing.look(profile.address).fingerprint == memory.ca_fingerprint


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        pairing.look(Address(path=str(tmp_path / "none.sock")))
    with pytest.raises(Unavailable):
        pairing.look(Address(host="127.0.0.1", port=1))


@pytest.mark.parametrize("separator", ["", ":", " ", "-"])
def test_a_fingerprint_is_read_as_people_copy_it(separator: str) -> None:
    raw = bytes(range(32))
    assert pairing.parse_fingerprint(raw.hex(separator) if separator else raw.hex()) == raw
    assert pairing.parse_fingerprint(pairing.show(raw).upper()) == raw


@pytest.mark.parametrize("text", ["", "00", "0" * 63, "0" * 65, "g" * 64, "\u0660" * 64])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        pairing.parse_fingerprint(text)
