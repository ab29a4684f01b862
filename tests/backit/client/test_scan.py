"""A scan gives everything below its sources, once, in key order, whatever the tree does."""

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from backit.client import descent, scan
from backit.client.excludes import TAG_SIGNATURE, Excludes
from backit.client.scan import Batch, Scanner
from backit.errors import Invalid
from backit.format.node import entry_key

Report = tuple[bytes, str, str]


class Scan:
    """One scan, run to its end, and what it said."""

    def __init__(
        self,
        *sources: str | bytes | os.PathLike[str],
        excludes: Excludes | None = None,
        one_file_system: bool = False,
    ) -> None:
        self.reports: list[Report] = []
        self.scanner = Scanner(
            [os.fsencode(source) for source in sources],
            excludes=excludes or Excludes(),
            one_file_system=one_file_system,
            report=lambda path, why, severity: self.reports.append((path, why, severity)),
        )

    def keys(self) -> list[bytes]:
        return [
            entry_key(batch.directory, name)
            for batch in self.scanner.batches()
            for name, _status in batch.entries
        ]

    def paths(self) -> list[bytes]:
        return [
            b"/" + batch.directory.replace(b"\0", b"/") + name
            for batch in self.scanner.batches()
            for name, _status in batch.entries
        ]

    def below(self, root: Path) -> list[str]:
        """The paths below a directory, relative to it."""
        prefix = os.fsencode(root) + b"/"
        found = self.paths()
        return [os.fsdecode(path[len(prefix) :]) for path in found if path.startswith(prefix)]


def ancestors(path: Path) -> list[bytes]:
    return [os.fsencode(each) for each in [*reversed(path.parents), path]][1:]


def plant(root: Path, *paths: str) -> None:
    """Make files, and directories where a path ends in a slash."""
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True, exist_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(b"x")


NAME = some.binary(min_size=1, max_size=4).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
Tree = dict[bytes, "Tree | None"]
LEAF: Tree = {}
TREES: some.SearchStrategy[Tree] = some.recursive(
    some.just(LEAF),
    lambda below: some.dictionaries(NAME, some.one_of(some.none(), below), max_size=5),
    max_leaves=20,
)


def grow(at: bytes, tree: Tree) -> Iterator[bytes]:
    """Make a tree of files (None) and directories; gives the path of each thing made."""
    for name, below in tree.items():
        path = at + b"/" + name
        yield path
        if below is not None:
            os.mkdir(path)
            yield from grow(path, below)
        else:
            os.mknod(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES)
def test_a_scan_gives_everything_in_the_order_of_keys(
    tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("random")
    try:
        made = list(grow(os.fsencode(root), tree))
        run = Scan(root)
        keys = run.keys()
        assert keys == sorted(keys)
        assert sorted(run.paths()) == sorted([*made, *ancestors(root)])
        assert run.reports == []
    finally:
        shutil.rmtree(root)


def test_directories_come_before_what_is_in_them_and_bytes_decide_the_order(tmp_path: Path) -> None:
    plant(tmp_path, "a/z", "a/b/c", "a!", "a.d/x", "B", "ab/y")
    assert Scan(tmp_path).below(tmp_path) == [
        *("B", "a", "a!", "a.d", "ab"),
        *("a/b", "a/z"),
        "a/b/c",
        "a.d/x",
        "ab/y",
    ]


def test_names_that_are_not_utf_8_stay_as_they_are(tmp_path: Path) -> None:
    odd = b"\xff\xfe\x80" + bytes(range(1, 32))
    (tmp_path / os.fsdecode(odd)).mkdir()
    assert os.fsencode(tmp_path) + b"/" + odd in Scan(tmp_path).paths()


def test_of_directories_on_the_way_only_what_leads_on_is_given(tmp_path: Path) -> None:
    plant(tmp_path, "a/b/wanted", "a/b2/other", "c")
    run = Scan(tmp_path / "a" / "b")
    assert run.below(tmp_path) == ["a", "a/b", "a/b/wanted"]


def test_several_sources_become_one_sequence_without_repetition(tmp_path: Path) -> None:
    plant(tmp_path, "a/1", "b/2", "b/c/3", "d/4", "e")
    run = Scan(
        *(tmp_path / "d", tmp_path / "b" / "c", tmp_path / "b"),
        *(f"{tmp_path}/b/", f"{tmp_path}/a/../e", tmp_path / "b"),
    )
    keys = run.keys()
    assert keys == sorted(set(keys))
    assert run.below(tmp_path) == ["b", "d", "e", "b/2", "b/c", "b/c/3", "d/4"]


def test_a_source_may_be_a_single_file(tmp_path: Path) -> None:
    plant(tmp_path, "a/1", "a/2")
    assert Scan(tmp_path / "a" / "2").below(tmp_path) == ["a", "a/2"]


def test_the_root_may_be_a_source() -> None:
    batches = Scan("/", one_file_system=True).scanner.batches()
    first = next(batches)
    del batches
    assert first.directory == b""
    assert {name for name, _status in first.entries} >= {b"etc", b"usr", b"tmp"}


def test_a_relative_source_is_refused() -> None:
    with pytest.raises(Invalid, match="not an absolute path"):
        Scan("home")


def test_a_source_that_is_not_there_is_a_failure_and_stops_nothing(tmp_path: Path) -> None:
    plant(tmp_path, "here")
    for missing in (tmp_path / "gone", tmp_path / "no" / "such"):
        run = Scan(missing, tmp_path / "here")
        assert run.below(tmp_path) == ["here"]
        ((path, why, severity),) = run.reports
        assert path in (os.fsencode(missing), os.fsencode(missing.parent))
        assert (why, severity) == ("no such file or directory", "failed")


def test_a_source_inside_another_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    plant(tmp_path, "a/1")
    run = Scan(tmp_path / "a", tmp_path / "a" / "gone")
    assert run.below(tmp_path) == ["a", "a/1"]
    assert [severity for _path, _why, severity in run.reports] == ["failed"]


def test_links_on_the_way_are_saved_with_what_they_lead_to(tmp_path: Path) -> None:
    plant(tmp_path, "real/data/file", "real/other", "place/")
    (tmp_path / "place" / "link").symlink_to("../real")
    (tmp_path / "last").symlink_to(tmp_path / "place" / "link" / "data")
    assert Scan(tmp_path / "last").below(tmp_path) == [
        *("last", "place", "real"),
        "place/link",
        "real/data",
        "real/data/file",
    ]


def test_links_inside_a_source_are_not_followed(tmp_path: Path) -> None:
    plant(tmp_path, "out/secret", "in/file")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    assert Scan(tmp_path / "in").below(tmp_path) == ["in", "in/file", "in/link"]


def test_links_that_go_round_in_circles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(Invalid, match="too many symbolic links"):
        Scan(tmp_path / "a" / "x")


def test_sockets_are_reported_once_and_not_given(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        plant(tmp_path, "a", "z")
        run = Scan(tmp_path)
        assert run.below(tmp_path) == ["a", "z"]
    path = os.fsencode(tmp_path / "socket")
    assert run.reports == [(path, "socket: not saved", "skipped")]


def test_a_directory_that_cannot_be_read_is_a_failure_and_stops_nothing(tmp_path: Path) -> None:
    plant(tmp_path, "closed/x", "open/y")
    with pytest.MonkeyPatch.context() as patch:
        if os.geteuid() == 0:
            real = os.open

            def refuse(
                path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
            ) -> int:
                if path == b"closed":
                    raise PermissionError(13, "Permission denied", path)
                return real(path, flags, mode, dir_fd=dir_fd)

            patch.setattr(os, "open", refuse)
        else:
            (tmp_path / "closed").chmod(0)
        run = Scan(tmp_path)
        assert run.below(tmp_path) == ["closed", "open", "open/y"]
    (tmp_path / "closed").chmod(0o700)
    path = os.fsencode(tmp_path / "closed")
    assert run.reports == [(path, "permission denied", "failed")]


def test_what_vanishes_during_the_scan_is_told_and_stops_nothing(tmp_path: Path) -> None:
    plant(tmp_path, "a/x", "b/y", "c/z")
    run = Scan(tmp_path)
    names: list[bytes] = []
    for batch in run.scanner.batches():
        names += [name for name, _status in batch.entries]
        if names[-1] == b"x":
            shutil.rmtree(tmp_path / "b")
    assert names[-2:] == [b"x", b"z"]
    assert [(path, severity) for path, _why, severity in run.reports] == [
        (os.fsencode(tmp_path / "b"), "skipped")
    ]


def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    plant(tmp_path, "outside/secret", "in/a/x", "in/b/y")
    run = Scan(tmp_path / "in")
    names: list[bytes] = []
    for batch in run.scanner.batches():
        names += [name for name, _status in batch.entries]
        if names[-1] == b"x":
            shutil.rmtree(tmp_path / "in" / "b")
            (tmp_path / "in" / "b").symlink_to(tmp_path / "outside")
    assert b"secret" not in names
    assert run.reports[0][0] == os.fsencode(tmp_path / "in" / "b")
    assert run.reports[0][2] == "failed"


def dig(root: Path, depth: int, name: bytes) -> None:
    at = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.mknod(b"bottom", dir_fd=at)
    os.close(at)


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_tree_deeper_than_paths_and_handles_go_is_scanned(tmp_path: Path) -> None:
    dig(tmp_path, 3_000, b"d")
    dig(tmp_path, 25, b"l" * 255)
    before = open_handles()
    most = before
    lengths: list[int] = []
    for batch in Scan(tmp_path).scanner.batches():
        lengths.append(len(batch.directory))
        if len(lengths) % 100 == 0:
            most = max(most, open_handles())
    assert len(lengths) == 3_000 + 25 + len(ancestors(tmp_path)) + 1
    assert max(lengths) > 4096
    assert most - before <= descent.HANDLES_MAX + 4
    assert open_handles() == before
    remove(tmp_path / "d")


def remove(deep: Path) -> None:
    """shutil.rmtree calls itself once a level."""
    subprocess.run(["rm", "-rf", deep], check=True)


def test_a_directory_far_up_that_is_moved_away_meanwhile_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    dig(tmp_path / "top", 2 * descent.HANDLES_MAX, b"d")
    plant(tmp_path, "top/later/x", "zz/y")
    (tmp_path / "away").mkdir()
    run = Scan(tmp_path)
    names: list[bytes] = []
    for batch in run.scanner.batches():
        names += [name for name, _status in batch.entries]
        if names[-1] == b"bottom":
            # Neither ".." nor its path leads back to the directory above any more.
            (tmp_path / "top" / "d" / "d").rename(tmp_path / "away" / "d")
            (tmp_path / "top" / "d").rename(tmp_path / "top" / "moved")
    assert names[-2:] == [b"x", b"y"], "what lies above goes on"
    lost = os.fsencode(tmp_path / "top" / "d")
    assert [(path, severity) for path, _why, severity in run.reports] == [(lost, "failed")]


@pytest.mark.parametrize("count", [scan.BATCH_MAX, scan.BATCH_MAX + 1, 25_000])
def test_a_wide_directory_comes_in_bounded_batches_still_sorted(tmp_path: Path, count: int) -> None:
    for number in range(count - 2):
        (tmp_path / f"{number * 7919 % count:x}").touch()
    plant(tmp_path, "sub/inner", "sub2/inner")
    batches: list[Batch] = []
    for batch in Scan(tmp_path).scanner.batches():
        assert len(batch.entries) <= scan.BATCH_MAX
        batches.append(batch)
    keys = [
        entry_key(batch.directory, name) for batch in batches for name, _status in batch.entries
    ]
    assert keys == sorted(keys)
    assert len(keys) == count + 2 + len(ancestors(tmp_path))
    assert [batch.directory.split(b"\0")[-2] for batch in batches[-2:]] == [b"sub", b"sub2"]


def test_handles_are_closed_when_a_scan_is_left_early(tmp_path: Path) -> None:
    plant(tmp_path, "a/b/c/d", "a/b/e")
    before = open_handles()
    batches = Scan(tmp_path).scanner.batches()
    for batch in batches:
        if batch.entries[0][0] == b"d":
            break
    assert open_handles() > before
    del batches
    assert open_handles() == before


def test_a_scan_leaves_access_times_alone(tmp_path: Path) -> None:
    plant(tmp_path, "a/b")
    os.utime(tmp_path / "a", ns=(0, 10**18))
    Scan(tmp_path).paths()
    assert (tmp_path / "a").stat().st_atime_ns == 0


def test_patterns_prune_what_lies_below_a_source(tmp_path: Path) -> None:
    plant(tmp_path, "src/a.o", "src/b.c", "src/build/x", "src/deep/build/y", "src/deep/z.o")
    excludes = Excludes(["*.o", f"{tmp_path}/src/build"])
    run = Scan(tmp_path / "src", excludes=excludes)
    assert run.below(tmp_path) == [
        "src",
        "src/b.c",
        "src/deep",
        "src/deep/build",
        "src/deep/build/y",
    ]
    assert run.reports == []


def test_a_source_is_saved_whatever_patterns_say(tmp_path: Path) -> None:
    plant(tmp_path, "src/keep/x", "src/drop/y", "src/drop/inner/z")
    excludes = Excludes(["src", "drop/", "z"])
    run = Scan(tmp_path / "src", tmp_path / "src" / "drop" / "inner", excludes=excludes)
    assert run.below(tmp_path) == ["src", "src/drop", "src/keep", "src/drop/inner", "src/keep/x"]


def test_patterns_are_anchored_at_the_innermost_source(tmp_path: Path) -> None:
    plant(tmp_path, "a/tmp/1", "a/b/tmp/2", "a/b/c/tmp/3")
    run = Scan(tmp_path / "a", tmp_path / "a" / "b", excludes=Excludes(["c/tmp", "b/tmp"]))
    kept = ["a", "a/b", "a/tmp", "a/b/c", "a/b/tmp", "a/b/tmp/2", "a/tmp/1"]
    assert run.below(tmp_path) == kept


def test_a_whole_path_is_left_out_whichever_source_it_lies_in(tmp_path: Path) -> None:
    plant(tmp_path, "a/tmp/1", "a/b/tmp/2", "a/b/c/tmp/3")
    excludes = Excludes([f"{tmp_path}/a/b/tmp", f"{tmp_path}/a/*/c/tmp", f"{tmp_path}/a/b"])
    run = Scan(tmp_path / "a", tmp_path / "a" / "b", excludes=excludes)
    assert run.below(tmp_path) == ["a", "a/b", "a/tmp", "a/b/c", "a/tmp/1"]


def test_patterns_see_names_that_are_not_utf_8_and_new_lines(tmp_path: Path) -> None:
    plant(tmp_path, "s/a\nb/x.o", "s/a\nb/y.c", "s/c.o\n", "s/d\n.o", os.fsdecode(b"s/\xff.o"))
    run = Scan(tmp_path / "s", excludes=Excludes(["*.o"]))
    assert run.below(tmp_path) == ["s", "s/a\nb", "s/c.o\n", "s/a\nb/y.c"]


def tag(directory: Path, content: bytes = TAG_SIGNATURE + b"\n# more") -> None:
    (directory / "CACHEDIR.TAG").write_bytes(content)


def test_of_a_cache_only_the_directory_and_its_tag_are_saved(tmp_path: Path) -> None:
    plant(tmp_path, "cache/x", "cache/sub/y", "lies/x", "link/x", "plain")
    tag(tmp_path / "cache")
    tag(tmp_path / "lies", b"Signature: something else")
    (tmp_path / "link" / "CACHEDIR.TAG").symlink_to("../cache/CACHEDIR.TAG")
    run = Scan(tmp_path)
    assert [path for path in run.below(tmp_path) if "/" in path] == [
        *("cache/CACHEDIR.TAG", "lies/CACHEDIR.TAG", "lies/x"),
        *("link/CACHEDIR.TAG", "link/x"),
    ]
    kept = Scan(tmp_path, excludes=Excludes(skip_caches=False)).below(tmp_path)
    assert "cache/sub/y" in kept


def test_a_cache_that_is_a_source_is_saved_whole(tmp_path: Path) -> None:
    plant(tmp_path, "cache/x", "cache/inner/y", "cache/inner/z", "cache/else/w")
    tag(tmp_path / "cache")
    assert "cache/x" in Scan(tmp_path / "cache").below(tmp_path)
    run = Scan(tmp_path, tmp_path / "cache" / "inner" / "y")
    found = [path for path in run.below(tmp_path) if "/" in path]
    assert found == ["cache/CACHEDIR.TAG", "cache/inner", "cache/inner/y"]


def test_a_cache_of_many_names_is_left_out_as_well(tmp_path: Path) -> None:
    (tmp_path / "cache" / "sub").mkdir(parents=True)
    for number in range(scan.BATCH_MAX + 5):
        (tmp_path / "cache" / str(number)).touch()
    tag(tmp_path / "cache")
    assert Scan(tmp_path).below(tmp_path) == ["cache", "cache/CACHEDIR.TAG"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A directory with another file system mounted inside, and a directory bound to another."""
    plant(tmp_path, "own/x", "other/hidden", "bound/hidden")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "other"], check=True)
    subprocess.run(["mount", "--bind", tmp_path / "own", tmp_path / "bound"], check=True)
    plant(tmp_path, "other/y", "other/sub/z")
    yield tmp_path
    for name in ("other", "bound"):
        subprocess.run(["umount", tmp_path / name], check=True)


@pytest.mark.root
def test_one_file_system_keeps_mount_points_as_empty_directories(mounted: Path) -> None:
    run = Scan(mounted, one_file_system=True)
    assert run.below(mounted) == ["bound", "other", "own", "own/x"]
    assert run.reports == []
    everything = Scan(mounted).below(mounted)
    assert {"bound/x", "other/sub/z"} <= set(everything)


@pytest.mark.root
def test_a_source_beyond_a_mount_point_is_saved(mounted: Path) -> None:
    run = Scan(mounted, mounted / "other" / "sub", mounted / "bound" / "x", one_file_system=True)
    assert run.below(mounted) == [
        *("bound", "other", "own"),
        *("bound/x", "other/sub", "other/sub/z", "own/x"),
    ]


def test_types_are_as_lstat_says(tmp_path: Path) -> None:
    plant(tmp_path, "file", "directory/")
    (tmp_path / "link").symlink_to("directory")
    os.mkfifo(tmp_path / "pipe")
    kinds = {
        name: stat.S_IFMT(status.st_mode)
        for batch in Scan(tmp_path).scanner.batches()
        for name, status in batch.entries
        if batch.directory.endswith(os.fsencode(tmp_path.name) + b"\0")
    }
    assert kinds == {
        b"file": stat.S_IFREG,
        b"directory": stat.S_IFDIR,
        b"link": stat.S_IFLNK,
        b"pipe": stat.S_IFIFO,
    }
