"""Fixtures for the tests of the store: no daemon, no socket, real files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backitd.store.boxes import Box, Session, open_box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """An empty store."""
    with open_box(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def session(box: Box) -> Session:
    """Anna's laptop, in the middle of its first backup."""
    return box.new_session()
