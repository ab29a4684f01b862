"""When something goes wrong a restore says what, and never leaves wrong bytes or half a file."""

import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from backit.client.outcome import NOTES_MAX, RestoreOptions, Silent
from backit.client.place import OTHER_LIST
from backit.client.restore import Restore
from backit.client.write import is_temporary
from backit.engine.leaf import GrowingLeaf
from backit.engine.plan import Action
from backit.errors import BackitError, Damaged, NotFound, TargetFull, Unavailable
from backit.format.magic import LARGE_FILE
from backit.format.node import encode_time
from backit.ids import ChunkId
from tests.backit.client.interruptions import interrupts
from tests.backit.client.shelf import (
    KEYS,
    NUMERIC,
    Item,
    Saver,
    Shelf,
    directory_entry,
    file_entry,
    in_order,
    restore,
)

pytestmark = pytest.mark.usefixtures("written_here_or_apart")


def file(name: str, data: bytes, directory: bytes = b"") -> Item:
    return Item(directory, file_entry(os.fsencode(name), data), data)


def forest(files: int, size: int) -> list[Item]:
    """Files of incompressible bytes in a few directories."""
    rng = random.Random(7)
    folders = [b"d%d" % number for number in range(5)]
    items = [Item(b"", directory_entry(folder)) for folder in folders]
    for number in range(files):
        folder = folders[number % len(folders)] + b"\0"
        items.append(file(f"f{number:04}", rng.randbytes(size), folder))
    return in_order(items)


def contents(root: Path) -> dict[str, bytes]:
    return {
        os.fspath(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def expected(items: Sequence[Item]) -> dict[str, bytes]:
    """Must be asked before the items are saved."""
    return {
        os.fsdecode((item.directory + item.entry.name).replace(b"\0", b"/")): item.data
        for item in items
        if item.entry.size
    }


@pytest.mark.parametrize("error", [Damaged("it is rotten"), NotFound("it is gone")])
def test_files_of_a_chunk_that_cannot_be_had_are_named_with_it(
    tmp_path: Path, error: BackitError
) -> None:
    items = forest(40, 2_000)
    whole = expected(items)
    saver = Saver(bundle=9_000)
    root = saver.save(items)
    lost = list(saver.shelf.chunks_held)[2]
    saver.shelf.broken[lost] = error
    result = restore(root, saver.shelf, tmp_path / "target")
    assert result.failed == len(result.failures) == 5
    assert all(note.why == f"chunk {lost}: {error}" for note in result.failures)
    found = contents(tmp_path / "target")
    failed = {os.fsdecode(note.path)[len(f"{tmp_path}/target/") :] for note in result.failures}
    assert found == {path: data for path, data in whole.items() if path not in failed}
    del saver.shelf.broken[lost]
    again = restore(root, saver.shelf, tmp_path / "target")
    assert again.actions[Action.MAKE] == 5
    assert contents(tmp_path / "target") == whole


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("which", [0, 7, -1])
def test_a_large_file_with_one_lost_chunk_is_not_there(
    tmp_path: Path, which: int, *, backwards: bool
) -> None:
    data = random.Random(1).randbytes(200_000)
    saver = Saver(cut=10_000)
    root = saver.save([file("large", data), file("other", b"fine")])
    lost = list(saver.shelf.chunks_held)[:20][which]
    saver.shelf.broken[lost] = Damaged("it is rotten")
    saver.shelf.backwards = backwards
    before = len(os.listdir("/proc/self/fd"))
    result = restore(root, saver.shelf, tmp_path / "target")
    assert [note.why for note in result.failures] == [f"chunk {lost}: it is rotten"]
    assert contents(tmp_path / "target") == {"other": b"fine"}
    assert os.listdir(tmp_path / "target") == ["other"]
    assert len(os.listdir("/proc/self/fd")) == before


# A small file, one of several pieces, one so large that its hash is that of the list of one piece.
SIZES = {"small": (100, 200), "pieces": (100_000, 10_000), "large": (LARGE_FILE, LARGE_FILE)}
WHOSE = {
    "small": "its content",
    "pieces": "the list of its pieces",
    "large": "the list of its pieces",
}


@pytest.mark.parametrize("kind", SIZES)
def test_content_that_is_not_that_of_the_hash_is_not_written(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source vouches for each chunk; that the right ones were put together is checked here."""
    size, cut = SIZES[kind]
    data = random.Random(2).randbytes(size)
    saver = Saver(cut=cut)
    real = GrowingLeaf.name_chunks

    def spoil(leaf: GrowingLeaf, *, wait: bool) -> bool:
        named = real(leaf, wait=wait)
        for entry in leaf.entries:
            entry.message.content_hash = bytes(32)
        return named

    with monkeypatch.context() as patch:
        patch.setattr(GrowingLeaf, "name_chunks", spoil)
        root = saver.save([file("file", data)])
    result = restore(root, saver.shelf, tmp_path / "target")
    assert [note.why for note in result.failures] == [
        "its content does not have the hash in the snapshot" if kind == "small" else OTHER_LIST
    ]
    assert os.listdir(tmp_path / "target") == []


def test_a_chunk_that_is_too_short_is_named(tmp_path: Path) -> None:
    saver = Saver()
    root = saver.save([file("file", b"content")])
    (chunk,) = saver.shelf.chunks_held
    saver.shelf.chunks_held[chunk] = b"cont"
    result = restore(root, saver.shelf, tmp_path / "target")
    assert result.failures[0].why == f"chunk {chunk}: it is shorter than the snapshot says"
    assert os.listdir(tmp_path / "target") == []


def test_a_lost_node_ends_the_restore_by_its_name(tmp_path: Path) -> None:
    saver = Saver()
    root = saver.save([file("file", b"content")])
    saver.shelf.nodes.clear()
    with pytest.raises(NotFound, match=str(root)):
        restore(root, saver.shelf, tmp_path / "target")


def test_a_lost_extent_node_loses_only_that_file(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(1_000_000)
    saver = Saver(cut=10_000)
    root = saver.save([file("large", data), file("other", b"fine")])
    lost = next(chunk for chunk in saver.shelf.nodes if chunk != root)
    del saver.shelf.nodes[lost]
    result = restore(root, saver.shelf, tmp_path / "target")
    assert [str(lost) in note.why for note in result.failures] == [True]
    assert os.listdir(tmp_path / "target") == ["other"]


def test_every_failure_is_counted_but_not_every_one_kept(tmp_path: Path) -> None:
    count = NOTES_MAX + 10
    saver = Saver(bundle=1 << 20)
    root = saver.save([file(f"{number:06}", b"x%d" % number) for number in range(count)])
    for chunk in saver.shelf.chunks_held:
        saver.shelf.broken[chunk] = Damaged("it is rotten")
    result = restore(root, saver.shelf, tmp_path / "target")
    assert (result.failed, len(result.failures)) == (count, NOTES_MAX)


class Breaking(Shelf):
    """Stops in the middle with an error."""

    def __init__(self, shelf: Shelf, after: int, error: BaseException) -> None:
        super().__init__(shelf.chunks_held, shelf.nodes)
        self.left = after
        self.error = error

    def chunks(self, ids: Sequence[ChunkId]) -> Iterator[tuple[ChunkId, bytes | BackitError]]:
        for found in super().chunks(ids):
            if not self.left:
                raise self.error
            self.left -= 1
            yield found


def restoring_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("restore")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Unavailable("the appliance is gone")])
@pytest.mark.parametrize("after", [0, 1, 11, 31])
def test_a_run_that_is_broken_off_leaves_no_half_files_and_can_go_on(
    tmp_path: Path, after: int, error: BaseException
) -> None:
    items = [*forest(60, 3_000), file("large", random.Random(8).randbytes(300_000), b"d4\0")]
    items = in_order(items)
    whole = expected(items)
    saver = Saver(bundle=9_000, cut=20_000)
    root = saver.save(items)
    target = tmp_path / "target"
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(type(error)):
        restore(root, Breaking(saver.shelf, after, error), target)
    assert restoring_threads() == []
    assert len(os.listdir("/proc/self/fd")) == before
    found = contents(target)
    assert found.items() <= whole.items()
    assert not [path for path in target.rglob("*") if is_temporary(os.fsencode(path.name))]
    saver.shelf.asked.clear()
    result = restore(root, saver.shelf, target)
    assert contents(target) == whole
    assert result.actions.get(Action.NOTHING, 0) >= len(found)


def test_a_stop_from_outside_ends_the_run(tmp_path: Path) -> None:
    items = forest(200, 1_000)
    whole = expected(items)
    saver = Saver(bundle=1)
    root = saver.save(items)
    stop = threading.Event()

    class Stopper(Silent):
        def done(self, path: bytes, action: Action, size: int) -> None:
            stop.set()

    with pytest.raises(KeyboardInterrupt):
        Restore(
            root,
            saver.shelf.load,
            saver.shelf,
            KEYS,
            subtree=(),
            target=tmp_path / "target",
            progress=Stopper(),
            stop=stop,
        ).run()
    assert restoring_threads() == []
    found = contents(tmp_path / "target")
    assert len(found) < len(whole)
    assert found.items() <= whole.items()


def test_ctrl_c_ends_the_run(tmp_path: Path) -> None:
    items = forest(300, 1_000)
    whole = expected(items)
    saver = Saver(bundle=1)
    root = saver.save(items)

    @dataclass
    class Impatient(Silent):
        press: Callable[[], None]
        pressed: bool = False

        def done(self, path: bytes, action: Action, size: int) -> None:
            if not self.pressed and action is Action.MAKE and size:
                self.pressed = True
                self.press()

    options = RestoreOptions(memory=1)
    # Set anew: a shell starts what runs in the background with SIGINT ignored.
    with interrupts() as interrupt, pytest.raises(KeyboardInterrupt):
        restore(
            root, saver.shelf, tmp_path / "target", options=options, progress=Impatient(interrupt)
        )
    assert restoring_threads() == []
    found = contents(tmp_path / "target")
    assert len(found) < len(whole)
    assert found.items() <= whole.items()
    assert restore(root, saver.shelf, tmp_path / "target").is_whole
    assert contents(tmp_path / "target") == whole


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


@pytest.mark.root
@pytest.mark.parametrize(("files", "size"), [(80, 50_000), (1, 4_000_000)])
def test_a_full_target_ends_the_run_with_whole_files_only(
    small: Path, files: int, size: int
) -> None:
    items = forest(files, size)
    whole = expected(items)
    saver = Saver(bundle=100_000, cut=250_000)
    root = saver.save(items)
    target = small / "target"
    with pytest.raises(TargetFull, match=r"restore to .*/small/target: no space left on device"):
        restore(root, saver.shelf, target)
    assert restoring_threads() == []
    found = contents(target)
    assert found.items() <= whole.items()
    assert len(found) < files
    subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
    assert restore(root, saver.shelf, target).is_whole
    assert contents(target) == whole


@pytest.mark.root
def test_a_full_target_that_runs_out_of_inodes_is_full_too(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=30", small], check=True)
    saver = Saver()
    root = saver.save(forest(100, 10))
    with pytest.raises(TargetFull, match="no space left"):
        restore(root, saver.shelf, small / "target")


@pytest.mark.root
def test_a_target_that_cannot_be_written_is_no_full_disk(small: Path) -> None:
    (small / "target").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    saver = Saver()
    root = saver.save(forest(5, 10))
    with pytest.raises(OSError, match="Read-only file system"):
        restore(root, saver.shelf, small / "target")


def test_a_file_that_is_in_use_is_replaced_and_its_users_keep_the_old(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "sleep").write_bytes(Path("/bin/sleep").read_bytes())
    (target / "sleep").chmod(0o755)
    os.utime(target / "sleep", ns=(0, 0))
    saver = Saver()
    root = saver.save([file("sleep", b"new")])
    with subprocess.Popen([target / "sleep", "60"]) as running:
        try:
            assert restore(root, saver.shelf, target).is_whole
            assert (target / "sleep").read_bytes() == b"new"
            assert running.poll() is None
        finally:
            running.kill()


def test_times_beyond_what_can_be_stored_are_the_nearest_that_can(tmp_path: Path) -> None:
    saver = Saver()
    item = file("file", b"x")
    item.entry.mtime = encode_time(-(10**20))
    root = saver.save([item])
    result = restore(root, saver.shelf, tmp_path / "target", options=NUMERIC)
    assert result.is_whole
    assert (tmp_path / "target" / "file").stat().st_mtime <= -(2**31)
