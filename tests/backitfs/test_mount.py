"""A mounted snapshot is what was saved, and can be read like any disk that cannot be written."""

from __future__ import annotations

import errno
import mmap
import os
import random
import re
import shutil
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backitfs.mountpoint import READ_AHEAD_KIB
from tests.backitfs.mounts import look, mounted
from tests.fidelity import manifest, oracle
from tests.patience import until
from tests.system import trees

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.programs import Person

# A kernel call has no way to fetch these through pyfuse3.
BLIND = {"flags"}


def same(source: Path, seen: Path) -> None:
    """Two opinions that a tree in the mount is the tree that was saved."""
    before = manifest.scan(source)
    assert manifest.compare(before, manifest.scan(seen), without=BLIND) == []
    sockets = {path for path, entry in before.items() if entry.kind == "socket"}
    assert oracle.compare(source, seen, sockets=sockets) == []


def test_a_mount_shows_what_was_saved(anna: Person, source: Path, folder: Path) -> None:
    trees.plant_everything(source, "mount")
    anna.backup(source)
    with mounted(anna, folder) as found:
        (device,) = folder.iterdir()
        names = sorted(each.name for each in device.iterdir())
        assert names[-1] == "latest"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", names[0])
        assert os.readlink(device / "latest") == names[0]
        same(source, found.latest / source.relative_to("/"))
        assert found.log_text() == ""


def test_a_single_snapshot_is_the_folder_itself(anna: Person, source: Path, folder: Path) -> None:
    trees.plant(source, "single")
    first = anna.backup(source)["snapshot"]
    (source / "large").unlink()
    anna.backup(source)
    with mounted(anna, folder, first):
        seen = folder / source.relative_to("/")
        assert (seen / "large").stat().st_size == 3 * trees.MIB
        (source / "large").write_bytes((seen / "large").read_bytes())
        assert os.stat(folder).st_ino == 1
        assert {".", ".."} <= set(look("ls", "-a", folder).split())


def test_snapshots_come_and_go_while_mounted(anna: Person, source: Path, folder: Path) -> None:
    (source / "file").write_text("one")
    first = anna.backup(source)["snapshot"]
    with mounted(anna, folder) as found:
        (device,) = folder.iterdir()
        assert len(list(device.iterdir())) == 2
        (source / "file").write_text("two, and longer")
        anna.backup(source)
        until(lambda: len(list(device.iterdir())) == 3, "a new snapshot")
        newest = found.latest / source.relative_to("/") / "file"
        until(lambda: newest.read_text() == "two, and longer", "latest is the newest")
        oldest = min(each for each in device.iterdir())
        with (oldest / source.relative_to("/") / "file").open() as still_open:
            anna.ctl("forget", first)
            until(lambda: len(list(device.iterdir())) == 2, "it is gone")
            until(lambda: not oldest.exists(), "its name is gone")
            assert still_open.read() == "one"


def test_a_file_keeps_its_number(anna: Person, source: Path, folder: Path) -> None:
    trees.plant(source, "numbers", large=0)
    (source / "linked").write_text("twice")
    os.link(source / "linked", source / "folder 1" / "again")
    anna.backup(source)

    def numbers() -> dict[str, int]:
        return {
            str(path.relative_to(folder)): path.lstat().st_ino for path in sorted(folder.rglob("*"))
        }

    with mounted(anna, folder) as found:
        first = numbers()
        seen = found.latest / source.relative_to("/")
        one, other = (seen / "linked").stat(), (seen / "folder 1" / "again").stat()
        assert (one.st_ino, one.st_nlink) == (other.st_ino, 2)
        for directory, _folders, _files in os.walk(seen):
            with os.scandir(directory) as names:
                assert all(
                    each.inode() == each.stat(follow_symlinks=False).st_ino for each in names
                )
    with mounted(anna, folder):
        assert numbers() == first
    shared = [path for path in first if path.endswith(("/linked", "/again"))]
    others = [number for path, number in first.items() if path not in shared]
    assert len(set(others)) == len(others)


def test_any_range_can_be_read_by_many_at_once(anna: Person, source: Path, folder: Path) -> None:
    data = trees.random_bytes("ranges", 12 * trees.MIB)
    hole = 3 * trees.MIB
    with (source / "sparse").open("wb") as file:
        file.write(data[: 5 * trees.MIB])
        file.seek(hole, os.SEEK_CUR)
        file.write(data[5 * trees.MIB :])
    (source / "small").write_bytes(data[:1000])
    whole = data[: 5 * trees.MIB] + bytes(hole) + data[5 * trees.MIB :]
    anna.backup(source)
    with mounted(anna, folder, "--cache", "16M") as found:
        seen = found.latest / source.relative_to("/")

        def reads(seed: int) -> list[tuple[int, int]]:
            draw, wrong = random.Random(seed), list[tuple[int, int]]()
            fd = os.open(seen / "sparse", os.O_RDONLY)
            for _ in range(150):
                at, size = draw.randrange(len(whole) + 9), draw.choice((1, 4096, 200_000))
                if os.pread(fd, size, at) != whole[at : at + size]:
                    wrong.append((at, size))
            os.close(fd)
            return wrong

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(reads, range(4))) == [[]] * 4
        with (seen / "sparse").open("rb") as opened:
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view:
                assert view[:] == whole
            assert opened.seek(0) == 0
            assert os.fstat(opened.fileno()).st_blocks * 512 < len(whole) - hole // 2
        assert (seen / "small").read_bytes() == data[:1000]


def test_programs_find_what_they_know(anna: Person, source: Path, folder: Path) -> None:
    with sqlite3.connect(source / "base.db") as base:
        base.execute("create table things (name text)")
        base.executemany("insert into things values (?)", [(f"n{i}",) for i in range(5000)])
    base.close()
    work = source / "clone"
    look("git", "init", "--quiet", work)
    trees.plant(work, "clone", files=30, large=0)
    look("git", "-C", work, "add", ".")
    who = ("-c", "user.name=anna", "-c", "user.email=anna@example.org")
    look("git", *who, "-C", work, "commit", "--quiet", "-m", "all")
    anna.backup(source)
    with mounted(anna, folder) as found:
        seen = found.latest / source.relative_to("/")
        uri = f"file:{seen / 'base.db'}?mode=ro&immutable=1".replace(" ", "%20")
        opened = sqlite3.connect(uri, uri=True)
        assert opened.execute("select count(*) from things").fetchone() == (5000,)
        opened.close()
        safe = ("-c", "safe.directory=*")
        assert look("git", *safe, "-C", seen / "clone", "status", "--porcelain") == ""
        copy = source.parent / "copy"
        look("cp", "-a", seen, copy)
        assert manifest.compare(manifest.scan(source), manifest.scan(copy)) == []
        total = shutil.disk_usage(folder)
        assert (total.free, total.used) == (0, total.total)


def writings() -> list[tuple[str, Callable[[Path], object]]]:
    def attribute(at: Path) -> None:
        os.setxattr(at / "file", "user.new", b"1")

    return [
        ("open for writing", lambda at: os.open(at / "file", os.O_WRONLY)),
        ("open for both", lambda at: os.open(at / "file", os.O_RDWR)),
        ("truncate while opening", lambda at: os.open(at / "file", os.O_RDONLY | os.O_TRUNC)),
        ("create", lambda at: os.open(at / "new", os.O_WRONLY | os.O_CREAT, 0o600)),
        ("truncate", lambda at: os.truncate(at / "file", 1)),
        ("unlink", lambda at: (at / "file").unlink()),
        ("rename", lambda at: (at / "file").rename(at / "other")),
        ("link", lambda at: os.link(at / "file", at / "other")),
        ("symlink", lambda at: (at / "new").symlink_to("file")),
        ("mkdir", lambda at: (at / "new").mkdir()),
        ("rmdir", lambda at: (at / "empty").rmdir()),
        ("mkfifo", lambda at: os.mkfifo(at / "new")),
        ("chmod", lambda at: (at / "file").chmod(0o600)),
        ("chown", lambda at: os.chown(at / "file", os.getuid(), os.getgid())),
        ("times", lambda at: os.utime(at / "file", (1, 1))),
        ("set an attribute", attribute),
        ("remove an attribute", lambda at: os.removexattr(at / "file", "user.old")),
    ]


def test_nothing_can_be_written(anna: Person, source: Path, folder: Path) -> None:
    (source / "file").write_text("as it is")
    (source / "empty").mkdir()
    os.setxattr(source / "file", "user.old", b"1")
    anna.backup(source)
    with mounted(anna, folder) as found:
        seen = found.latest / source.relative_to("/")
        for at in (seen, folder):
            for name, write in writings():
                with pytest.raises(OSError) as refused:  # noqa: PT011 - the number is looked at
                    write(at)
                wanted = errno.EROFS if at == seen else refused.value.errno
                assert (name, refused.value.errno) == (name, wanted)
        assert (seen / "file").read_text() == "as it is"
        assert os.getxattr(seen / "file", "user.old") == b"1"


def test_the_owner_can_be_whoever_mounts(anna: Person, source: Path, folder: Path) -> None:
    (source / "file").write_text("mine")
    if os.geteuid() == 0:
        os.chown(source / "file", 12_345, 54_321)
    anna.backup(source)
    saved = (source / "file").stat()
    for wish, owner in (("me", os.getuid()), ("original", saved.st_uid)):
        with mounted(anna, folder, "--owner", wish) as found:
            seen = (found.latest / source.relative_to("/") / "file").stat()
            assert (seen.st_uid, seen.st_mode) == (owner, saved.st_mode)


def test_a_directory_is_listed_whole_by_each_who_has_it_open(
    anna: Person, source: Path, folder: Path
) -> None:
    names = {f"{number:04}" for number in range(2000)}
    for name in names:
        (source / name).touch()
    anna.backup(source)
    with mounted(anna, folder) as found:
        for path, wanted in (
            (found.latest / source.relative_to("/"), names),
            (folder, {each.name for each in folder.iterdir()}),
        ):
            with os.scandir(path) as one, os.scandir(path) as other:
                pairs = [(left.name, right.name) for left, right in zip(one, other, strict=True)]
            assert {left for left, _right in pairs} == wanted == {right for _left, right in pairs}
            again = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            assert set(os.listdir(again)) == wanted == set(os.listdir(again)), "from the start"
            os.close(again)


def test_dots_have_the_numbers_of_what_they_lead_to(
    anna: Person, source: Path, folder: Path
) -> None:
    (source / "one" / "two").mkdir(parents=True)
    anna.backup(source)
    with mounted(anna, folder) as found:
        seen = found.latest / source.relative_to("/")
        for path in (folder, found.latest.resolve(), seen, seen / "one", seen / "one" / "two"):
            said = subprocess.run(["ls", "-ai1", path], capture_output=True, text=True, check=True)
            numbers = {line.split()[1]: int(line.split()[0]) for line in said.stdout.splitlines()}
            assert numbers["."] == path.stat().st_ino
            if path != folder:  # above that is another file system
                assert numbers[".."] == path.parent.stat().st_ino


@pytest.mark.root
def test_the_kernel_reads_far_ahead(anna: Person, source: Path, folder: Path) -> None:
    """It takes libfuse's word for how far, unless told otherwise after that."""
    (source / "file").write_text("x")
    anna.backup(source)
    with mounted(anna, folder):
        device = folder.stat().st_dev
        setting = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
        assert Path(setting).read_text() == f"{READ_AHEAD_KIB}\n"


def test_a_large_directory_is_listed_whole(anna: Person, source: Path, folder: Path) -> None:
    names = {f"{number:05}" + "x" * (number % 90) for number in range(3000)}
    for name in names:
        (source / name).touch()
    anna.backup(source)
    with mounted(anna, folder) as found:
        seen = os.listdir(found.latest / source.relative_to("/"))
        assert len(seen) == len(names)
        assert set(seen) == names
