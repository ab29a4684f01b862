"""Promises of a growing tree: all that is there is in it, and what has not changed costs nothing.

Real files and the real scan; the outlet is a shelf.
"""

from __future__ import annotations

import grp
import os
import pwd
import random
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backit.client import growth as growth_module
from backit.client import handles, reader
from backit.client.cache import Box, SeenCache
from backit.client.contents import PROMISE_BYTES, Contents
from backit.client.excludes import Excludes
from backit.client.growth import Counts, Growth
from backit.client.problems import Problems
from backit.client.scan import Scanner
from backit.engine import tree as tree_module
from backit.engine.bundle import BUNDLE_MIN
from backit.engine.extents import extents_of
from backit.engine.tree import Leaf
from backit.engine.walk import walk
from backit.errors import Invalid, NoSpace
from backit.format import node as nodes
from backit.format.magic import KIB, LARGE_FILE, Kind
from backit.format.record import Plain
from backit.format.v1 import tree_pb2 as pb
from tests.backit.client.paper import Paper
from tests.backit.client.shelf import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from backit.client.scan import Batch
    from backit.engine.levels import ChildInfo, Sealable
    from backit.engine.walk import Found
    from backit.ids import ChunkId


def nothing(_batch: Batch) -> None:
    """Nobody meddles."""


@dataclass
class Run:
    """One run over a folder, and what came of it."""

    folder: Path
    paper: Paper
    problems: Problems = field(default_factory=Problems)
    counts: Counts = field(default_factory=Counts)
    leaves: list[tuple[ChildInfo, Sealable | Leaf]] = field(
        default_factory=list["tuple[ChildInfo, Sealable | Leaf]"]
    )
    root: ChildInfo | None = None

    def grow(
        self,
        parent: Run | None = None,
        worn: Collection[ChunkId] = (),
        *,
        between: Callable[[Batch], None] = nothing,
        behind: Callable[[Batch], None] = nothing,
        on_leaf: Callable[[ChildInfo, Sealable | Leaf], None] | None = None,
    ) -> None:
        """`between` happens between scan and reading of each batch, `behind` after both."""
        seen = SeenCache(self.folder.parent / "cache", Box(bytes(32)))
        contents = Contents(self.paper, seen, worn)
        growth = Growth(
            self.paper,
            KEYS,
            contents,
            counts=self.counts,
            problems=self.problems,
            on_leaf=on_leaf or (lambda info, leaf: self.leaves.append((info, leaf))),
        )
        leaves = parent.cached() if parent is not None else iter(())
        self.root = growth.run(self._batches(between, behind), leaves)

    def _batches(
        self, between: Callable[[Batch], None], behind: Callable[[Batch], None]
    ) -> Iterator[Batch]:
        scanner = Scanner(
            [bytes(self.folder)],
            excludes=Excludes(),
            one_file_system=False,
            report=self.problems.report,
        )
        for batch in scanner.batches():
            between(batch)
            yield batch
            behind(batch)

    def cached(self) -> Iterator[Leaf]:
        """The leaves as the cache gives them to the next run."""
        for number, (info, leaf) in enumerate(self.leaves):
            if isinstance(leaf, Leaf):
                decoded = leaf.node
            else:
                decoded = nodes.decode(
                    Plain(Kind.NODE, leaf.references, leaf.plaintext), leaf.chunk
                )
            yield Leaf(info, decoded, is_last=number == len(self.leaves) - 1)

    def found(self) -> dict[str, Found]:
        assert self.root is not None
        prefix = bytes(self.folder) + b"/"
        return {
            os.fsdecode(each.path.removeprefix(prefix)): each
            for each in walk(self.root.chunk, self.paper.shelf.load)
            if each.path.startswith(prefix)
        }

    def contents(self) -> dict[str, bytes]:
        return {
            name: self._content(found)
            for name, found in self.found().items()
            if found.entry.type == pb.FILE_TYPE_REGULAR
        }

    def _content(self, found: Found) -> bytes:
        held = self.paper.shelf.chunks_held
        return b"".join(
            held[each.chunk][each.offset : each.offset + each.length]
            for each in extents_of(found.entry, found.leaf, self.paper.shelf.load)
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "home"
    found.mkdir()
    return found


@pytest.fixture
def run(folder: Path) -> Run:
    return Run(folder, Paper())


def grow_again(before: Run, worn: Collection[ChunkId] = (), **options: object) -> Run:
    """Another run with the first as its parent; what it sends is counted anew."""
    paper = Paper(before.paper.shelf, alive=set(before.paper.shelf.chunks_held))
    after = Run(before.folder, paper)
    after.grow(before, worn, **options)  # type: ignore[arg-type]
    return after


def settle(folder: Path) -> None:
    """Until no file is so young that the next run would look at it again."""
    youngest = max(path.lstat().st_ctime_ns for path in [folder, *folder.rglob("*")])
    while time.time_ns() <= youngest + reader.TICK_NS:
        os.sched_yield()


def make_tree(folder: Path, count: int, seed: int = 1) -> dict[str, bytes]:
    """So many small files in a few directories."""
    numbers = random.Random(seed)
    made: dict[str, bytes] = {}
    for number in range(count):
        name = f"d{number % 7}/f{number:05}"
        made[name] = numbers.randbytes(numbers.randrange(3000))
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(made[name])
    settle(folder)
    return made


def test_all_that_is_there_is_in_the_tree(run: Run, folder: Path) -> None:
    made = make_tree(folder, 500)
    (folder / "empty").touch()
    (folder / "large").write_bytes(bytes(range(256)) * 8 * KIB)
    (folder / "link").symlink_to("large")
    os.mkfifo(folder / "pipe")
    (folder / "nothing in it").mkdir()
    run.grow()
    expected = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert set(run.found()) == expected
    large = bytes(range(256)) * 8 * KIB
    assert run.contents() == {**made, "empty": b"", "large": large}
    assert run.root is not None
    assert run.root.size == sum(map(len, made.values())) + len(large)
    assert (run.problems.failure_count, run.problems.skip_count) == (0, 0)


def test_answers_that_come_late_change_nothing(folder: Path) -> None:
    make_tree(folder, 500)
    early, late = Run(folder, Paper()), Run(folder, Paper(is_late=True))
    early.grow()
    late.grow()
    assert early.root == late.root


def test_a_run_over_what_has_not_changed_reads_and_sends_nothing(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(folder, 2000)
    run.grow()

    def refuse(_fd: int, name: bytes) -> int:
        raise AssertionError(f"{name!r} was opened")

    monkeypatch.setattr(handles, "open_for_reading", refuse)
    second = grow_again(run)
    assert second.root == run.root
    assert second.paper.chunks == []
    assert second.counts.changed_files == 0
    # The last leaf is encoded again, because more might have followed, and so are the nodes above.
    assert len(run.paper.nodes) > 10
    assert len(second.paper.nodes) <= 2
    assert {each.chunk for each in second.paper.nodes} <= {each.chunk for each in run.paper.nodes}


@pytest.mark.parametrize("where", [0, 1000, 1999])
def test_a_small_change_encodes_only_the_leaves_around_it(
    run: Run, folder: Path, where: int
) -> None:
    made = make_tree(folder, 2000)
    run.grow()
    name = sorted(made)[where]
    (folder / name).write_bytes(b"changed")
    second = grow_again(run)
    assert second.contents() == {**made, name: b"changed"}
    assert second.paper.chunks == [b"changed"]
    assert len(second.paper.nodes) <= 4


@pytest.mark.parametrize("seed", range(5))
def test_a_tree_grown_step_by_step_is_the_one_grown_at_once(folder: Path, seed: int) -> None:
    numbers = random.Random(seed)
    made = make_tree(folder, 800, seed)
    step = Run(folder, Paper())
    step.grow()
    for _ in range(3):
        for name in numbers.sample(sorted(made), 25):
            if numbers.random() < 0.5:
                (folder / name).unlink()
                del made[name]
            else:
                made[name] = numbers.randbytes(500)
                (folder / name).write_bytes(made[name])
        for number in range(10):
            name = f"d{numbers.randrange(7)}/new{number}"
            made[name] = numbers.randbytes(100)
            (folder / name).write_bytes(made[name])
        settle(folder)
        step = grow_again(step)
        assert step.contents() == made
    at_once = Run(folder, Paper())
    at_once.grow()
    assert {name: found.entry.content_hash for name, found in at_once.found().items()} == {
        name: found.entry.content_hash for name, found in step.found().items()
    }
    assert step.root is not None
    assert at_once.root is not None
    assert (step.root.count, step.root.size) == (at_once.root.count, at_once.root.size)


def test_a_touched_file_stores_nothing(run: Run, folder: Path) -> None:
    made = make_tree(folder, 10)
    run.grow()
    for name in made:
        (folder / name).touch()
    second = grow_again(run)
    assert second.paper.chunks == []
    assert second.counts.changed_files == 0
    assert second.contents() == made


def test_a_change_of_mode_alone_is_a_change(run: Run, folder: Path) -> None:
    make_tree(folder, 3)
    run.grow()
    path = folder / "d1/f00001"
    path.chmod(0o600)
    found = path.stat()
    second = grow_again(run)
    entry = second.found()["d1/f00001"].entry
    assert (entry.mode, entry.ctime) == (0o600, nodes.encode_time(found.st_ctime_ns)) or (
        entry.ctime == nodes.encode_time(found.st_ctime_ns) - 1
    )


def test_the_names_of_one_file_are_read_once(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").mkdir()
    (folder / "z").mkdir()
    (folder / "a/one").write_bytes(b"content")
    for name in ("a/two", "z/three"):
        (folder / name).hardlink_to(folder / "a/one")
    settle(folder)
    opened: list[bytes] = []
    real = handles.open_for_reading

    def watch(parent: int, name: bytes) -> int:
        opened.append(name)
        return real(parent, name)

    monkeypatch.setattr(handles, "open_for_reading", watch)
    run.grow()
    assert opened == [b"one"]
    assert run.contents() == dict.fromkeys(["a/one", "a/two", "z/three"], b"content")
    found = run.found()
    assert {(found[name].entry.links, found[name].entry.inode) for name in run.contents()} == {
        (3, (folder / "a/one").stat().st_ino)
    }


def test_names_of_a_large_file_share_its_chunks(run: Run, folder: Path) -> None:
    content = random.Random(1).randbytes(LARGE_FILE * 3)
    (folder / "one").write_bytes(content)
    (folder / "two").hardlink_to(folder / "one")
    settle(folder)
    run.paper.is_late = True
    run.grow()
    assert run.contents() == {"one": content, "two": content}
    assert sum(map(len, run.paper.chunks)) == len(content)


def test_a_name_whose_file_has_changed_meanwhile_is_read_again(run: Run, folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a/one").write_bytes(b"before")
    (folder / "two").hardlink_to(folder / "a/one")
    settle(folder)

    def change(batch: Batch) -> None:
        if batch.directory.endswith(bytes(folder.name, "ascii") + b"\0"):
            (folder / "two").write_bytes(b"after!")

    run.grow(behind=change)
    assert run.contents() == {"a/one": b"after!", "two": b"before"}


def test_only_so_many_links_are_remembered(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth_module, "LINKS_MAX", 3)
    for number in range(10):
        (folder / f"a{number}").write_bytes(b"%d" % number)
        (folder / f"b{number}").hardlink_to(folder / f"a{number}")
    settle(folder)
    run.grow()
    assert run.contents() == {
        f"{letter}{number}": b"%d" % number for letter in "ab" for number in range(10)
    }


def unless_name(folder: Path, act: Callable[[], object]) -> Callable[[Batch], None]:
    """Act once, when the folder has been scanned and not been read yet."""
    done: list[object] = []

    def between(batch: Batch) -> None:
        if b"/" + batch.directory.replace(b"\0", b"/") == bytes(folder) + b"/" and not done:
            done.append(act())

    return between


def test_a_file_that_vanishes_is_skipped_and_hides_no_other(run: Run, folder: Path) -> None:
    for name in "abc":
        (folder / name).write_bytes(name.encode())
    run.grow(between=unless_name(folder, (folder / "b").unlink))
    assert run.contents() == {"a": b"a", "c": b"c"}
    assert run.problems.skips == [(bytes(folder / "b"), "it vanished before it was read")]
    assert run.problems.failure_count == 0


def test_a_directory_that_vanishes_is_empty_and_told_of(run: Run, folder: Path) -> None:
    (folder / "gone").mkdir()
    (folder / "stays").write_bytes(b"x")
    run.grow(between=unless_name(folder, (folder / "gone").rmdir))
    assert set(run.found()) == {"gone", "stays"}
    assert [path for path, _why in run.problems.skips] == [bytes(folder / "gone")]


def test_what_is_made_again_in_a_directory_never_stands_without_it(run: Run, folder: Path) -> None:
    (folder / "moved").mkdir()
    (folder / "moved/in").write_bytes(b"x")
    real = handles.open_directory

    def refuse(parent: int, name: bytes) -> int:
        if name == b"moved":
            raise OSError(24, "Too many open files")
        return real(parent, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handles, "open_directory", refuse)
        run.grow()
    assert set(run.found()) == {"moved", "moved/in"}
    assert run.problems.failures == [
        (bytes(folder / "moved"), "it cannot be opened: too many open files")
    ]


REPLACED: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "link": lambda path: path.symlink_to("/etc/passwd"),
}


@pytest.mark.parametrize("by", REPLACED)
def test_a_file_that_is_replaced_fails_alone(run: Run, folder: Path, by: str) -> None:
    for name in "abc":
        (folder / name).write_bytes(name.encode())

    def replace() -> None:
        (folder / "b").unlink()
        REPLACED[by](folder / "b")

    run.grow(between=unless_name(folder, replace))
    assert run.contents() == {"a": b"a", "c": b"c"}
    assert [path for path, _why in run.problems.failures] == [bytes(folder / "b")]


def refuse_to_open(patch: pytest.MonkeyPatch, *names: bytes) -> None:
    real = handles.open_for_reading

    def refuse(parent: int, name: bytes) -> int:
        if name in names:
            raise PermissionError(13, "Permission denied")
        return real(parent, name)

    patch.setattr(handles, "open_for_reading", refuse)


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_saved(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (folder / name).write_bytes(name.encode())
    refuse_to_open(monkeypatch, b"b")
    run.grow()
    assert run.contents() == {"a": b"a", "c": b"c"}
    assert run.problems.failures == [(bytes(folder / "b"), "permission denied")]


def test_sockets_are_left_out_and_told_of(run: Run, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)
        listener.bind("socket")
        os.chdir(here)
        run.grow()
    assert run.found() == {}
    assert [path for path, _why in run.problems.skips] == [bytes(folder / "socket")]


def test_a_path_too_long_to_be_saved_fails_alone(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = folder / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    (deep / "in").write_bytes(b"x")
    (folder / "out").write_bytes(b"y")
    monkeypatch.setattr(growth_module, "DIRECTORY_LIMIT", len(bytes(folder)) + 250)
    run.grow()
    assert run.contents() == {"out": b"y"}
    assert [path for path, _why in run.problems.failures] == [bytes(deep) + b"/"]


def test_what_the_cache_says_of_a_full_disk_is_not_blamed_on_a_file(run: Run, folder: Path) -> None:
    """It used to be, and the tree then took the same entries twice."""
    make_tree(folder, 500)

    def full(_info: ChildInfo, _leaf: Sealable | Leaf) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run.grow(on_leaf=full)
    assert run.problems.failure_count == 0


@pytest.mark.parametrize("error", [NoSpace("full"), Invalid("malformed")])
def test_a_failure_of_the_upload_ends_the_run(run: Run, folder: Path, error: Exception) -> None:
    make_tree(folder, 50)
    run.paper.failure = error
    with pytest.raises(type(error), match=str(error)):
        run.grow()


def test_what_waits_behind_an_open_bundle_is_bounded(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One new file at the start used to hold the rest of a tree in memory."""
    made = make_tree(folder, 2000)
    run.grow()
    (folder / "d0/f00000").write_bytes(b"changed")
    monkeypatch.setattr(tree_module, "WAITING_MAX", 100)
    leaves_at: list[int] = []
    second = Run(run.folder, Paper(run.paper.shelf))
    met = 0

    def count(_batch: Batch) -> None:
        nonlocal met
        met = second.counts.entries

    def on_leaf(info: ChildInfo, leaf: Sealable | Leaf) -> None:
        leaves_at.append(second.counts.entries - sum(each.count for each, _leaf in second.leaves))
        second.leaves.append((info, leaf))

    second.grow(run, between=count, on_leaf=on_leaf)
    assert second.contents() == {**made, "d0/f00000": b"changed"}
    assert max(leaves_at) <= 100 + 400 + 1, "entries met, but not in any leaf yet"
    assert second.paper.chunks == [b"changed"]


def test_promises_of_large_files_behind_an_open_bundle_are_bounded(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_module, "HELD_MAX", 20 * PROMISE_BYTES)
    (folder / "a").write_bytes(b"small")
    for number in range(60):
        (folder / f"b{number:02}").write_bytes(b"%2d" % number * (LARGE_FILE // 2))
    run.paper.is_late = True
    run.grow()
    assert run.paper.chunks.index(b"small") <= 22, "the bundle was closed early for once"
    assert len(run.contents()) == 61


def test_bundles_go_on_beyond_a_few_other_files(run: Run, folder: Path) -> None:
    for number in range(40):
        (folder / f"{number:02} small").write_bytes(b"%2d" % number * 100)
        (folder / f"{number:02} other").symlink_to("x")
    run.paper.is_late = True
    run.grow()
    assert len(run.paper.chunks) == 1


def make_worn(folder: Path) -> None:
    for number in range(60):
        (folder / f"f{number:02}").write_bytes(bytes([number]) * 20_000)
    settle(folder)


def test_files_in_worn_bundles_move_and_nothing_else(run: Run, folder: Path) -> None:
    make_worn(folder)
    run.grow()
    first = run.paper.shelf.put(run.paper.chunks[0])
    assert len(run.paper.chunks) > 1
    assert len(run.paper.chunks[0]) >= BUNDLE_MIN
    (folder / "f00").unlink()
    second = grow_again(run, [first])
    left = run.contents()
    del left["f00"]
    assert second.contents() == left
    assert b"".join(second.paper.chunks) == run.paper.chunks[0][20_000:]
    used = {chunk for each in second.paper.sound_nodes() for chunk in each.references}
    assert first not in used


def test_a_file_that_can_only_be_kept_is_kept_even_in_a_worn_bundle(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_worn(folder)
    run.grow()
    first = run.paper.shelf.put(run.paper.chunks[0])
    refuse_to_open(monkeypatch, b"f03", b"f04")
    second = grow_again(run, [first])
    assert second.contents() == run.contents()
    assert second.problems.failure_count == 0


def test_owners_go_by_the_names_of_this_machine(run: Run, folder: Path) -> None:
    (folder / "f").touch()
    run.grow()
    (leaf,) = {id(each.leaf): each.leaf for each in run.found().values()}.values()
    mine, group = os.getuid(), os.getgid()
    assert {each.id: each.name for each in leaf.message.users}[mine] == pwd.getpwuid(mine).pw_name
    assert {each.id: each.name for each in leaf.message.groups}[group] == grp.getgrgid(
        group
    ).gr_name


def test_an_owner_whose_name_is_no_text_does_not_end_the_run(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = pwd.getpwuid(os.getuid())

    def odd(_uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd(("m\udcfcller", *tuple(mine)[1:]))

    monkeypatch.setattr(pwd, "getpwuid", odd)
    growth_module._user_name.cache_clear()  # pyright: ignore[reportPrivateUsage]
    (folder / "f").touch()
    try:
        run.grow()
    finally:
        growth_module._user_name.cache_clear()  # pyright: ignore[reportPrivateUsage]
    assert {each.leaf.message.users[0].name for each in run.found().values()} == {"m?ller"}


def test_the_counts_say_what_was_met_and_what_has_changed(run: Run, folder: Path) -> None:
    make_tree(folder, 50)
    run.grow()
    assert (run.counts.files, run.counts.changed_files) == (50, 50)
    (folder / "d1/f00001").write_bytes(b"12345")
    second = grow_again(run)
    assert (second.counts.files, second.counts.changed_files) == (50, 1)
    assert second.counts.changed_bytes == 5
    assert second.counts.entries == len(second.found()) + len(folder.parts) - 1
