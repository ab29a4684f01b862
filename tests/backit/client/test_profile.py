"""Profiles and addresses: what is read back is what was written, and nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backit.client.profile import Address, Profile, fingerprint_of, one_certificate
from backit.errors import Damaged, Invalid, NotFound, Unsupported, Untrusted
from backit.ids import AccountId, DeviceId
from tests.backit.client import certificates

if TYPE_CHECKING:
    from backit.client.home import Home


@pytest.mark.parametrize(
    ("text", "shown", "target"),
    [
        ("tcp:box:7000", "tcp:box:7000", "dns:///box:7000"),
        ("tcp:box", "tcp:box:7443", "dns:///box:7443"),
        ("box.local", "tcp:box.local:7443", "dns:///box.local:7443"),
        ("box.local:1", "tcp:box.local:1", "dns:///box.local:1"),
        ("192.0.2.7:80", "tcp:192.0.2.7:80", "dns:///192.0.2.7:80"),
        ("tcp:[2001:db8::1]:80", "tcp:[2001:db8::1]:80", "dns:///[2001:db8::1]:80"),
        ("2001:db8::1", "tcp:[2001:db8::1]:7443", "dns:///[2001:db8::1]:7443"),
        ("unix:/run/box.sock", "unix:/run/box.sock", "unix:/run/box.sock"),
    ],
)
def test_an_address_is_read_as_people_write_it(text: str, shown: str, target: str) -> None:
    address = Address.parse(text)
    assert (str(address), address.target) == (shown, target)
    assert Address.parse(shown) == address


@pytest.mark.parametrize(
    "text", ["", "tcp:", "unix:", "tcp::1", "box:0", "box:65536", "box:x", "box:1:2x", "a b", "a/b"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Address.parse(text)


def make(authority: certificates.Pair) -> Profile:
    return Profile(
        "work",
        Address.parse("tcp:box:7000"),
        authority.pem,
        receipt_key=bytes(reversed(range(32))),
        user="Zoë",
        account=AccountId(bytes(range(16))),
        owner_key=bytes(range(32)),
        device=DeviceId(bytes(16)),
        label="laptop",
    )


def test_a_saved_profile_is_read_back(home: Home, authority: certificates.Pair) -> None:
    profile = make(authority)
    profile.save(home)
    assert Profile.load(home, "work") == profile


def test_a_profile_without_an_account_is_read_back(
    home: Home, authority: certificates.Pair
) -> None:
    profile = Profile("new", Address.parse("unix:/x"), authority.pem)
    profile.save(home)
    assert Profile.load(home, "new") == profile


def test_an_unknown_profile_is_not_found(home: Home) -> None:
    with pytest.raises(NotFound, match="'work'"):
        Profile.load(home, "work")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", Damaged),
        (b"[]", Damaged),
        (b'"version"', Damaged),
        (b"\xff", Damaged),
        (b'{"version": 1}', Damaged),
        (b'{"version": 2}', Unsupported),
    ],
)
def test_a_damaged_profile_is_named(home: Home, content: bytes, kind: type[Exception]) -> None:
    path = home.profile("work")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(kind, match=str(path)):
        Profile.load(home, "work")


def test_a_profile_holds_no_secrets_but_is_private_anyway(
    home: Home, authority: certificates.Pair
) -> None:
    make(authority).save(home)
    assert Path(home.profile("work")).stat().st_mode & 0o777 == 0o600


def test_the_fingerprint_is_that_of_the_certificate(authority: certificates.Pair) -> None:
    assert fingerprint_of(authority.pem) == authority.fingerprint


def test_a_second_certificate_never_becomes_a_root(authority: certificates.Pair) -> None:
    other = certificates.make_authority("somebody else")
    for text in (authority.pem + other.pem, authority.pem.rstrip("\n") + other.pem):
        try:
            alone = one_certificate(text)
        except Untrusted:
            continue
        assert alone.count("BEGIN CERTIFICATE") == 1
        assert fingerprint_of(alone) == fingerprint_of(text)


@pytest.mark.parametrize("text", ["", "certificate", "-----BEGIN CERTIFICATE-----\n!\n"])
def test_what_is_no_certificate_is_not_trusted(text: str) -> None:
    with pytest.raises(Untrusted):
        fingerprint_of(text)


def test_a_changed_pin_in_the_file_is_noticed(home: Home, authority: certificates.Pair) -> None:
    make(authority).save(home)
    path = home.profile("work")
    document = json.loads(path.read_bytes())
    document["ca_certificate"] = "none"
    path.write_text(json.dumps(document))
    with pytest.raises(Damaged):
        Profile.load(home, "work")
