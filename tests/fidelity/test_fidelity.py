"""Every tree comes back as it was, on every filesystem, judged twice: by ourselves and by rsync."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fidelity import manifest, oracle
from tests.fidelity.filesystems import HERE, KINDS, Filesystem
from tests.fidelity.generators import GENERATORS
from tests.fidelity.registry import FULL, Generator, Need
from tests.fidelity.round_trip import RoundTrip

Places = Callable[[str], Filesystem]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if FULL else 180)]

RoundTrips = Callable[[str, str], RoundTrip]

SAVERS = ("rsync", "backit", "mount")
# They copy with rsync, which carries no more than rsync carries, and reads holes.
COPIERS = {"rsync", "mount"}

# What the suite would quietly stop testing if a filesystem were made differently.
LACKS = {
    "ext4": {Need.BIG_XATTRS, Need.NOCOW, Need.REFLINKS},
    "xfs": {Need.LARGE_DEVICE_NUMBERS, Need.LONG_SYMLINKS, Need.NOCOW},
    "btrfs": {Need.BIG_XATTRS},
}


def _journeys(*, judged_by_rsync: bool) -> list[object]:
    return [
        pytest.param(kind, saver, each, id=f"{kind}-{saver}-{each.name}")
        for kind in KINDS
        for saver in SAVERS
        for each in GENERATORS
        if not (each.beyond_rsync and (saver in COPIERS or judged_by_rsync))
        and not (saver == "mount" and Need.HUGE_FILES in each.needs)
    ]


@pytest.mark.parametrize(("kind", "saver", "generator"), _journeys(judged_by_rsync=False))
def test_a_restored_tree_is_what_was_saved(
    kind: str, saver: str, generator: Generator, places: Places, round_trips: RoundTrips
) -> None:
    _skip_unless_offered(places, kind, generator)
    trip = round_trips(kind, saver)
    restored = manifest.scan(trip.restored / generator.name)
    found = manifest.compare(trip.before[generator.name], restored)
    lost = trip.loses.get(generator.name)
    assert [line for line in found if line.split(" ")[0] != lost] == []


@pytest.mark.parametrize(("kind", "saver", "generator"), _journeys(judged_by_rsync=True))
def test_rsync_finds_nothing_to_change(
    kind: str, saver: str, generator: Generator, places: Places, round_trips: RoundTrips
) -> None:
    _skip_unless_offered(places, kind, generator)
    trip = round_trips(kind, saver)
    source, restored = trip.source / generator.name, trip.restored / generator.name
    before = trip.before[generator.name]
    sockets = {path for path, entry in before.items() if entry.kind == "socket"}
    assert oracle.compare(source, restored, sockets=sockets) == []


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_backup_leaves_its_source_alone(kind: str, saver: str, round_trips: RoundTrips) -> None:
    trip = round_trips(kind, saver)
    for name, before in trip.before.items():
        assert manifest.compare(before, manifest.scan(trip.source / name)) == []


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_restore_brings_its_trees_and_nothing_else(
    kind: str, saver: str, round_trips: RoundTrips
) -> None:
    trip = round_trips(kind, saver)
    assert {each.name for each in trip.restored.iterdir()} == set(trip.before)
    source, restored = trip.source.stat(), trip.restored.stat()
    for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
        assert getattr(restored, field) == getattr(source, field), field


def _twins() -> list[object]:
    """Give every tree once, and those that rsync cannot carry on each filesystem."""
    return [
        pytest.param(kind, each, id=f"{kind}-{each.name}")
        for kind in KINDS
        for each in GENERATORS
        if each.repeatable and not each.heavy and (kind in {HERE, "ext4"} or each.beyond_rsync)
    ]


@pytest.mark.parametrize(("kind", "generator"), _twins())
def test_a_seed_always_grows_the_same_tree(kind: str, generator: Generator, places: Places) -> None:
    room = _skip_unless_offered(places, kind, generator)
    manifests: list[manifest.Manifest] = []
    for twin in ("a", "b"):
        root = room / f"{twin} {generator.name}"
        root.mkdir()
        generator.plant(root)
        manifests.append(manifest.scan(root))
    assert manifest.compare(*manifests, without={"mtime_ns"}) == []
    assert len(manifests[0]) > 1


@pytest.mark.parametrize("kind", [each for each in KINDS if each != HERE])
def test_a_filesystem_offers_what_the_suite_relies_on(kind: str, places: Places) -> None:
    assert frozenset(Need) - places(kind).offers == LACKS[kind]


def _skip_unless_offered(places: Places, kind: str, generator: Generator) -> Path:
    place = places(kind)
    missing = generator.needs - place.offers
    if missing:
        pytest.skip(f"{kind} lacks {', '.join(sorted(each.value for each in missing))}")
    return place.root
