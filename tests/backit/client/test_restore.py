"""What a restore brings back is what was saved."""

import os
import random
import resource
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from backit.client.outcome import RestoreOptions, RestoreResult, Silent
from backit.engine.plan import Action, Overwrite
from backit.errors import Conflict, Invalid, NotFound
from backit.format.node import encode_time
from backit.ids import ChunkId
from tests.backit.client.shelf import (
    NUMERIC,
    Item,
    Saver,
    Shelf,
    components,
    directory_entry,
    file_entry,
    in_order,
    read_items,
    restore,
)
from tests.fidelity import manifest

pytestmark = pytest.mark.usefixtures("written_here_or_apart")


def plant(root: Path, seed: int = 1) -> None:
    """A small tree of everything that needs no special rights."""
    rng = random.Random(seed)
    for folder in ("a", "a/b", "c", "empty", "c/d e\n"):
        (root / folder).mkdir(parents=True)
    for number in range(60):
        size = rng.choice((0, 1, 100, 5_000, 70_000))
        folder = rng.choice(("a", "a/b", "c", "c/d e\n"))
        (root / folder / f"f{number}").write_bytes(rng.randbytes(size))
    (root / "large").write_bytes(rng.randbytes(3_000_000))
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(10 << 20)
        for offset in (0, 3 << 20, (9 << 20) + 7):
            sparse.seek(offset)
            sparse.write(rng.randbytes(400_000))
    with (root / "hollow").open("wb") as hollow:
        hollow.truncate(1 << 20)
    (root / "a" / "link").symlink_to("../c/nowhere")
    os.mkfifo(root / "c" / "pipe", 0o640)
    (root / "a" / "first").write_bytes(rng.randbytes(300_000))
    for name in ("b/second", "b/third"):
        os.link(root / "a" / "first", root / "a" / name)
    (root / "c" / "linked").hardlink_to(root / "a" / "b" / "second")
    os.setxattr(root / "large", "user.note", b"\0\xff")
    os.setxattr(root / "a", "user.note", b"on a directory")
    (root / "a" / "b").chmod(0o2750)
    (root / "c" / "f_locked").write_bytes(b"read only")
    (root / "c" / "f_locked").chmod(0o400)
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(0, rng.randrange(10**18)), follow_symlinks=False)


def scan(root: Path) -> manifest.Manifest:
    return manifest.scan(root)


def save(source: Path) -> tuple[ChunkId, Shelf]:
    saver = Saver()
    return saver.save(read_items(os.fsencode(source))), saver.shelf


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    plant(path)
    return path


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_tree_comes_back_as_it_was(
    source: Path, tmp_path: Path, threads: int, *, backwards: bool
) -> None:
    before = scan(source)
    root, shelf = save(source)
    shelf.backwards = backwards
    options = RestoreOptions(numeric_ids=True, threads=threads)
    result = restore(root, shelf, tmp_path / "target", components(source), options)
    assert manifest.compare(before, scan(tmp_path / "target")) == []
    assert result.is_whole
    assert (result.failures, result.keeps, result.warnings) == ((), (), ())
    assert result.actions == {Action.MAKE: len(before) - 3, Action.LINK: 3}
    files = [entry for entry in before.values() if entry.kind == "file"]
    assert result.written == sum(entry.size for entry in files) - 3 * 300_000
    assert len(shelf.asked) == len(set(shelf.asked)), "each chunk is fetched once"


def test_everything_goes_below_the_target_at_its_place(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    restore(root, shelf, tmp_path / "target")
    place = tmp_path / "target" / source.relative_to("/")
    assert manifest.compare(scan(source), scan(place)) == []
    assert [each.name for each in (tmp_path / "target").iterdir()] == [source.parts[1]]


def test_a_single_file_goes_into_the_target_under_its_name(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    for number, name in enumerate(("large", "a/link", "a/b/second")):
        target = tmp_path / f"target{number}"
        result = restore(root, shelf, target, components(source / name))
        (only,) = target.iterdir()
        assert only.name == Path(name).name
        assert only.lstat().st_mtime_ns == (source / name).lstat().st_mtime_ns
        assert result.actions == {Action.MAKE: 1}
    assert (tmp_path / "target0" / "large").read_bytes() == (source / "large").read_bytes()


def test_a_path_that_is_not_in_the_snapshot_is_named(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    with pytest.raises(NotFound, match="/no/such is not in the snapshot"):
        restore(root, shelf, tmp_path / "target", [b"no", b"such"])
    assert not (tmp_path / "target").exists()


def test_a_target_that_is_a_file_is_refused(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    (tmp_path / "target").write_bytes(b"mine")
    with pytest.raises(Invalid, match="target: it is not a directory"):
        restore(root, shelf, tmp_path / "target", components(source))
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_two_restores_into_one_target_do_not_meet(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    target = tmp_path / "target"

    class Meddler(Silent):
        refused = False

        def done(self, path: bytes, action: Action, size: int) -> None:
            if not self.refused:
                self.refused = True
                with pytest.raises(Conflict, match="another restore is at work there"):
                    restore(root, Shelf(shelf.chunks_held, shelf.nodes), target, components(source))

    meddler = Meddler()
    result = restore(root, shelf, target, components(source), progress=meddler)
    assert meddler.refused
    assert result.is_whole
    restore(root, shelf, target, components(source))


def test_a_second_run_does_nothing(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    target = tmp_path / "target"
    first = restore(root, shelf, target, components(source))
    inodes = {path: path.lstat().st_ino for path in target.rglob("*")}
    shelf.asked.clear()
    second = restore(root, shelf, target, components(source))
    assert second.actions == {Action.NOTHING: sum(first.actions.values())}
    assert (second.written, shelf.asked) == (0, [])
    assert inodes == {path: path.lstat().st_ino for path in target.rglob("*")}
    assert manifest.compare(scan(source), scan(target)) == []


def test_a_dry_run_says_what_a_run_would_do_and_does_nothing(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    target = tmp_path / "target"
    dry = RestoreOptions(numeric_ids=True, dry_run=True)

    class Listener(Silent):
        def __init__(self) -> None:
            self.heard: set[tuple[bytes, Action]] = set()

        def done(self, path: bytes, action: Action, size: int) -> None:
            self.heard.add((path, action))

    def compare() -> RestoreResult:
        before = scan(target) if target.exists() else None
        rehearsal, performance = Listener(), Listener()
        expected = restore(root, shelf, target, components(source), dry, rehearsal)
        assert (scan(target) if target.exists() else None) == before
        result = restore(root, shelf, target, components(source), NUMERIC, performance)
        same = {(p, a) for p, a in rehearsal.heard if a is not Action.NOTHING}
        done = {(p, a) for p, a in performance.heard if a is not Action.NOTHING}
        # Of a tree that is all new, a rehearsal does not tell links from files.
        assert {p for p, _a in same} >= {p for p, _a in done} - {os.fsencode(target)}
        assert expected.failed == expected.kept == 0
        return result

    compare()
    assert compare().actions.keys() == {Action.NOTHING}
    (target / "large").write_bytes(b"other")
    os.utime(target / "large", ns=(0, 0))
    shutil.rmtree(target / "c")
    (target / "a" / "b" / "third").unlink()
    result = compare()
    assert result.actions[Action.REPLACE] == 1
    assert manifest.compare(scan(source), scan(target)) == []


def test_nothing_that_the_snapshot_lacks_is_deleted(source: Path, tmp_path: Path) -> None:
    root, shelf = save(source)
    target = tmp_path / "target"
    (target / "a").mkdir(parents=True)
    (target / "a" / "mine").write_bytes(b"mine")
    (target / "own").mkdir()
    result = restore(root, shelf, target, components(source))
    assert result.is_whole
    assert (target / "a" / "mine").read_bytes() == b"mine"
    assert (target / "own").is_dir()


def test_a_target_in_use_keeps_its_own_owner_and_mode(source: Path, tmp_path: Path) -> None:
    """Restoring a home into /tmp must not make /tmp somebody's home."""
    root, shelf = save(source)
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").touch()
    target.chmod(0o1777)
    source.chmod(0o700)
    restore(root, shelf, target, components(source))
    assert stat.S_IMODE(target.stat().st_mode) == 0o1777


def test_an_empty_target_becomes_what_it_stands_for(source: Path, tmp_path: Path) -> None:
    source.chmod(0o711)
    root, shelf = save(source)
    (tmp_path / "target").mkdir()
    restore(root, shelf, tmp_path / "target", components(source))
    assert manifest.compare(scan(source), scan(tmp_path / "target")) == []
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o711


DEEP = 3_000
HANDLES = 100
HANDLES_OF_OTHERS = 400


def test_a_tree_deeper_than_paths_and_handles_go_comes_back(tmp_path: Path) -> None:
    items: list[Item] = []
    directory = b""
    for level in range(DEEP):
        items.append(Item(directory, directory_entry(b"d", mtime=encode_time(level))))
        directory += b"d\0"
        if level % 500 == 0:
            items.append(Item(directory, file_entry(b"a", b"x%d" % level), b"x%d" % level))
    items.append(Item(directory, file_entry(b"bottom", b"deep"), b"deep"))
    saver = Saver()
    root = saver.save(items)
    target = tmp_path / "target"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = [os.open("/", os.O_RDONLY) for _ in range(HANDLES_OF_OTHERS)]
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + HANDLES, hard))
    try:
        result = restore(root, saver.shelf, target)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in used:
            os.close(fd)
    assert result.is_whole, result.failures
    assert result.actions == {Action.MAKE: DEEP + DEEP // 500 + 1}
    at = os.open(target, os.O_RDONLY)
    for level in range(DEEP):
        below = os.open(b"d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
        assert os.fstat(at).st_mtime_ns == level
    fd = os.open(b"bottom", os.O_RDONLY, dir_fd=at)
    assert os.read(fd, 10) == b"deep"
    os.close(fd)
    os.close(at)
    again = restore(root, saver.shelf, target)
    assert again.actions.keys() == {Action.NOTHING}
    subprocess.run(["rm", "-rf", target], check=True)


NAME = some.binary(min_size=1, max_size=3).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
Tree = dict[bytes, "bytes | Tree"]
BRANCHES: some.SearchStrategy["bytes | Tree"] = some.recursive(
    some.binary(max_size=40),
    lambda below: some.dictionaries(NAME, below, max_size=5),
    max_leaves=25,
)
TREES = some.dictionaries(NAME, BRANCHES, max_size=5)


def grow(directory: bytes, tree: Tree) -> list[Item]:
    """Items of a tree of files (bytes) and directories."""
    items: list[Item] = []
    for name, what in tree.items():
        if isinstance(what, bytes):
            items.append(Item(directory, file_entry(name, what), what))
        else:
            items.append(Item(directory, directory_entry(name)))
            items += grow(directory + name + b"\0", what)
    return items


def read_back(path: bytes) -> object:
    if os.path.isdir(path):
        return {name: read_back(path + b"/" + name) for name in os.listdir(path)}
    with open(path, "rb") as file:
        return file.read()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES, bundle=some.integers(1, 100), cut=some.integers(5, 50))
def test_any_tree_comes_back(
    tree: Tree,
    bundle: int,
    cut: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    target = tmp_path_factory.mktemp("any") / "target"
    saver = Saver(bundle=bundle, cut=cut)
    root = saver.save(in_order(grow(b"", tree)))
    options = RestoreOptions(sync=False)
    assert restore(root, saver.shelf, target, options=options).is_whole
    assert read_back(os.fsencode(target)) == tree
    shutil.rmtree(target)


def test_large_files_are_put_together_from_extent_trees(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(2_000_000)
    saver = Saver(cut=7_001)
    root = saver.save([Item(b"", file_entry(b"file", data), data)])
    assert len(saver.shelf.nodes) > 2, "it takes an extent tree"
    for backwards in (False, True):
        saver.shelf.backwards = backwards
        target = tmp_path / str(backwards)
        assert restore(root, saver.shelf, target).is_whole
        assert (target / "file").read_bytes() == data


def test_memory_of_waiting_chunks_is_bounded(tmp_path: Path) -> None:
    """One byte of room still lets one chunk at a time through."""
    data = random.Random(4).randbytes(500_000)
    saver = Saver(cut=10_000)
    root = saver.save([Item(b"", file_entry(b"file", data), data)])
    options = RestoreOptions(memory=1)
    assert restore(root, saver.shelf, tmp_path / "target", options=options).is_whole
    assert (tmp_path / "target" / "file").read_bytes() == data


def test_policies_have_the_names_of_the_command_line() -> None:
    assert [each.value for each in Overwrite] == ["never", "older", "always"]
