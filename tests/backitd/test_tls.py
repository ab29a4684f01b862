"""Promises of the certificates: one authority for life, leaves that renew themselves."""

import datetime as dt
import hashlib
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from backit.errors import Damaged
from backitd.folder import SmallFiles
from backitd.tls import APPLIANCE, AUTHORITY_FILE, LEAF_FILE, Certificates
from tests.backitd.clocks import FakeClock

DAY = 86_400


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def open_folder(folder: Path, clock: FakeClock) -> Certificates:
    return Certificates(SmallFiles(folder, clock), clock)


def test_the_authority_stays_over_restarts(folder: Path, clock: FakeClock) -> None:
    first = open_folder(folder, clock).authority
    clock.forward(365 * DAY)
    assert open_folder(folder, clock).authority.fingerprint == first.fingerprint


def test_the_fingerprint_is_what_other_programs_show(folder: Path, clock: FakeClock) -> None:
    authority = open_folder(folder, clock).authority
    der = ssl.PEM_cert_to_DER_cert(authority.certificate_pem.decode())
    assert authority.fingerprint == hashlib.sha256(der).digest()


def test_the_leaf_has_the_one_name_and_the_authoritys_signature(
    folder: Path, clock: FakeClock
) -> None:
    certificates = open_folder(folder, clock)
    leaf = certificates.leaf().certificate
    leaf.verify_directly_issued_by(certificates.authority.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [APPLIANCE]
    lifetime = leaf.not_valid_after_utc - dt.datetime.fromtimestamp(clock.now(), dt.UTC)
    assert lifetime == dt.timedelta(days=90)


def test_a_leaf_is_kept_until_a_month_before_its_end(folder: Path, clock: FakeClock) -> None:
    certificates = open_folder(folder, clock)
    first = certificates.leaf()
    clock.forward(59 * DAY)
    assert certificates.leaf() == first
    assert open_folder(folder, clock).leaf().fingerprint == first.fingerprint
    clock.forward(2 * DAY)
    second = certificates.leaf()
    assert second.fingerprint != first.fingerprint
    assert open_folder(folder, clock).leaf().fingerprint == second.fingerprint


def test_a_clock_that_was_set_back_makes_a_leaf_that_holds_then(
    folder: Path, clock: FakeClock
) -> None:
    certificates = open_folder(folder, clock)
    certificates.leaf()
    clock.forward(-30 * DAY)
    begins = certificates.leaf().certificate.not_valid_before_utc
    assert begins.timestamp() <= clock.now()


def test_a_leaf_of_another_authority_is_replaced(folder: Path, clock: FakeClock) -> None:
    first = open_folder(folder, clock).leaf()
    (folder / AUTHORITY_FILE).unlink()
    certificates = open_folder(folder, clock)
    assert certificates.leaf().fingerprint != first.fingerprint
    certificates.leaf().certificate.verify_directly_issued_by(certificates.authority.certificate)


def test_towards_the_authoritys_end_leaves_end_with_it(folder: Path, clock: FakeClock) -> None:
    certificates = open_folder(folder, clock)
    clock.forward(3652 * DAY - 10 * DAY)
    leaf = certificates.leaf()
    last = certificates.authority.certificate.not_valid_after_utc
    assert leaf.certificate.not_valid_after_utc == last
    assert certificates.leaf() == leaf


def test_keys_are_for_the_owner_alone(folder: Path, clock: FakeClock) -> None:
    open_folder(folder, clock).leaf()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes) == {AUTHORITY_FILE, LEAF_FILE}
    assert all(mode & 0o077 == 0 for mode in modes.values())


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAA=="])
def test_a_damaged_file_is_named_and_not_replaced(
    folder: Path, clock: FakeClock, content: bytes
) -> None:
    open_folder(folder, clock)
    (folder / AUTHORITY_FILE).unlink()
    (folder / AUTHORITY_FILE).write_bytes(content)
    with pytest.raises(Damaged, match=AUTHORITY_FILE):
        open_folder(folder, clock)
    assert (folder / AUTHORITY_FILE).read_bytes() == content
