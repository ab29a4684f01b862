"""A file is there whole, under its name, or not at all."""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backit.client.write import (
    Nameless,
    NewFile,
    Special,
    hash_content,
    is_temporary,
    make_link,
    make_special,
    temporary_name,
)
from backit.engine.plan import Layout


@pytest.fixture
def at(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def able(_at: int) -> Nameless:
    return Nameless()


def unable(at: int) -> Nameless:
    """As on a file system that has no files without names."""
    nameless = Nameless()
    nameless.open_nothing_on(os.fstat(at).st_dev)
    return nameless


@pytest.fixture(params=[able, unable])
def nameless(request: pytest.FixtureRequest, at: int) -> Nameless:
    found = request.param(at)
    assert isinstance(found, Nameless)
    return found


def begin(at: int, nameless: Nameless, data: bytes = b"content") -> NewFile:
    file = NewFile(at, os.fstat(at).st_dev, nameless, 0o640)
    file.write(memoryview(data), 0, None)
    return file


def test_nothing_stands_under_the_name_before_it_is_published(
    at: int, tmp_path: Path, nameless: Nameless
) -> None:
    file = begin(at, nameless)
    assert not (tmp_path / "file").exists()
    file.publish(b"file", replace=False)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_discarded_leaves_nothing(at: int, tmp_path: Path, nameless: Nameless) -> None:
    before = len(os.listdir("/proc/self/fd"))
    begin(at, nameless).discard()
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_that_is_taken_is_not_taken_over_unasked(
    at: int, tmp_path: Path, nameless: Nameless
) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    file = begin(at, nameless)
    with pytest.raises(FileExistsError):
        file.publish(b"file", replace=False)
    file.discard()
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_whatever_stands_there_is_replaced_in_one_step(
    at: int, tmp_path: Path, nameless: Nameless, kind: str
) -> None:
    (tmp_path / "other").write_bytes(b"untouched")
    if kind == "file":
        os.link(tmp_path / "other", tmp_path / "file")
    elif kind == "link":
        (tmp_path / "file").symlink_to("other")
    else:
        os.mkfifo(tmp_path / "file")
    file = begin(at, nameless)
    file.publish(b"file", replace=True)
    file.close()
    assert stat.S_ISREG((tmp_path / "file").lstat().st_mode)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert (tmp_path / "other").read_bytes() == b"untouched"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


def test_holes_stay_holes(at: int, tmp_path: Path) -> None:
    size = 1 << 30
    layout = Layout(size, [(4096, (1 << 29) - 4096), ((1 << 29) + 8192, size - (1 << 29) - 8192)])
    data = os.urandom(layout.data_size)
    file = NewFile(at, os.fstat(at).st_dev, Nameless(), 0o600)
    os.ftruncate(file.fd, size)
    for start in range(0, len(data), 5000):
        file.write(memoryview(data)[start : start + 5000], start, layout)
    file.publish(b"sparse", replace=False)
    file.close()
    path = tmp_path / "sparse"
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 < 1 << 20
    with path.open("rb") as sparse:
        assert sparse.read(4096) == data[:4096]
        sparse.seek(1 << 29)
        assert sparse.read(8192) == data[4096:]
    found: list[bytes] = []
    assert hash_content(at, b"sparse", layout, found.append)
    assert b"".join(found) == data


def test_content_is_only_the_same_if_holes_read_as_zeros(at: int, tmp_path: Path) -> None:
    layout = Layout(10, [(2, 4)])
    for content, fits in (
        (b"ab\0\0\0\0cdef", True),
        (b"ab\0\0x\0cdef", False),
        (b"ab\0\0\0\0cde", False),
        (b"ab\0\0\0\0cdefg", False),
    ):
        (tmp_path / "file").write_bytes(content)
        found: list[bytes] = []
        assert hash_content(at, b"file", layout, found.append) is fits
        if fits:
            assert b"".join(found) == b"abcdef"


def test_an_empty_layout_is_only_zeros(at: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    found: list[bytes] = []
    assert hash_content(at, b"file", Layout(5000, [(0, 5000)]), found.append)
    (tmp_path / "file").write_bytes(bytes(4999) + b"x")
    assert not hash_content(at, b"file", Layout(5000, [(0, 5000)]), found.append)
    assert found == []


@pytest.mark.parametrize("replace", [False, True])
def test_links_and_pipes_get_their_metadata_by_handle(
    at: int, tmp_path: Path, *, replace: bool
) -> None:
    for name, special in (
        (b"link", Special(stat.S_IFLNK, target=b"no\xffwhere")),
        (b"pipe", Special(stat.S_IFIFO)),
    ):
        path = tmp_path / os.fsdecode(name)
        if replace:
            path.write_bytes(b"old")

        def imprint(place: bytes) -> None:
            os.utime(place, ns=(0, 10**18 + 7))

        identity = make_special(at, name, special, imprint, replace=replace)
        found = path.lstat()
        assert identity == (found.st_dev, found.st_ino)
        assert stat.S_IFMT(found.st_mode) == special.kind
        assert found.st_mtime_ns == 10**18 + 7
    assert os.fsencode(os.readlink(tmp_path / "link")) == b"no\xffwhere"
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_a_special_that_cannot_be_finished_leaves_what_it_was_to_replace(
    at: int, tmp_path: Path
) -> None:
    (tmp_path / "link").write_bytes(b"old")

    def fail(_place: bytes) -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        make_special(at, b"link", Special(stat.S_IFLNK, target=b"x"), fail, replace=True)
    assert os.listdir(tmp_path) == ["link"]
    assert (tmp_path / "link").read_bytes() == b"old"


@pytest.mark.root
def test_an_owner_is_never_given_to_what_a_link_leads_to(at: int, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"x")

    def imprint(place: bytes) -> None:
        os.chown(place, 12345, 12345)

    special = Special(stat.S_IFLNK, target=b"victim")
    make_special(at, b"link", special, imprint, replace=False)
    assert (tmp_path / "link").lstat().st_uid == 12345
    assert (tmp_path / "victim").stat().st_uid == 0


def test_a_further_name_may_replace_a_file_or_itself(at: int, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"x")
    (tmp_path / "taken").write_bytes(b"old")
    make_link((at, b"first"), at, b"second", replace=False)
    make_link((at, b"first"), at, b"taken", replace=True)
    make_link((at, b"first"), at, b"second", replace=True)
    with pytest.raises(FileExistsError):
        make_link((at, b"first"), at, b"second", replace=False)
    assert sorted(os.listdir(tmp_path)) == ["first", "second", "taken"]
    assert (tmp_path / "first").stat().st_nlink == 3


def test_temporary_names_are_told_from_all_others() -> None:
    names = {temporary_name() for _ in range(100)}
    assert len(names) == 100
    assert all(is_temporary(name) for name in names)
    assert not is_temporary(b".backit-restore-mine")
    assert not is_temporary(b".backit-restored")


@pytest.mark.root
def test_a_file_system_without_nameless_files_and_links_is_written_to(tmp_path: Path) -> None:
    if shutil.which("mkfs.vfat") is None:
        pytest.skip("no mkfs.vfat here")
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as disk:
        disk.truncate(16 << 20)
    subprocess.run(["mkfs.vfat", image], capture_output=True, check=True)
    if subprocess.run(["mount", "-o", "loop", image, mount], check=False).returncode:
        pytest.skip("vfat cannot be mounted here")
    try:
        fd = os.open(mount, os.O_RDONLY)
        file = begin(fd, Nameless())
        file.publish(b"file", replace=False)
        file.close()
        assert (mount / "file").read_bytes() == b"content"
        again = begin(fd, Nameless(), b"other")
        with pytest.raises(FileExistsError):
            again.publish(b"FILE", replace=False)
        again.publish(b"file", replace=True)
        again.close()
        assert os.listdir(mount) == ["file"]
        assert (mount / "file").read_bytes() == b"other"
        os.close(fd)
    finally:
        subprocess.run(["umount", mount], check=True)
