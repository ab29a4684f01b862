"""A path of open directories from the root down, of any depth with few handles.

Handles far up are closed on the way down and opened again on the way back, through ".." and only if
it is still the same directory. What is done in the directories is the walker's business (scan.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.client.handles import Identity, identity, open_above, open_below

if TYPE_CHECKING:
    from collections.abc import Callable

HANDLES_MAX = 64


@dataclass(slots=True)
class _Step:
    fd: int
    identity: Identity
    length: int
    # How to open it again: for reading, or only to look names up.
    flags: int


class Descent:
    """The directory the walker is in, and those above it. Made in the file system's root."""

    def __init__(self, flags: int, *, handles: int = HANDLES_MAX) -> None:
        """`flags` are os.O_RDONLY or os.O_PATH, for the root."""
        self._handles = handles
        self._root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._steps: list[_Step] = []
        # Steps above this one have had their handles closed.
        self._open_from = 0
        # The path as keys have it: each component followed by a zero byte.
        self.directory = b""
        try:
            fd = os.open("/", flags | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            os.close(self._root)
            raise
        self._steps.append(_Step(fd, identity(fd), 0, flags))

    @property
    def fd(self) -> int:
        """The handle of the deepest directory."""
        return self._steps[-1].fd

    @property
    def path(self) -> bytes:
        return b"/" + self.directory[:-1].replace(b"\0", b"/")

    def path_of(self, name: bytes) -> bytes:
        return b"/" + self.directory.replace(b"\0", b"/") + name

    def enter(self, name: bytes, opener: Callable[[int, bytes], int], flags: int) -> os.stat_result:
        """Go down. `opener` opens a name below a handle. Raises OSError, and then nothing has
        changed.
        """
        fd = opener(self._steps[-1].fd, name)
        try:
            found = os.fstat(fd)
            self.directory = b"".join((self.directory, name, b"\0"))
            step = _Step(fd, (found.st_dev, found.st_ino), len(self.directory), flags)
        except BaseException:
            os.close(fd)
            raise
        self._steps.append(step)
        if len(self._steps) - self._open_from > self._handles:
            farthest = self._steps[self._open_from]
            os.close(farthest.fd)
            farthest.fd = -1
            self._open_from += 1
        return found

    def leave(self) -> None:
        """Go up. Raises OSError if the directory above cannot be opened again: it must be left
        next.
        """
        left = self._steps.pop()
        try:
            if self._steps:
                above = self._steps[-1]
                self.directory = self.directory[: above.length]
                if above.fd < 0:
                    self._open_again(above, left.fd)
        finally:
            if left.fd >= 0:
                os.close(left.fd)

    def close(self) -> None:
        for step in self._steps:
            if step.fd >= 0:
                os.close(step.fd)
        self._steps.clear()
        os.close(self._root)

    def _open_again(self, step: _Step, below: int) -> None:
        self._open_from = len(self._steps) - 1
        if below >= 0:
            step.fd = open_above(below, step.identity, step.flags)
            if step.fd >= 0:
                return
        fd = open_below(self._root, self.directory.split(b"\0")[:-1])
        if identity(fd) == step.identity:
            step.fd = fd
            return
        os.close(fd)
        raise FileNotFoundError("it was moved away while it was being read")
