"""Inode numbers: what they say, and the few that have to be remembered.

Pure. A number is `slot << 40 | local`: the slot is the snapshot's (catalogue), the local part 0 for
the snapshot's root, else the entry's ordinal + 1. Names of one hard-linked file share a number with
bit 39 set, made of the inode number that the file had where it was saved; the kernel may ask for it
by that number alone, so which entry it is stays in a table until the kernel forgets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backitfs.view import Item

LOCAL_BITS = 40
LOCAL_MASK = (1 << LOCAL_BITS) - 1
LINKED = 1 << (LOCAL_BITS - 1)

ROOT = 1
# In slot 0: two numbers for each device, its folder and the link `latest` in it.
_FIRST_FOLDER = 2


@dataclass(slots=True)
class _Shared:
    """One hard-linked file: which it is, one of its entries, and how often the kernel holds it."""

    group: tuple[int, int]
    ordinal: int
    held: int = 0


class Inodes:
    """From entries to numbers and back."""

    def __init__(self) -> None:
        self._shared: dict[int, _Shared] = {}

    def __len__(self) -> int:
        """How many numbers are remembered."""
        return len(self._shared)

    def number(self, slot: int, item: Item) -> int:
        """The number of an entry."""
        entry = item.entry
        if not entry.links:
            return slot << LOCAL_BITS | item.ordinal + 1
        group = (entry.link_device, entry.inode)
        low = entry.inode % LINKED
        while True:
            number = slot << LOCAL_BITS | LINKED | low
            shared = self._shared.get(number)
            if shared is None or shared.group == group:
                return number
            low = (low + 1) % LINKED  # two files whose numbers end alike

    def hold(self, number: int, item: Item) -> None:
        """The kernel was given this number once more, for this entry."""
        if number & LINKED:
            shared = self._shared.get(number)
            if shared is None:
                group = (item.entry.link_device, item.entry.inode)
                shared = self._shared[number] = _Shared(group, item.ordinal)
            shared.held += 1

    def forget(self, numbers: Iterable[tuple[int, int]]) -> None:
        """The kernel gives up (number, how many times it was given it)."""
        for number, times in numbers:
            shared = self._shared.get(number)
            if shared is not None:
                shared.held -= times
                if shared.held <= 0:
                    del self._shared[number]

    def ordinal(self, number: int) -> int | None:
        """Which entry of its snapshot a number means; None for one that was never held."""
        if number & LINKED:
            shared = self._shared.get(number)
            return None if shared is None else shared.ordinal
        return (number & LOCAL_MASK) - 1


def slot_of(number: int) -> int:
    return number >> LOCAL_BITS


def is_root_of_snapshot(number: int) -> bool:
    return not number & LOCAL_MASK


def root_of(slot: int) -> int:
    return slot << LOCAL_BITS


def folder_number(folder: int) -> int:
    """The number of a device's folder."""
    return _FIRST_FOLDER + 2 * folder


def latest_number(folder: int) -> int:
    """The number of the link to a device's newest snapshot."""
    return folder_number(folder) + 1


def folder_of(number: int) -> tuple[int, bool]:
    """Undo folder_number (False) and latest_number (True)."""
    return (number - _FIRST_FOLDER) // 2, bool((number - _FIRST_FOLDER) % 2)
