"""Disks that fail on demand, and one that knows what a power cut would leave of it."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backitd.store.files import Disk, Draft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.crypto.primitives import Buffer

# The operations that can fail, as FailingDisk counts them.
OPERATIONS = (
    "draft",
    "allocate",
    "write",
    "truncate",
    "stamp",
    "sync",
    "sync_data",
    "link",
    "sync_folder",
    "make_folder",
    "remove",
)


class Killed(BaseException):
    """Stands for the end of the process: no `except` of the store's catches it."""


class FailingDisk(Disk):
    """Fails chosen operations, each the n-th of its kind; counts all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._wanted: dict[tuple[str, int], BaseException] = {}
        self.failed = False
        # Size of the disk and what is free of it, if that is to be another than it is.
        self.pretended: tuple[int, int] | None = None

    def capacity(self, folder: Path) -> tuple[int, int]:
        return self.pretended or super().capacity(folder)

    def fail(self, operation: str, nth: int, number: int = errno.EIO) -> None:
        """The n-th such operation from now on (1 is the next) fails with this errno."""
        self._raise_at(operation, nth, OSError(number, os.strerror(number)))

    def kill(self, operation: str, nth: int) -> None:
        """There the process is killed: Killed is raised, and nobody cleans up after it."""
        self._raise_at(operation, nth, Killed())

    def _raise_at(self, operation: str, nth: int, error: BaseException) -> None:
        with self._lock:
            self._wanted[operation, self.done[operation] + nth] = error
            self.failed = False

    def heal(self) -> None:
        """Nothing fails any more."""
        with self._lock:
            self._wanted.clear()

    def _strike(self, operation: str) -> None:
        with self._lock:
            self.done[operation] += 1
            error = self._wanted.pop((operation, self.done[operation]), None)
            if error is None:
                return
            self.failed = True
        raise error

    def draft(self, folder: Path) -> Draft:
        self._strike("draft")
        return super().draft(folder)

    def allocate(self, fd: int, start: int, length: int) -> None:
        self._strike("allocate")
        super().allocate(fd, start, length)

    def write(self, fd: int, buffers: Sequence[Buffer]) -> int:
        self._strike("write")
        return super().write(fd, buffers)

    def truncate(self, fd: int, size: int) -> None:
        self._strike("truncate")
        super().truncate(fd, size)

    def stamp(self, fd: int, moment: int) -> None:
        self._strike("stamp")
        super().stamp(fd, moment)

    def sync(self, fd: int) -> None:
        self._strike("sync")
        super().sync(fd)

    def sync_data(self, fd: int) -> None:
        self._strike("sync_data")
        super().sync_data(fd)

    def link(self, draft: Draft, name: Path) -> None:
        self._strike("link")
        super().link(draft, name)

    def sync_folder(self, folder: Path) -> None:
        self._strike("sync_folder")
        super().sync_folder(folder)

    def make_folder(self, folder: Path) -> None:
        self._strike("make_folder")
        super().make_folder(folder)

    def remove(self, name: Path) -> None:
        self._strike("remove")
        super().remove(name)


@dataclass
class Durable:
    """What a power cut would leave: names that are durable in their folders, contents that are."""

    folders: set[Path] = field(default_factory=set[Path])
    files: dict[Path, tuple[bytes, int]] = field(default_factory=dict[Path, tuple[bytes, int]])

    def write_to(self, old_root: Path, new_root: Path) -> None:
        """A copy, as it would be found after the power came back."""
        for folder in sorted(self.folders):
            # A folder whose parent's entry was lost is lost with all that is in it.
            if folder.parent in self.folders or folder.parent == old_root:
                (new_root / folder.relative_to(old_root)).mkdir()
            else:
                raise AssertionError(f"{folder} is durable and its parent is not")
        for path, (content, moment) in self.files.items():
            if path.parent in self.folders or path.parent == old_root:
                copy = new_root / path.relative_to(old_root)
                copy.write_bytes(content)
                os.utime(copy, (moment, moment))


class PowerCutDisk(Disk):
    """A real disk that also keeps book of what is durable, as strictly as POSIX allows.

    Content that was not synced is lost altogether, and so is a name until its folder is synced; a
    removal that was not synced comes undone. (Real file systems lose less.)
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.steps = 0
        self._lock = threading.RLock()
        self._synced: dict[int, tuple[bytes, int]] = {}
        # Names in each folder as they are now, and as they were when it was last synced.
        self._now: dict[Path, dict[str, tuple[bytes, int] | None]] = {root: {}}
        self._then: dict[Path, dict[str, tuple[bytes, int] | None]] = {root: {}}
        # Called after every step, with the lock held.
        self.watch: list[PowerCutWatch] = []

    def durable(self) -> Durable:
        with self._lock:
            found = Durable()
            waiting = [self.root]
            while waiting:
                folder = waiting.pop()
                for name, content in self._then.get(folder, {}).items():
                    if content is None:
                        found.folders.add(folder / name)
                        waiting.append(folder / name)
                    else:
                        found.files[folder / name] = content
            return found

    def _step(self) -> None:
        self.steps += 1
        for watch in self.watch:
            watch.look(self)

    def _keep(self, fd: int) -> None:
        with self._lock:
            content = self.read(fd, 0, self.size(fd))
            self._synced[os.fstat(fd).st_ino] = (content, int(os.fstat(fd).st_mtime))
            self._step()

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self._keep(fd)

    def sync_data(self, fd: int) -> None:
        super().sync_data(fd)
        self._keep(fd)

    def link(self, draft: Draft, name: Path) -> None:
        super().link(draft, name)
        with self._lock:
            # A file that was never synced has a name and no content.
            content = self._synced.get(os.fstat(draft.fd).st_ino, (b"", 0))
            self._now.setdefault(name.parent, {})[name.name] = content
            self._step()

    def make_folder(self, folder: Path) -> None:
        super().make_folder(folder)
        with self._lock:
            self._now.setdefault(folder.parent, {}).setdefault(folder.name, None)
            self._now.setdefault(folder, {})
            self._then.setdefault(folder, {})
            self._step()

    def remove(self, name: Path) -> None:
        super().remove(name)
        with self._lock:
            self._now.setdefault(name.parent, {}).pop(name.name, None)
            self._step()

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        with self._lock:
            self._then[folder] = dict(self._now.get(folder, {}))
            self._step()


class PowerCutWatch:
    """Copies what is durable at certain steps."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps
        self.cuts: dict[int, Durable] = {}

    def look(self, disk: PowerCutDisk) -> None:
        if disk.steps in self.steps:
            self.cuts[disk.steps] = disk.durable()
