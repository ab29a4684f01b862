"""Files that a writing process is asked for together, and the folders that stay open for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backit.client.orders import DIRECTORIES_MAX, Order

if TYPE_CHECKING:
    from backit.client.build import Job
    from backit.client.folders import Folder, Folders


class Batch:
    """For one thread. It must be left at the end."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self.jobs: list[Job] = []
        self.orders: list[Order] = []
        self.directories: list[int] = []
        self._places: dict[Folder, int] = {}
        self._done: dict[Folder, int] = {}

    @property
    def is_full(self) -> bool:
        return len(self.directories) >= DIRECTORIES_MAX

    def add(self, job: Job, start: int, length: int) -> None:
        """A file, and where in the chunk its content lies. Raises OSError."""
        place = self._places.get(job.folder)
        if place is None:
            self.directories.append(self._folders.acquire(job.folder))
            place = self._places[job.folder] = len(self.directories) - 1
        self.jobs.append(job)
        self.orders.append(Order(place, start, length, job.whole))

    def count(self, job: Job) -> None:
        """It has come to its end."""
        self._done[job.folder] = self._done.get(job.folder, 0) + 1

    def leave(self) -> None:
        """Empty it; what was counted is done in its folders."""
        places, self._places = self._places, {}
        done, self._done = self._done, {}
        self.jobs, self.orders, self.directories = [], [], []
        for folder in places:
            self._folders.release(folder)
        for folder, count in done.items():
            self._folders.drop(folder, count)
