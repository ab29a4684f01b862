"""What it means that a tree came back, or holds what it held: two opinions, both strict."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.fidelity import manifest, oracle
from tests.fidelity.manifest import Manifest


def assert_same(source: Path, restored: Path) -> None:
    """Both trees are equal, their own folders included, sockets excepted. They must be at rest."""
    before = manifest.scan(source)
    assert manifest.compare(before, manifest.scan(restored)) == []
    sockets = {path for path, entry in before.items() if entry.kind == "socket"}
    assert oracle.compare(source, restored, sockets=sockets) == []


def assert_held(before: Manifest, restored: Path) -> None:
    """A restored tree is what a source was when it was looked at."""
    assert manifest.compare(before, manifest.scan(restored)) == []


@contextmanager
def unchanged(root: Path) -> Generator[None]:
    """Whatever the block does, it leaves this tree alone."""
    before = manifest.scan(root)
    yield
    assert manifest.compare(before, manifest.scan(root)) == []


def contents(root: Path) -> dict[str, bytes]:
    """The files below a folder by their path in it."""
    found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}
