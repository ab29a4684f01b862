"""Fixtures for tests that talk to a running daemon."""

from collections.abc import Iterator

import pytest

from tests.backitd import daemons
from tests.backitd.daemons import Box


@pytest.fixture
def box() -> Iterator[Box]:
    """A daemon of its own for the test."""
    with daemons.box() as running:
        yield running
