"""What an account may store: the bytes of its packs, and of records on their way into one.

Snapshots in the trash and chunks that no snapshot uses yet count: they take the same room.
Directories of packs count once a pack is stored, statements and bodies of snapshots never.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backit.errors import QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from backit.ids import AccountId


class Quota:
    """The quota of every account, in bytes; 0 for none. From any thread."""

    def __init__(self, limit: int, stored: Callable[[AccountId], int]) -> None:
        self.limit = limit
        self._stored = stored
        self._lock = threading.Lock()
        self._coming: Counter[AccountId] = Counter()

    def take(self, account: AccountId, size: int) -> None:
        """Count bytes that are on their way. Raises QuotaExceeded, and counts nothing then."""
        with self._lock:
            used = self._stored(account) + self._coming[account]
            if self.limit and used + size > self.limit:
                raise QuotaExceeded(
                    f"storing {size} bytes: {used} of the account's {self.limit} are used"
                )
            self._coming[account] += size

    @contextmanager
    def storing(self, account: AccountId, size: int) -> Generator[None]:
        """They become stored inside the block: nobody sees them counted twice, or not at all."""
        with self._lock:
            yield
            self._lower(account, size)

    def give_up(self, account: AccountId, size: int) -> None:
        """They will not be stored."""
        with self._lock:
            self._lower(account, size)

    def _lower(self, account: AccountId, size: int) -> None:
        self._coming[account] -= size
        if not self._coming[account]:
            del self._coming[account]
