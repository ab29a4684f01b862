"""Fixtures of the fidelity suite: filesystems, savers, and one round trip for each pair of them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests import programs
from tests.fidelity import filesystems, registry
from tests.fidelity.filesystems import KINDS, Filesystem
from tests.fidelity.generators import GENERATORS
from tests.fidelity.registry import Generator
from tests.fidelity.round_trip import RoundTrip, SaverFactory, travel
from tests.fidelity.savers import BackitSaver, MountSaver, RsyncSaver
from tests.programs import Person

Places = Callable[[str], Filesystem]

# A million files take longer than what the other suites wait for.
FULL_SECONDS = 7000.0 if registry.FULL else programs.COMMAND_SECONDS


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Give filesystems by kind, each made when first asked for; tests without one are skipped."""
    with contextlib.ExitStack() as stack:
        known: dict[str, Filesystem | filesystems.Unavailable] = {}

        def find(kind: str) -> Filesystem:
            if kind not in known:
                scratch = tmp_path_factory.mktemp(kind)
                try:
                    known[kind] = stack.enter_context(filesystems.place(kind, scratch))
                except filesystems.Unavailable as error:
                    known[kind] = error
            found = known[kind]
            if isinstance(found, Filesystem):
                return found
            if registry.FULL or kind == KINDS[0]:
                pytest.fail(f"too little would be tested without {found}")
            pytest.skip(str(found))

        yield find


@pytest.fixture(scope="session")
def customer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Give somebody with an account on a box that runs as long as the suite."""
    folder = tmp_path_factory.mktemp("backit")
    with programs.running(folder / "box") as box:
        person = Person(folder / "home", patience=FULL_SECONDS)
        person.joins(box.tcp)
        person.logs_in()
        yield person


@pytest.fixture(scope="session")
def savers(customer: Person) -> Mapping[str, SaverFactory]:
    """Give the makers of savers by the names that tests use."""
    return {
        "rsync": RsyncSaver,
        "backit": lambda _store: BackitSaver(customer),
        "mount": lambda store: MountSaver(customer, store),
    }


@pytest.fixture(scope="session")
def round_trips(
    places: Places, savers: Mapping[str, SaverFactory], request: pytest.FixtureRequest
) -> Callable[[str, str], RoundTrip]:
    """Give the round trip of a filesystem and a saver, made when first asked for."""
    known: dict[tuple[str, str], RoundTrip | Exception] = {}
    wanted = _wanted(request.session)

    def depart(kind: str, saver: str) -> RoundTrip | Exception:
        place = places(kind)
        forest = sorted(wanted[kind, saver], key=lambda each: each.name)
        room = place.root / f"{saver} trip"
        room.mkdir()
        try:
            return travel(room, savers[saver], [e for e in forest if e.needs <= place.offers])
        except Exception as error:  # noqa: BLE001  each test that needs this trip raises it
            return error

    def round_trip(kind: str, saver: str) -> RoundTrip:
        if (kind, saver) not in known:
            known[kind, saver] = depart(kind, saver)
        found = known[kind, saver]
        if isinstance(found, Exception):
            raise found
        return found

    return round_trip


def _wanted(session: pytest.Session) -> dict[tuple[str, str], set[Generator]]:
    """Collect the trees that the tests of this very run look at, by filesystem and saver."""
    wanted: dict[tuple[str, str], set[Generator]] = {}
    for item in session.items:
        if isinstance(item, pytest.Function) and "round_trips" in item.fixturenames:
            params = item.callspec.params
            trees = wanted.setdefault((str(params["kind"]), str(params["saver"])), set())
            generator = params.get("generator")
            if isinstance(generator, Generator):
                trees.add(generator)
    for trees in wanted.values():
        if not trees:  # only tests that look at a trip as a whole were asked for
            trees.update(each for each in GENERATORS if not each.beyond_rsync)
    return wanted
