"""Trees whose difficulty is in the inode: modes, owners, times and flags.

Extended attributes have a module of their own.
"""

import os
import random
from pathlib import Path

from tests.fidelity.inode_flags import Flag, change_path
from tests.fidelity.registry import Need, generator

SECOND = 10**9


@generator()
def permissions(root: Path, rng: random.Random) -> None:
    """Every mode that lets the owner read, on files and on directories."""
    for mode in range(0o400, 0o1000):
        path = root / f"f{mode:03o}"
        path.write_bytes(rng.randbytes(9))
        path.chmod(mode)
        if mode & 0o100:
            (root / f"d{mode:03o}").mkdir()
            (root / f"d{mode:03o}" / "inside").write_bytes(rng.randbytes(9))
            (root / f"d{mode:03o}").chmod(mode)


@generator(Need.ROOT)
def permissions_unreadable(root: Path, rng: random.Random) -> None:
    """Every mode that does not: mode 000 with content, belonging to others."""
    for mode in range(0o400):
        owner = rng.choice((0, 1000, 54_321))
        path = root / f"f{mode:03o}"
        path.write_bytes(rng.randbytes(9))
        folder = root / f"d{mode:03o}"
        folder.mkdir()
        (folder / "inside").write_bytes(rng.randbytes(9))
        for each in (path, folder):
            os.chown(each, owner, owner)
            each.chmod(mode)


@generator(Need.ROOT)
def permissions_special(root: Path, rng: random.Random) -> None:
    """Set-user-id, set-group-id and sticky: chown takes two of them away again."""
    for special in range(8):
        for low in (0o755, 0o711, 0o700, 0o644, 0o666, 0o070, 0):
            mode = special << 9 | low
            path, folder = root / f"f{mode:04o}", root / f"d{mode:04o}"
            path.write_bytes(rng.randbytes(9))
            folder.mkdir()
            (folder / "inside").write_bytes(rng.randbytes(9))
            for each in (path, folder):
                os.chown(each, rng.choice((0, 1000)), rng.choice((0, 2000)))
                each.chmod(mode)


@generator(Need.ROOT)
def owners(root: Path, rng: random.Random) -> None:
    """Numeric owners that no name stands for, up to the largest, on everything that has one."""
    numbers = (0, 1, 999, 65_534, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 2)
    for uid in numbers:
        gid = rng.choice(numbers)
        path = root / f"{uid}_{gid}"
        path.write_bytes(rng.randbytes(9))
        path.with_suffix(".d").mkdir()
        (path.with_suffix(".d") / "inside").touch()
        path.with_suffix(".link").symlink_to("nowhere")
        os.mkfifo(path.with_suffix(".fifo"))
        for each in sorted(root.glob(f"{uid}_{gid}*")):
            os.chown(each, uid, gid, follow_symlinks=False)


@generator(Need.ROOT)
def group_inheritance(root: Path, rng: random.Random) -> None:
    """Things that, made anew below a set-group-id directory, would get its group and its bit."""
    folder = root / "shared"
    folder.mkdir()
    for name in ("old_file", "new_file"):
        (folder / name).write_bytes(rng.randbytes(9))
    (folder / "inner").mkdir()
    os.chown(folder, 1000, 3000)
    folder.chmod(0o2775)
    (folder / "inherits").mkdir()
    (folder / "file_inherits").write_bytes(rng.randbytes(9))
    os.chown(folder / "new_file", 1000, 4000)


@generator()
def times(root: Path, rng: random.Random) -> None:
    """Nanoseconds around the epoch, now and soon, on files, directories, symlinks and FIFOs."""
    _with_times(root, rng, (0, 1, 999_999_999, SECOND, 1_700_000_000 * SECOND + 123_456_789))


@generator(Need.WIDE_TIMES)
def times_far_away(root: Path, rng: random.Random) -> None:
    """Before 1970 by a nanosecond and by decades, and past 2038, 2106 and 2128."""
    seconds = (-(2**31) + 1, -(10**9), -1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 5_000_000_000)
    moments = [second * SECOND + part for second in seconds for part in (0, 1, 999_999_999)]
    _with_times(root, rng, [*moments, -1, -999_999_999])


def _with_times(root: Path, rng: random.Random, moments: "list[int] | tuple[int, ...]") -> None:
    for number, moment in enumerate(moments):
        folder = root / f"t{number:02}"
        folder.mkdir()
        (folder / "file").write_bytes(rng.randbytes(9))
        (folder / "link").symlink_to("file")
        os.mkfifo(folder / "fifo")
        for path in (folder / "file", folder / "link", folder / "fifo", folder):
            os.utime(path, ns=(0, moment), follow_symlinks=False)


@generator()
def times_of_directories(root: Path, rng: random.Random) -> None:
    """Directories older than what is in them, at several levels, empty ones and full ones."""
    folders = [root / "a", root / "a" / "b", root / "a" / "b" / "c", root / "d", root / "a" / "e"]
    for folder in folders:
        folder.mkdir()
        for number in range(5):
            (folder / f"file{number}").write_bytes(rng.randbytes(50))
    (root / "a" / "linked").hardlink_to(root / "d" / "file0")
    for folder in sorted(folders, reverse=True):
        os.utime(folder, ns=(0, rng.randrange(10**18)))


@generator(Need.FLAGS)
def flags_everyday(root: Path, rng: random.Random) -> None:
    """No-dump, no-atime and synchronous, alone and together, on files and directories."""
    for flags in (Flag.NODUMP, Flag.NOATIME, Flag.SYNC, Flag.NODUMP | Flag.NOATIME | Flag.SYNC):
        path, folder = root / f"f{flags:x}", root / f"d{flags:x}"
        path.write_bytes(rng.randbytes(5_000))
        folder.mkdir()
        (folder / "inside").write_bytes(rng.randbytes(9))
        for each in (path, folder):
            change_path(each, add=flags)
    # A flag of a directory that was set after these were made must not reach them.
    (root / "late").mkdir()
    (root / "late" / "file").touch()
    (root / "late" / "folder").mkdir()
    change_path(root / "late", add=Flag.NODUMP)


@generator(Need.ROOT, Need.IMMUTABLE)
def flags_immutable(root: Path, rng: random.Random) -> None:
    """Immutable and append-only: set a moment too early, they stop the rest of a restore."""
    (root / "folder").mkdir()
    paths = [root / "file", root / "linked", root / "folder" / "inside", root / "empty"]
    for path in paths[:3]:
        path.write_bytes(rng.randbytes(5_000))
    paths[3].touch()
    os.link(root / "linked", root / "folder" / "second_name")
    os.utime(root / "file", ns=(0, 10**18 + 1))
    (root / "folder" / "deeper").mkdir()
    (root / "append_folder").mkdir()
    (root / "append_folder" / "inside").write_bytes(rng.randbytes(9))
    log = root / "log"
    log.write_bytes(b"line\n" * 1000)
    log.chmod(0o4640)
    for path in (log, root / "append_folder"):
        change_path(path, add=Flag.APPEND)
    for path in (*paths, root / "folder" / "deeper", root / "folder"):
        change_path(path, add=Flag.IMMUTABLE)


@generator(Need.NOCOW)
def flags_nocow(root: Path, rng: random.Random) -> None:
    """No-copy-on-write and compression: btrfs takes the first only while a file is empty."""
    for name, flags in (("nocow", Flag.NOCOW), ("compressed", Flag.COMPRESS)):
        (root / name).touch()
        change_path(root / name, add=flags)
        (root / name).write_bytes(rng.randbytes(70_000))
        folder = root / f"{name}_folder"
        folder.mkdir()
        (folder / "before").write_bytes(rng.randbytes(9_000))
        change_path(folder, add=flags)
        (folder / "after").write_bytes(rng.randbytes(9_000))
    (root / "stays_plain").touch()
    change_path(root / "stays_plain", add=Flag.NOCOMPRESS)
    (root / "stays_plain").write_bytes(bytes(70_000))
