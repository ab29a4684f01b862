"""Fields of small files: millions of them, planted fast and gone at once."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def fenced(place: Path, most: int) -> Generator[Path]:
    """A folder in `place` for so many files: as root on a file system of its own, where they lie in
    their inodes, and of which nothing is left when it is unmounted.
    """
    folder = place / "field"
    folder.mkdir()
    if os.geteuid() != 0:
        yield folder
        shutil.rmtree(folder)
        return
    image = place / "image"
    with image.open("wb") as file:
        file.truncate((1 << 30) + 2048 * most)
    inodes = str(most * 13 // 10)
    make = ("mkfs.ext4", "-q", "-F", "-I", "256", "-N", inodes, "-O", "inline_data,large_dir")
    subprocess.run((*make, image), check=True)
    subprocess.run(("mount", "-o", "loop", image, folder), check=True)
    image.unlink()
    try:
        yield folder
    finally:
        subprocess.run(("umount", folder), check=True)


def scattered(root: Path, start: int, stop: int) -> None:
    """Small files, a hundred to a folder; those before `start` are there."""
    for number in range(start, stop, 100):
        folder = root / f"{number // 10_000}" / f"{number}"
        folder.mkdir(parents=True)
        fd = os.open(folder, os.O_DIRECTORY)
        for each in range(number, number + 100):
            _write(fd, b"%08d" % each)
        os.close(fd)


def crowded(root: Path, start: int, stop: int) -> None:
    """Small files in one folder."""
    fd = os.open(root, os.O_DIRECTORY)
    for number in range(start, stop):
        _write(fd, b"%08x" % (number * 2_654_435_761 % 2**32))
    os.close(fd)


def _write(directory: int, name: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    os.write(fd, name * 4)
    os.close(fd)
