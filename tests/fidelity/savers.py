"""Those who can back a tree up and bring it back: the port the suite drives, and who is behind it.

Nothing here judges the result.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from tests.backitfs.mounts import mounted
from tests.fidelity.commands import run
from tests.programs import Person


class Saver(Protocol):
    """A way to keep one tree. Each is used for one backup, and after it for restores."""

    @property
    def loses(self) -> Mapping[str, str]:
        """Generators it may not keep whole, each with the field of `manifest` that may suffer."""
        ...

    def backup(self, source: Path) -> None:
        """Save the directory `source`, its own metadata included, and leave it as it is."""
        ...

    def restore(self, target: Path) -> None:
        """Make `target`, which does not exist yet in a directory that does, what `source` was."""
        ...


class RsyncSaver:
    """Keeps a tree as a plain copy: it shows that the suite can be passed, and where not."""

    # rsync knows no inode flags. It extends files as it writes them, and xfs allocates ahead.
    loses: Mapping[str, str] = {
        "flags_everyday": "flags",
        "flags_immutable": "flags",
        "flags_nocow": "flags",
        "sparse_files": "holes",
    }

    def __init__(self, store: Path) -> None:
        self._copy = store / "copy"

    def backup(self, source: Path) -> None:
        _copy(source, self._copy)

    def restore(self, target: Path) -> None:
        _copy(self._copy, target)


class BackitSaver:
    """Keeps a tree as a snapshot in somebody's account on a box."""

    loses: Mapping[str, str] = MappingProxyType({})

    def __init__(self, person: Person) -> None:
        self._person = person
        self._place = ""

    def backup(self, source: Path) -> None:
        summary = self._person.backup(source)
        self._place = f"{summary['snapshot']}:{source}"

    def restore(self, target: Path) -> None:
        self._person.restore(self._place, target)


class MountSaver:
    """Keeps a tree as a snapshot, and brings it back by copying it out of a mount."""

    # A mount has no inode flags, and tells no holes: a copy of a sparse file may be dense.
    loses: Mapping[str, str] = RsyncSaver.loses

    def __init__(self, person: Person, store: Path) -> None:
        self._person = person
        self._folder = store / "mnt"
        self._snapshot = ""
        self._source = Path()

    def backup(self, source: Path) -> None:
        self._snapshot = self._person.backup(source)["snapshot"]
        self._source = source

    def restore(self, target: Path) -> None:
        self._folder.mkdir()
        with mounted(self._person, self._folder, self._snapshot):
            _copy(self._folder / self._source.relative_to("/"), target)


def _copy(source: Path, target: Path) -> None:
    # Without a negative window rsync takes a new directory for right if its second is right.
    exactly = ("--numeric-ids", "--modify-window=-1", "--sparse")
    run("rsync", "-aHAX", *exactly, f"{source}/", f"{target}/")
