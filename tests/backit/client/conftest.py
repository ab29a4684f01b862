"""Fixtures for the client: an appliance in memory, a home, a person who has signed up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit.client import account
from backit.client.home import Home
from backit.client.profile import Address, Profile
from backit.client.remote import Appliance
from backit.client.writing_host import WritingHosts
from backit.crypto.passphrase import FLOOR
from tests.backit.client import certificates
from tests.backit.client.household import household
from tests.backit.client.memory_appliance import MemoryAppliance
from tests.backitd import daemons

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backit.client.account import Person
    from tests.backit.client.household import Household
    from tests.backitd.daemons import Box

PASSWORD = "correct horse battery staple"
NOW = 1_700_000_000


@pytest.fixture(scope="session")
def authority() -> certificates.Pair:
    """The certificate authority of the appliance in memory."""
    return certificates.make_authority()


@pytest.fixture
def memory(authority: certificates.Pair, tmp_path: Path) -> Iterator[MemoryAppliance]:
    """An appliance that listens on a socket in tmp_path."""
    found = MemoryAppliance(authority.pem, authority.fingerprint)
    server = found.serve(tmp_path / "box.sock")
    yield found
    server.stop(None).wait()


@pytest.fixture
def profile(memory: MemoryAppliance, tmp_path: Path) -> Profile:
    """A profile that pins the appliance in memory."""
    address = Address(path=str(tmp_path / "box.sock"))
    return Profile("default", address, memory.ca_certificate)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Where one person's files lie."""
    return Home.find({"BACKIT_HOME": str(tmp_path / "home")})


@pytest.fixture
def appliance(profile: Profile) -> Iterator[Appliance]:
    """A connection that nobody has logged in on yet."""
    with Appliance.connect(profile) as found:
        yield found


@pytest.fixture
def anna(appliance: Appliance) -> Person:
    """Somebody who has just signed up, with the cheapest password hashing there is."""
    return account.sign_up(appliance, "anna", PASSWORD, invite="", now=NOW, cost=FLOOR)


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    """A real daemon, for everybody."""
    with daemons.box() as running:
        yield running


@pytest.fixture
def house(box: Box, tmp_path: Path) -> Iterator[Household]:
    """Somebody of their own at the real daemon, with a machine."""
    with household(box, tmp_path.name, tmp_path / "machine") as found:
        yield found


@pytest.fixture
def written_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """All small files of a restore are written by other processes, however few."""

    def always(_self: WritingHosts, _files: int) -> bool:
        return True

    monkeypatch.setattr(WritingHosts, "are_worth", always)


@pytest.fixture(params=["here", "apart"])
def written_here_or_apart(request: pytest.FixtureRequest) -> None:
    """A restore's small files are written by its own process, or all of them by others."""
    if request.param == "apart":
        request.getfixturevalue("written_apart")
