"""The reserve: what a disk keeps back."""

import pytest

from backitd.store.space import GIB, reserve


@pytest.mark.parametrize(
    ("disk", "kept"),
    [
        (1000 * GIB, 20 * GIB),
        (250 * GIB, 5 * GIB),
        (100 * GIB, 5 * GIB),
        (20 * GIB, 1 * GIB),
        (0, 0),
    ],
)
def test_two_percent_but_five_gib_unless_the_disk_is_small(disk: int, kept: int) -> None:
    assert reserve(disk) == kept
