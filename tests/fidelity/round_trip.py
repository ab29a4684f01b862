"""One backup and one restore of many trees at once, so that tests can look at one tree each.

A process start for every tree would cost minutes. Nothing here judges the result.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fidelity import manifest
from tests.fidelity.registry import Generator
from tests.fidelity.savers import Saver

SaverFactory = Callable[[Path], Saver]
"""Makes a saver that keeps what it saves in, or at least beside, the given empty directory."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A forest that was saved and restored: `source/NAME` and `restored/NAME` for each tree."""

    source: Path
    restored: Path
    before: Mapping[str, manifest.Manifest]
    """Each source tree as it was before the backup."""
    loses: Mapping[str, str]
    """What the saver cannot keep (Saver.loses)."""


def travel(room: Path, make_saver: SaverFactory, forest: Collection[Generator]) -> RoundTrip:
    """Plant a forest in the empty directory `room`, save it and restore it."""
    source, store, restored = room / "source", room / "store", room / "restored"
    source.mkdir(mode=0o750)
    store.mkdir()
    for each in forest:
        (source / each.name).mkdir()
        each.plant(source / each.name)
    before = {each.name: manifest.scan(source / each.name) for each in forest}
    saver = make_saver(store)
    saver.backup(source)
    saver.restore(restored)
    return RoundTrip(source, restored, before, saver.loses)
