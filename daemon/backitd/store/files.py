"""The one way to write files: whole, synced, then linked under their name. Nothing else writes.

`Disk` is the seam: every operation on the store's files goes through it, so that a test can fail
any of them. It raises OSError; whoever works for a caller outside turns that into an error of ours
with `failure`. What the files mean is not known here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.errors import BackitError, Damaged, Internal, NoSpace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from backit.crypto.primitives import Buffer

log = logging.getLogger(__name__)

FILE_MODE = 0o400
FOLDER_MODE = 0o700
DRAFT_PREFIX = ".draft-"

# linux/falloc.h and linux/fs.h; Python has neither call in the form that is needed here.
FALLOC_FL_KEEP_SIZE = 1
SYNC_FILE_RANGE_WRITE = 2
IOV_MAX = 1024

# What a file system answers that knows no O_TMPFILE, or a system without /proc.
NOT_ANONYMOUS = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.EXDEV}

# What a disk answers that has lost something. Anything else is our trouble, not the data's.
LOSSES = {errno.EIO, errno.ENOENT, errno.ENODATA, errno.EUCLEAN, errno.EBADMSG, errno.EILSEQ}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def failure(error: OSError, doing: str) -> BackitError:
    """The error of ours that an OSError is, for somebody who was `doing` something."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{doing}: the disk is full")
    return Internal(f"{doing}: {error.strerror or error}")


@dataclass(slots=True)
class Draft:
    """A file without a name yet; `temporary` is its stand-in where files cannot be nameless."""

    fd: int
    temporary: Path | None = None


class Disk:
    """The operations on files that the store is made of. Raises OSError."""

    def __init__(self) -> None:
        self.anonymous = True

    def probe(self, folder: Path) -> None:
        """Learn how drafts work on this file system; raises OSError if it cannot link at all."""
        name = folder / f"{DRAFT_PREFIX}probe-{secrets.token_hex(8)}"
        for self.anonymous in (True, False):
            try:
                draft = self.draft(folder)
                try:
                    self.link(draft, name)
                finally:
                    self.discard(draft)
            except OSError as error:
                if not self.anonymous or error.errno not in NOT_ANONYMOUS:
                    raise
            else:
                self.remove(name)
                return

    def draft(self, folder: Path) -> Draft:
        """A new file, to be linked into `folder` or below it."""
        if self.anonymous:
            flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
            return Draft(os.open(folder, flags, FILE_MODE))
        temporary = folder / f"{DRAFT_PREFIX}{secrets.token_hex(16)}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        return Draft(os.open(temporary, flags, FILE_MODE), temporary)

    def allocate(self, fd: int, start: int, length: int) -> None:
        """Reserve blocks without changing the size; a file system that cannot is left alone.

        Not posix_fallocate: where the file system cannot, glibc writes into every block instead.
        """
        if _libc.fallocate(fd, FALLOC_FL_KEEP_SIZE, start, length) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR):
            raise OSError(number, os.strerror(number))

    def write(self, fd: int, buffers: Sequence[Buffer]) -> int:
        """Append all of the buffers; how many bytes that were."""
        waiting = [memoryview(buffer) for buffer in buffers if len(buffer)]
        total = 0
        while waiting:
            written = os.writev(fd, waiting[:IOV_MAX])
            total += written
            done = 0
            while done < len(waiting) and written >= len(waiting[done]):
                written -= len(waiting[done])
                done += 1
            waiting = waiting[done:]
            if written:
                waiting[0] = waiting[0][written:]
        return total

    def start_writing_back(self, fd: int, start: int, length: int) -> None:
        """Have the kernel begin with these bytes, so that the sync at the end finds little to do.

        Says nothing about durability, so its failure is none: the sync will report what there is.
        """
        _libc.sync_file_range(fd, start, length, SYNC_FILE_RANGE_WRITE)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def stamp(self, fd: int, moment: int) -> None:
        """Set the modification time (Unix seconds): the box's own word on when it took the file."""
        os.utime(fd, (moment, moment))

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_data(self, fd: int) -> None:
        """Content and size, not the times."""
        os.fdatasync(fd)

    def forget(self, fd: int) -> None:
        """Have the kernel drop from memory what is on disk. Advice: its failure is none."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def link(self, draft: Draft, name: Path) -> None:
        """Give the draft its name. Raises FileExistsError; never replaces."""
        if draft.temporary is not None:
            os.link(draft.temporary, name)
            return
        folder = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # src_dir_fd makes Python call linkat(AT_SYMLINK_FOLLOW); without it link(2) answers
            # EXDEV.
            source = f"/proc/self/fd/{draft.fd}"
            os.link(source, name, src_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)

    def discard(self, draft: Draft) -> None:
        """Let go of a draft, linked or not; unlinked it is gone."""
        if draft.temporary is not None:
            draft.temporary.unlink(missing_ok=True)
        self.close(draft.fd)

    def sync_folder(self, folder: Path) -> None:
        """Make the names in the folder durable."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_folder(self, folder: Path) -> None:
        """Fine if it is there."""
        try:
            folder.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            if not folder.is_dir():
                raise

    def remove(self, name: Path) -> None:
        name.unlink()

    def names(self, folder: Path) -> list[str]:
        """Sorted; none if there is no such folder."""
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 - names, a million of them perhaps
        except FileNotFoundError:
            return []

    def open(self, name: Path) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def moment(self, fd: int) -> int:
        """The modification time (Unix seconds)."""
        return int(os.fstat(fd).st_mtime)

    def read(self, fd: int, start: int, length: int) -> bytes:
        """Up to `length` bytes; less only at the end of the file."""
        data = os.pread(fd, length, start)
        if len(data) == length or not data:
            return data
        parts = [data]
        missing = length - len(data)
        while missing and parts[-1]:
            parts.append(os.pread(fd, missing, start + length - missing))
            missing -= len(parts[-1])
        return b"".join(parts)

    def read_file(self, name: Path) -> tuple[bytes, int]:
        """Whole content and modification time of a small file."""
        fd = self.open(name)
        try:
            return self.read(fd, 0, self.size(fd)), self.moment(fd)
        finally:
            self.close(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def place(self, name: Path) -> tuple[int, int, int]:
        """Where a file is, and since when: file system, inode, time of change (ns).

        No copy of it is there, however alike; inodes alone are used again.
        """
        found = name.stat()
        return os.statvfs(name).f_fsid, found.st_ino, found.st_ctime_ns

    def capacity(self, folder: Path) -> tuple[int, int]:
        """Bytes of the disk, and how many of them are free for us."""
        found = os.statvfs(folder)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def create_all(disk: Disk, files: Sequence[tuple[Path, bytes]], moment: int) -> None:
    """Create small files together: after an error none is there, after a crash a prefix.

    A name that exists with the same content is fine. Raises NoSpace, Internal, or Damaged if a name
    exists with another content.
    """
    drafts: list[tuple[Draft, Path, bytes]] = []
    linked: list[Path] = []
    try:
        # 1. All contents, synced, under no name: a full disk shows here, before anything has
        # happened.
        for name, data in files:
            draft = disk.draft(name.parent)
            drafts.append((draft, name, data))
            disk.write(draft.fd, [data])
            disk.stamp(draft.fd, moment)
            disk.sync(draft.fd)
        # 2. The names, in the order given.
        for draft, name, data in drafts:
            if _link_once(disk, draft, name, data):
                linked.append(name)
        # 3. The folders; only now may anybody be told. Also where the name existed: it may not be
        # durable.
        for folder in dict.fromkeys(name.parent for name, _data in files):
            disk.sync_folder(folder)
    except OSError as error:
        names = ", ".join(name.name for name, _data in files[:3])
        log.exception("storing %s failed", names)
        _take_back(disk, linked)
        raise failure(error, f"storing {names}") from error
    except Damaged:
        _take_back(disk, linked)
        raise
    finally:
        for draft, _name, _data in drafts:
            disk.discard(draft)


def _link_once(disk: Disk, draft: Draft, name: Path, data: bytes) -> bool:
    """Whether the name is new."""
    try:
        disk.link(draft, name)
    except FileExistsError:
        if disk.read_file(name)[0] != data:
            raise Damaged(f"storing {name.name}: the name exists with another content") from None
        return False
    return True


def _take_back(disk: Disk, linked: Sequence[Path]) -> None:
    """The caller will be told that it failed, so it should not come true at the next start."""
    for name in reversed(linked):
        try:
            disk.remove(name)
        except OSError as error:
            log.error("taking %s back failed: %s", name, error)


def make_folders(disk: Disk, top: Path, parts: Iterable[str]) -> Path:
    """The folder top/part/part…, each durable in its parent when this returns.

    Syncs also what was there: it may be left from a run that was killed before it synced.
    """
    folder = top
    try:
        for part in parts:
            disk.make_folder(folder / part)
            disk.sync_folder(folder)
            folder /= part
    except OSError as error:
        log.exception("making the folder %s failed", folder)
        raise failure(error, f"making a folder in {folder.name}") from error
    return folder


def sweep(disk: Disk, folder: Path) -> None:
    """Remove drafts that a killed process left where files cannot be nameless."""
    for name in disk.names(folder):
        if name.startswith(DRAFT_PREFIX):
            disk.remove(folder / name)
