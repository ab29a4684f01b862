"""How much of the disk backups may fill: all but a reserve, for collection and databases.

Statements, receipts and orders to forget may use the reserve: a full box must still be told to
forget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.errors import NoSpace
from backitd.store.files import failure

if TYPE_CHECKING:
    from pathlib import Path

    from backitd.store.files import Disk

GIB = 1 << 30
RESERVE_PERCENT = 2
RESERVE_BYTES = 5 * GIB
SMALL_DISK_PERCENT = 5


def reserve(disk_bytes: int) -> int:
    """2 %, at least 5 GiB, or 5 % of a disk on which that would be more."""
    floor = min(RESERVE_BYTES, disk_bytes * SMALL_DISK_PERCENT // 100)
    return max(disk_bytes * RESERVE_PERCENT // 100, floor)


class Space:
    """The room on the disk that holds the store."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder

    def stand(self) -> tuple[int, int]:
        """Bytes of the disk, and those of them that are free for backups."""
        try:
            total, free = self._disk.capacity(self._folder)
        except OSError as error:
            raise failure(error, "asking how full the disk is") from error
        return total, max(0, free - reserve(total))

    def require(self, size: int) -> None:
        """Raises NoSpace unless `size` more bytes leave the reserve alone."""
        _total, free = self.stand()
        if size > free:
            raise NoSpace(f"storing {size} bytes: {free} are free, the reserve left out")
