"""Fixtures for whole-program tests: a box for each module, and people who have signed up on it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import programs
from tests.programs import Box, Person

# Before anything imports it: its assertions say what differs, like those of tests.
pytest.register_assert_rewrite("tests.system.sameness")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that its tests leave running and whole."""
    with programs.running(tmp_path_factory.mktemp("box")) as found:
        yield found


@pytest.fixture(scope="module")
def anna(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody with an account and a machine, who is logged in. All tests of a module share her."""
    found = Person(tmp_path_factory.mktemp("anna") / "home")
    found.joins(box.unix)
    found.logs_in()
    return found


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user name that no other test has."""
    name = str(request.node.name)
    return f"{name[:40]} {hashlib.sha256(name.encode()).hexdigest()[:8]}"


@pytest.fixture
def newcomer(box: Box, user: str, tmp_path: Path) -> Person:
    """Somebody with an account of which nobody else knows, who is logged in."""
    found = Person(tmp_path / "home")
    found.joins(box.unix, user)
    found.logs_in()
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder to be backed up."""
    folder = tmp_path / "source"
    folder.mkdir(mode=0o750)
    return folder
