"""Memory does not grow with what is saved: a bound for the client, and one for the box."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.programs import Box, Person
from tests.system.fields import crowded, fenced, scattered
from tests.system.footprint import peak, watch, watch_all
from tests.system.points import FULL
from tests.system.trees import MIB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(20_000 if FULL else 300)]

CLIENT_MAX = 300 * MIB
BOX_MAX = 400 * MIB
FEW, MANY = (1_000_000, 10_000_000) if FULL else (50_000, 150_000)
CLIENTS, EACH = (8, 1024 * MIB) if FULL else (8, 48 * MIB)
# What one more file may cost at most: so little that it is noise, or a bounded cache that fills.
SLOPE = 500


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Path]:
    """Where many small files can be planted."""
    with fenced(tmp_path, MANY + FEW) as folder:
        yield folder


@pytest.mark.parametrize("plant", [scattered, crowded], ids=lambda each: each.__name__)
def test_a_client_needs_no_more_memory_for_more_files(
    newcomer: Person, field: Path, plant: Callable[[Path, int, int], None]
) -> None:
    held: dict[str, list[int]] = {"first": [], "unchanged": []}
    source = field / "source"
    source.mkdir()
    for start, stop in ((0, FEW), (FEW, MANY)):
        plant(source, start, stop)
        for run, all_held in held.items():
            all_held.append(watch(newcomer, "backup", source))
            assert all_held[-1] < CLIENT_MAX, (run, stop, held)
    for run, (few, many) in held.items():
        assert many - few < SLOPE * (MANY - FEW), (run, held)


def test_a_restore_of_many_files_stays_within_bounds(anna: Person, field: Path) -> None:
    source, target = field / "source", field / "target"
    source.mkdir()
    scattered(source, 0, FEW)
    watch(anna, "backup", source)
    assert watch(anna, "restore", f"latest:{source}", "--to", target) < CLIENT_MAX
    assert sum(len(files) for _folder, _folders, files in os.walk(target)) == FEW


def test_many_clients_with_large_files_stay_within_bounds(
    box: Box, source: Path, tmp_path: Path
) -> None:
    rng = random.Random("many clients")
    people = [Person(tmp_path / name) for name in ("one", "another")]
    for person, address in zip(people, (box.unix, box.tcp), strict=True):
        person.joins(address, f"of many clients, {person.home.name}")
        person.logs_in()
    for number in range(CLIENTS):
        with (source / str(number)).open("wb") as file:
            # With a hole in its middle, which costs nothing.
            for at in range(0, EACH, MIB):
                file.seek(at if at < EACH // 2 else at + 1024 * MIB)
                file.write(rng.randbytes(MIB))
    held = watch_all([(people[n % 2], ("backup", source / str(n))) for n in range(CLIENTS)])
    assert max(held) < CLIENT_MAX, held
    assert box.process is not None
    assert peak(box.process.pid) < BOX_MAX
    newest = [person.snapshots()[-1] for person in people]
    targets = [tmp_path / f"restored {person.home.name}" for person in people]
    restores = [
        ("restore", each["id"], "--to", to) for each, to in zip(newest, targets, strict=True)
    ]
    held = watch_all(list(zip(people, restores, strict=True)))
    assert max(held) < CLIENT_MAX, held
    assert peak(box.process.pid) < BOX_MAX
    for each, target in zip(newest, targets, strict=True):
        path = Path(each["sources"][0]["path"])
        assert (target / path.relative_to("/")).stat().st_size == path.stat().st_size
