"""The small files that lie in the state folder beside the store.

    admin.sock      (`server`)
    invites/        (`auth.invites`)
    keys/           secrets that never leave the box
    tls/            (`tls`)

Everything else there is the store's, which also sees to it that one process has it at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backitd.store.files import Disk, create_all, failure

if TYPE_CHECKING:
    from pathlib import Path

    from backitd.store.values import Clock, Random

SECRET_BYTES = 32


class SmallFiles:
    """One folder of small files that are written whole and durably."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self._clock = clock
        self._disk = Disk()
        self._disk.probe(folder)

    def create(self, name: str, data: bytes) -> None:
        """Raises Damaged if the name exists with another content; NoSpace; Internal."""
        create_all(self._disk, [(self.folder / name, data)], int(self._clock.now()))

    def replace(self, name: str, data: bytes) -> None:
        """The name has the old content or the new one, whenever the power fails."""
        new = f"{name}.new"
        (self.folder / new).unlink(missing_ok=True)  # from a run that was killed
        self.create(new, data)
        self.rename(new, name)

    def rename(self, old: str, new: str) -> None:
        try:
            (self.folder / old).rename(self.folder / new)
            self._disk.sync_folder(self.folder)
        except OSError as error:
            raise failure(error, f"renaming {old} in {self.folder.name}") from error

    def remove(self, name: str) -> None:
        """Fine if it is gone already."""
        try:
            (self.folder / name).unlink(missing_ok=True)
            self._disk.sync_folder(self.folder)
        except OSError as error:
            raise failure(error, f"removing {name} from {self.folder.name}") from error

    def lasting_secret(self, name: str, random: Random) -> bytes:
        """32 random bytes, made once."""
        path = self.folder / name
        if not path.exists():
            self.create(name, random(SECRET_BYTES))
        return path.read_bytes()
