"""Fixtures for the mount: a box for each module, and somebody who is logged in."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import programs
from tests.backitfs.mounts import is_mounted
from tests.programs import Box, Person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a test that mounts needs of the machine.
CAN_MOUNT = os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("fusermount3") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="this machine or user cannot mount")
    for item in items:
        if not CAN_MOUNT and "box" in getattr(item, "fixturenames", ()):
            item.add_marker(missing)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that its tests leave running and whole."""
    with programs.running(tmp_path_factory.mktemp("box")) as found:
        yield found


@pytest.fixture
def anna(box: Box, tmp_path: Path, request: pytest.FixtureRequest) -> Person:
    """Somebody with an account of her own, who is logged in."""
    found = Person(tmp_path / "home")
    found.joins(box.unix, user_of(str(request.node.name)))
    found.logs_in()
    return found


def user_of(test: str) -> str:
    """A user name that no other test has."""
    return f"{test[:40]} {hashlib.sha256(test.encode()).hexdigest()[:8]}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder to be backed up."""
    folder = tmp_path / "source"
    folder.mkdir(mode=0o750)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount over; a test that fails leaves nothing mounted either."""
    found = tmp_path / "mnt with space"
    found.mkdir()
    yield found
    while is_mounted(found):
        subprocess.run(("fusermount3", "-u", "-z", str(found)), check=True)
