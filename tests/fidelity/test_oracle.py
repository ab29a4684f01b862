"""The oracles notice: one spoilt thing in a restored tree, and they name it and nothing else."""

from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.fidelity import manifest, mutations, oracle
from tests.fidelity.filesystems import KINDS, Filesystem
from tests.fidelity.mutations import MUTATIONS, Mutation
from tests.fidelity.registry import FULL
from tests.fidelity.savers import RsyncSaver

pytestmark = pytest.mark.slow


class Specimen:
    """A source tree, its manifest, and fresh restored copies of it."""

    def __init__(self, place: Filesystem) -> None:
        self.offers = place.offers
        self._room = Path(mkdtemp(prefix="specimen ", dir=place.root))
        self.source = self._room / "source"
        self.source.mkdir()
        mutations.plant_specimen(self.source, place.offers)
        self.before = manifest.scan(self.source)
        self._saver = RsyncSaver(self._room)
        self._saver.backup(self.source)

    def restored(self) -> Path:
        target = Path(mkdtemp(dir=self._room)) / "restored"
        self._saver.restore(target)
        return target

    def differences(self, restored: Path) -> list[str]:
        return manifest.compare(self.before, manifest.scan(restored))


@pytest.fixture(scope="module", params=KINDS if FULL else KINDS[:1])
def specimen(places: Callable[[str], Filesystem], request: pytest.FixtureRequest) -> Specimen:
    return Specimen(places(request.param))


@pytest.fixture
def restored(specimen: Specimen) -> Path:
    return specimen.restored()


@pytest.fixture(params=[pytest.param(each, id=each.name) for each in MUTATIONS])
def mutation(specimen: Specimen, request: pytest.FixtureRequest) -> Mutation:
    chosen = request.param
    assert isinstance(chosen, Mutation)
    if not chosen.needs <= specimen.offers:
        pytest.skip("cannot be spoilt here")
    return chosen


def test_the_oracles_find_nothing_where_nothing_is_spoilt(
    specimen: Specimen, restored: Path
) -> None:
    assert specimen.differences(restored) == []
    assert oracle.compare(specimen.source, restored) == []


def test_one_spoilt_thing_is_named(specimen: Specimen, restored: Path, mutation: Mutation) -> None:
    if mutation.changes_times:
        mutation.spoil(restored)
    else:
        with mutations.times_kept(restored):
            mutation.spoil(restored)
    found = specimen.differences(restored)
    assert {line.split(": ")[0] for line in found} == mutation.expected
    assert not mutation.rsync_sees or oracle.compare(specimen.source, restored)


def test_a_missing_socket_is_no_loss(specimen: Specimen, restored: Path) -> None:
    with mutations.times_kept(restored):
        (restored / "socket").unlink()
    assert specimen.differences(restored) == []
    assert oracle.compare(specimen.source, restored, sockets={b"socket"}) == []
    assert len(oracle.compare(specimen.source, restored)) == 2


def test_every_field_of_the_manifest_is_spoilt_by_some_mutation() -> None:
    spoilt = {expected.split(" ")[0] for each in MUTATIONS for expected in each.expected}
    assert spoilt == {"name", "kind", "content", "holes", *manifest.COMPARED}
