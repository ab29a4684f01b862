"""What holds for every test: who may run it, and that no warning passes unseen."""

import logging
import os
from collections.abc import Iterator

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs the rights of root")


@pytest.fixture(autouse=True)
def fail_on_logged_warnings(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Python's own warnings are errors by configuration; this does the same for the log."""
    yield
    node: pytest.Item = request.node
    if node.get_closest_marker("logs_warnings"):
        return
    logged = [
        f"{record.levelname} {record.name}: {record.getMessage()}"
        for phase in ("setup", "call")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.WARNING
    ]
    assert not logged, "\n".join(logged)
