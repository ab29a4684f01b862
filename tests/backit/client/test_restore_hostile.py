"""No snapshot made to harm, and nobody at work in the target, leads a restore outside of it."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backit.client.outcome import RestoreOptions, Silent
from backit.engine.plan import Action, Overwrite
from backit.errors import BackitError, Damaged
from backit.ids import ChunkId
from tests.backit.client.shelf import (
    Item,
    Saver,
    Shelf,
    directory_entry,
    file_entry,
    in_order,
    restore,
    symlink_entry,
)

pytestmark = pytest.mark.usefixtures("written_here_or_apart")

ALWAYS = RestoreOptions(overwrite=Overwrite.ALWAYS, sync=False)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that must be as it was when the test ends."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_bytes(b"precious")
    (path / "sub").mkdir()
    path.chmod(0o711)
    before = (path.stat().st_mtime_ns, path.stat().st_mode)
    yield path
    assert (path.stat().st_mtime_ns, path.stat().st_mode) == before
    assert sorted(each.name for each in path.rglob("*")) == ["file", "sub"]
    assert (path / "file").read_bytes() == b"precious"


def file(name: bytes, directory: bytes, data: bytes = b"evil") -> Item:
    return Item(directory, file_entry(name, data), data)


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"/etc", b"a\0b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: bytes) -> None:
    saver = Saver()
    root = saver.save([Item(b"", file_entry(name, b"evil"), b"evil")])
    with pytest.raises(Damaged, match="is not a name"):
        restore(root, saver.shelf, tmp_path / "target")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("directory", [b"..\0", b"a/b\0", b"\0", b"a\0..\0"])
def test_directories_that_lead_elsewhere_are_refused(tmp_path: Path, directory: bytes) -> None:
    saver = Saver()
    root = saver.save([file(b"x", directory)])
    with pytest.raises(Damaged, match="is not a directory"):
        restore(root, saver.shelf, tmp_path / "target")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_nothing_goes_through_a_link_of_the_snapshot(tmp_path: Path, outside: Path) -> None:
    """An entry says that "a" is a link; others say that they are in a directory "a"."""
    saver = Saver()
    root = saver.save(
        [
            Item(b"", symlink_entry(b"a", os.fsencode(outside))),
            file(b"file", b"a\0"),
            file(b"x", b"a\0sub\0"),
        ]
    )
    result = restore(root, saver.shelf, tmp_path / "target", options=ALWAYS)
    assert (tmp_path / "target" / "a").is_symlink()
    assert {note.why for note in result.failures} == {"its directory is not in the snapshot"}


def test_a_directory_that_no_entry_announces_is_not_made(tmp_path: Path) -> None:
    saver = Saver()
    root = saver.save([file(b"x", b"a\0"), file(b"y", b"a\0b\0"), file(b"z", b"c\0")])
    result = restore(root, saver.shelf, tmp_path / "target")
    assert [note.path.rpartition(b"/")[2] for note in result.failures] == [b"a", b"c"]
    assert os.listdir(tmp_path / "target") == []


@pytest.mark.parametrize("overwrite", Overwrite)
def test_a_link_in_the_target_is_not_followed(
    tmp_path: Path, outside: Path, overwrite: Overwrite
) -> None:
    saver = Saver()
    items = [Item(b"", directory_entry(b"sub")), file(b"file", b"", b"new")]
    root = saver.save(in_order([*items, file(b"file", b"sub\0", b"new")]))
    target = tmp_path / "target"
    target.mkdir()
    (target / "sub").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    options = RestoreOptions(overwrite=overwrite)
    result = restore(root, saver.shelf, target, options=options)
    if overwrite is Overwrite.ALWAYS:
        assert (target / "sub" / "file").read_bytes() == b"new"
        assert not (target / "file").is_symlink()
    else:
        assert (target / "sub").is_symlink()
        assert result.kept


def test_a_target_that_is_a_link_is_where_the_person_means(tmp_path: Path) -> None:
    saver = Saver()
    root = saver.save([file(b"x", b"")])
    (tmp_path / "real").mkdir()
    (tmp_path / "target").symlink_to("real")
    restore(root, saver.shelf, tmp_path / "target")
    assert (tmp_path / "real" / "x").read_bytes() == b"evil"


class Swapper(threading.Thread):
    """Swaps directories of the target for links to another place and back, without pause."""

    def __init__(self, target: Path, names: Sequence[str], outside: Path) -> None:
        super().__init__(name="swapper", daemon=True)
        self._target = target
        self._names = names
        self._outside = outside
        self.over = threading.Event()
        self.swaps = 0

    def run(self) -> None:
        while not self.over.is_set():
            for name in self._names:
                self._swap(self._target / name)

    def _swap(self, path: Path) -> None:
        self.swaps += 1
        away = path.with_name(f"{path.name}.away")
        # Where the restore is faster, what it made stays, and what was there stays away.
        with contextlib.suppress(OSError):
            if path.is_symlink():
                path.unlink()
                away.rename(path)
            else:
                path.rename(away)
                path.symlink_to(self._outside)


def test_a_directory_swapped_for_a_link_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    names = [f"d{number}" for number in range(8)]
    items = [Item(b"", directory_entry(os.fsencode(name))) for name in names]
    for name in names:
        at = os.fsencode(name) + b"\0"
        items.append(Item(at, directory_entry(b"sub")))
        items += [file(b"f%03d" % number, at, b"x" * number) for number in range(60)]
        items += [file(b"file", at + b"sub\0"), Item(at + b"sub\0", symlink_entry(b"l", b"t"))]
    saver = Saver(bundle=500)
    root = saver.save(in_order(items))
    target = tmp_path / "target"
    target.mkdir()
    (outside / "sub").chmod(0o700)
    swapper = Swapper(target, names, outside)
    swapper.start()
    try:
        for _ in range(8):
            restore(root, saver.shelf, target, options=ALWAYS)
    finally:
        swapper.over.set()
        swapper.join(60)
    assert swapper.swaps > 10, "the race was run"


@pytest.mark.root
def test_owners_are_not_given_to_what_is_swapped_in(tmp_path: Path, outside: Path) -> None:
    """A hard link to somebody else's file, put where a link was just made, keeps its owner."""
    saver = Saver()
    items = [Item(b"", symlink_entry(b"l%03d" % number, b"t")) for number in range(300)]
    for each in items:
        each.entry.uid = each.entry.gid = 4321
    root = saver.save(items)
    target = tmp_path / "target"
    target.mkdir()
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for number in range(300):
                spare = target / "spare"
                spare.unlink(missing_ok=True)
                os.link(outside / "file", spare)
                spare.rename(target / f"l{number:03}")

    swapper = threading.Thread(target=swap, daemon=True)
    swapper.start()
    try:
        for _ in range(12):
            restore(root, saver.shelf, target, options=ALWAYS)
    finally:
        over.set()
        swapper.join(60)
    assert (outside / "file").stat().st_uid == 0


class Meddler(Silent):
    """Does something to the target when the first entry is done."""

    def __init__(self, target: Path, outside: Path) -> None:
        self._target = target
        self._outside = outside
        self._lock = threading.Lock()
        self._done = False

    def done(self, path: bytes, action: Action, size: int) -> None:
        with self._lock:
            if not self._done:
                self._done = True
                (self._target / "sub").rename(self._target / "gone")
                (self._target / "sub").symlink_to(self._outside)


def test_a_directory_moved_away_is_found_out_when_it_is_opened_again(
    tmp_path: Path, outside: Path
) -> None:
    items = [Item(b"", directory_entry(b"sub")), file(b"a", b"")]
    folders = [b"s%04d" % number for number in range(600)]
    items += [Item(b"sub\0", directory_entry(name)) for name in folders]
    items += [file(b"x", b"sub\0" + name + b"\0") for name in folders]
    saver = Saver(bundle=1)
    root = saver.save(in_order(items))
    target = tmp_path / "target"
    meddler = Meddler(target, outside)
    options = RestoreOptions(threads=1, sync=False)
    restore(root, saver.shelf, target, options=options, progress=meddler)
    assert (target / "sub").is_symlink()


class Liar(Shelf):
    """Gives chunks that are not those asked for, twice, or not at all."""

    def chunks(self, ids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, bytes | BackitError]]:
        for chunk in ids[1:]:
            yield chunk, self.chunks_held[chunk]
            yield chunk, b"again"
        yield ChunkId(bytes(32)), b"unasked"


def test_a_source_that_lies_makes_no_wrong_file(tmp_path: Path) -> None:
    saver = Saver(shelf=Liar(), bundle=1)
    names = [b"a", b"b", b"c"]
    root = saver.save([file(name, b"", name * 10) for name in names])
    result = restore(root, saver.shelf, tmp_path / "target")
    assert [note.path[-2:] for note in result.failures] == [b"/a"]
    assert "gave no answer" in result.failures[0].why
    assert (tmp_path / "target" / "b").read_bytes() == b"b" * 10
    assert sorted(os.listdir(tmp_path / "target")) == ["b", "c"]


@pytest.mark.root
def test_without_openat2_nothing_changes(tmp_path: Path) -> None:
    """The tests of handles and hostile targets hold on a kernel that has only openat."""
    script = (
        "import errno, sys, pytest\n"
        "from backit.client import handles\n"
        "def refuse(*_args):\n"
        "    raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        "handles._openat2 = refuse\n"
        "sys.exit(pytest.main(sys.argv[1:]))\n"
    )
    here = Path(__file__)
    tests = [f"{here}::test_a_directory_swapped_for_a_link_leads_nowhere"]
    command = [sys.executable, "-c", script, "-q", "-p", "no:cacheprovider", *tests]
    base = ["--basetemp", os.fspath(tmp_path / "base"), "--rootdir", os.fspath(here.parents[3])]
    done = subprocess.run(
        [*command, *base], cwd=here.parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
