"""The data to back up, made from what the machine has: small files, a tar-like file, random bytes.

Each data set is a folder. Nothing is fetched, and what is taken is the same at every run as long
as the machine's files are.
"""

import hashlib
import itertools
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import BenchError
from tests.bench.rows import DataSetName

GIB = 1 << 30
MIB = 1 << 20

_LARGEST_SMALL_FILE = MIB
_ENOUGH_FILES = 60_000
_ENOUGH_BYTES = 1_000_000_000
_SMALL_DIVISOR = 20
# Program files only: nothing that is private or changes while it is copied. The later ones are for
# machines where /usr has too few.
_ROOTS = (Path("/usr"), Path(sys.base_prefix), Path("/opt"), Path(sys.prefix))
# In this order, so that real code and data come first wherever 2 GiB are not all needed.
_TAR_ROOTS = (Path("/usr/lib"), Path("/usr/share"), Path("/usr"), Path(sys.base_prefix))


@dataclass(frozen=True, slots=True)
class DataSet:
    """A folder that was made; `files` counts symlinks too, `size` is in bytes."""

    name: DataSetName
    folder: Path
    files: int
    size: int
    origin: str


def make(name: DataSetName, folder: Path, *, small: bool = False) -> DataSet:
    """Fill the new `folder`; `small` makes a twentieth of it, for a trial run."""
    divisor = _SMALL_DIVISOR if small else 1
    folder.mkdir(parents=True)
    makers: dict[DataSetName, Callable[[Path, int], str]] = {
        "files": _make_files,
        "tar": _make_tar,
        "random": _make_random,
    }
    origin = makers[name](folder, divisor)
    sizes = [
        path.lstat().st_size for path in walk(folder) if not stat.S_ISDIR(path.lstat().st_mode)
    ]
    if not sizes:
        raise BenchError(f"data set {name}: found nothing to make it of ({origin})")
    return DataSet(name, folder, len(sizes), sum(sizes), origin)


def walk(folder: Path) -> Iterator[Path]:
    """The folder and everything below it, symlinks not followed."""
    yield folder
    for parent, directories, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*directories, *files))


def warm(folder: Path) -> None:
    """Read everything below once, so that it is in the page cache if it fits there."""
    buffer = bytearray(MIB)
    for path in walk(folder):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def cool(folder: Path) -> None:
    """Give the page cache back what it holds of everything below; it must be on disk."""
    for path in walk(folder):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def allocated(folder: Path) -> int:
    """Bytes of disk that a folder takes, as du counts: blocks, each inode once, folders too."""
    inodes = {
        (found.st_dev, found.st_ino): found.st_blocks for found in map(os.lstat, walk(folder))
    }
    return 512 * sum(inodes.values())


def remove(folder: Path) -> None:
    """Delete a tree; folders that were copied without the right to write are no obstacle."""
    if os.geteuid():
        _run("chmod", "-R", "u+rwX", str(folder))
    shutil.rmtree(folder)


def verify(source: Path, target: Path) -> None:
    """Compare a restored tree with its source: bytes, names, links and every attribute.

    Tools lay the source out below the target by its whole path or by its name: both will do.
    Raises BenchError with the first differences.
    """
    choices = (target / source.relative_to("/"), target / source.name)
    restored = next((path for path in choices if path.is_dir()), target)
    check = ("rsync", "-aHAXn", "--checksum", "--delete", "--itemize-changes")
    differences = _run(*check, f"{source}/", f"{restored}/")
    if differences:
        first = "".join(f"\n    {line}" for line in differences.splitlines()[:10])
        raise BenchError(f"{restored}: restored tree differs from {source}:{first}")


def choose_small_files(
    roots: Sequence[Path], *, avoid: Path, enough_files: int, enough_bytes: int
) -> Iterator[Path]:
    """Files of at most 1 MiB and symlinks, until there are enough of both measures.

    Root after root; within each, whole folders in the order of a hash of their path: a fair
    mixture of what the machine has, and the same one each time. Nothing below the folder `avoid`
    is taken.
    """
    files = size = 0
    for folder in _shuffled_folders(roots, avoid):
        if files >= enough_files and size >= enough_bytes:
            return
        for path in sorted(folder.iterdir()):
            found = path.lstat()
            regular = stat.S_ISREG(found.st_mode) and os.access(path, os.R_OK)
            if regular and found.st_size <= _LARGEST_SMALL_FILE:
                files += 1
                size += found.st_size
                yield path
            elif stat.S_ISLNK(found.st_mode):
                yield path


def _shuffled_folders(roots: Sequence[Path], avoid: Path) -> Iterator[Path]:
    taken: list[Path] = []
    for root in (root.resolve() for root in roots):
        if any(root.is_relative_to(earlier) for earlier in taken):
            continue
        taken.append(root)
        yield from sorted(_readable_folders(root, avoid), key=_digest)


def _readable_folders(root: Path, avoid: Path) -> Iterator[Path]:
    for parent, directories, _ in os.walk(root):
        below = [(name, Path(parent, name)) for name in directories]
        directories[:] = [
            name for name, path in below if path != avoid and os.access(path, os.R_OK | os.X_OK)
        ]
        yield Path(parent)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(bytes(path)).digest()


def _make_files(folder: Path, divisor: int) -> str:
    chosen = choose_small_files(
        _ROOTS,
        avoid=folder.parent,
        enough_files=_ENOUGH_FILES // divisor,
        enough_bytes=_ENOUGH_BYTES // divisor,
    )
    for batch in _batches(chosen, 1000):
        # From the root and by relative names: cp --parents copies the folders' attributes so too.
        names = (str(path.relative_to("/")) for path in batch)
        _run("cp", "-a", "--parents", "-t", str(folder), "--", *names, cwd=Path("/"))
    used = [str(root) for root in _ROOTS if (folder / root.relative_to("/")).exists()]
    return f"copied from {' '.join(used)}, files above 1 MiB left out"


def _batches(paths: Iterator[Path], size: int) -> Iterator[list[Path]]:
    while batch := list(itertools.islice(paths, size)):
        yield batch


def _make_tar(folder: Path, divisor: int) -> str:
    wanted = 2 * GIB // divisor
    roots = tuple(map(str, _TAR_ROOTS))
    flags = ("--sort=name", "--absolute-names", f"--exclude={folder.parent}")
    argv = ("tar", *flags, "-cf", "-", *roots)
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tar,
        (folder / "data.tar").open("wb") as file,
    ):
        assert tar.stdout is not None
        while wanted and (block := tar.stdout.read(min(wanted, MIB))):
            wanted -= file.write(block)
        tar.kill()
    return f"the start of a tar of {' '.join(roots)}"


def _make_random(folder: Path, divisor: int) -> str:
    wanted = 2 * GIB // divisor
    with (folder / "data.bin").open("wb") as file:
        while wanted:
            wanted -= file.write(os.urandom(min(wanted, MIB)))
    return "the kernel's random bytes"


def _run(*argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise BenchError(f"{argv[0]}: exit status {done.returncode}: {done.stderr.strip()[:2000]}")
    return done.stdout
