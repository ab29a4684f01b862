"""Waiting for what is bound to happen: as long as it takes, and yet not for ever.

The bound counts looks, not time: a machine that stands still for a minute uses up one of them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

LOOK_SECONDS = 0.02
# A minute and a half on a machine that has nothing else to do.
LOOKS = 4_500


class NeverCame(AssertionError):
    """Something that was bound to happen did not."""


def until(condition: Callable[[], bool], what: str, looks: int = LOOKS) -> None:
    """Look again and again. Raises NeverCame."""
    for _ in range(looks):
        if condition():
            return
        time.sleep(LOOK_SECONDS)
    raise NeverCame(f"it never came true: {what}")


def notified(changed: threading.Condition, condition: Callable[[], bool], what: str) -> None:
    """The same, for who holds the lock of what changes and is told when it does."""
    looks = 0
    while not condition():
        if looks == LOOKS:
            raise NeverCame(f"it never came true: {what}")
        # What one is told of costs nothing: only silence counts.
        looks += not changed.wait(LOOK_SECONDS)
