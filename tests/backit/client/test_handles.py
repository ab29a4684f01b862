"""Directories are reached through directories alone, and never below a path that somebody bends."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backit.client import handles


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to("b")
    (tmp_path / "a" / "file").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(params=["openat2", "name by name"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of opening: with openat2, and as on a kernel that lacks it."""
    if request.param != "openat2":

        def refuse(*_args: object) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(handles, "_openat2", refuse)


@pytest.mark.usefixtures("way")
def test_a_directory_below_is_opened(root: int, tmp_path: Path) -> None:
    fd = handles.open_below(root, [b"a", b"b", b"c"])
    assert handles.identity(fd) == handles_identity(tmp_path / "a" / "b" / "c")
    os.close(fd)
    fd = handles.open_below(root, [])
    assert handles.identity(fd) == handles.identity(root)
    os.close(fd)


def handles_identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("names", [[b"a", b"link", b"c"], [b"a", b"link"], [b"a", b"file"]])
def test_a_link_or_a_file_on_the_way_is_refused(root: int, names: list[bytes]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        handles.open_below(root, names)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("way")
def test_a_path_of_any_length_is_followed(root: int, tmp_path: Path) -> None:
    names = [b"n" * 255] * 40
    at = os.dup(root)
    for name in names:
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    fd = handles.open_below(root, names)
    assert handles.identity(fd) == handles.identity(at)
    os.close(at)
    os.close(fd)
    subprocess.run(["rm", "-rf", tmp_path / ("n" * 255)], check=True)


@pytest.mark.usefixtures("way")
def test_a_directory_on_the_same_mount_is_opened(root: int, tmp_path: Path) -> None:
    fd = handles.open_on_same_mount(root, b"a")
    assert handles.identity(fd) == handles_identity(tmp_path / "a")
    os.close(fd)


@pytest.mark.root
def test_a_mount_point_is_not_on_the_same_mount(root: int, tmp_path: Path) -> None:
    subprocess.run(["mount", "--bind", tmp_path / "a", tmp_path / "a" / "b"], check=True)
    try:
        at = os.open(tmp_path / "a", os.O_RDONLY)
        with pytest.raises(OSError, match="cross-device") as caught:
            handles.open_on_same_mount(at, b"b")
        assert caught.value.errno == errno.EXDEV
        os.close(at)
    finally:
        subprocess.run(["umount", tmp_path / "a" / "b"], check=True)
