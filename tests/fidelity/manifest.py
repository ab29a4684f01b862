"""The suite's own oracle: everything that must survive a backup, read from a tree and compared.

It shares no code with what it judges. It walks by directory descriptors, so that no path is too
long, keeps names as bytes, and never opens anything but files and directories.

Not looked at, because no restore can bring it back or should: atime, ctime, birth time, inode
numbers, and the sizes and link counts of directories.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

from tests.fidelity import inode_flags

# Content is hashed by blocks on this grid; blocks of zeros count as holes on both sides.
BLOCK = 4096
_PIECE = 256 * BLOCK
_ZEROS = bytes(BLOCK)

# How much more than its source a restored sparse file may take on disk, in bytes. What SEEK_DATA
# tells would be finer, but it takes reserved room for data once someone has read the file.
DISK_SLACK = 64 << 10

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds and how densely."""

    digest: str = ""
    """SHA-256 over the blocks that are not all zeros, each with its offset."""
    disk: int = 0
    """Bytes allocated."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree, with all that belongs to it."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    rdev: int
    links: int
    """Names of this inode anywhere; 0 for directories."""
    group: bytes
    """The first of those names inside the tree: equal groups are one inode."""
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    """Sorted; ACLs are among them as raw system.posix_acl_*."""
    flags: inode_flags.Flag
    content: Content


Manifest = dict[bytes, Entry]
"""Entries by path from the root of the tree, which itself is b"."."""


def scan(root: Path) -> Manifest:
    """Describe a tree. It must be at rest and readable for us, or OSError is raised."""
    first: dict[tuple[int, int], bytes] = {}
    found: Manifest = {}
    for path, at, name in walk(root):
        entry, inode = _describe(at, name)
        group = path if entry.kind == "directory" else first.setdefault(inode, path)
        found[path] = replace(entry, group=group)
    return found


def walk(root: Path) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield (path, descriptor of its directory, name); depth first, each directory sorted.

    Only one directory is open at a time: a tree may be deeper than descriptors last.
    """
    at = os.open(root, _DIRECTORY)
    try:
        yield b".", at, b"."
        yield from _names(at, b"")
        pending, path = [_subdirectories(at)], list[bytes]()
        while pending:
            if pending[-1]:
                path.append(pending[-1].pop())
                at = _step(at, path[-1])
                yield from _names(at, b"/".join(path) + b"/")
                pending.append(_subdirectories(at))
            else:
                pending.pop()
                if path:
                    path.pop()
                    at = _step(at, b"..")
    finally:
        os.close(at)


def _step(at: int, name: bytes) -> int:
    to = os.open(name, _DIRECTORY, dir_fd=at)
    os.close(at)
    return to


def _names(at: int, prefix: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    for name in sorted(map(os.fsencode, os.listdir(at))):
        yield prefix + name, at, name


def _subdirectories(at: int) -> list[bytes]:
    with os.scandir(at) as names:
        return sorted(
            (os.fsencode(each.name) for each in names if each.is_dir(follow_symlinks=False)),
            reverse=True,
        )


def _describe(at: int, name: bytes) -> tuple[Entry, tuple[int, int]]:
    status = os.stat(name, dir_fd=at, follow_symlinks=False)
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    directory = kind == "directory"
    flags, content = _inside(at, name, status)
    entry = Entry(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=0 if directory else status.st_size,
        mtime_ns=status.st_mtime_ns,
        rdev=status.st_rdev if kind.endswith("device") else 0,
        links=0 if directory else status.st_nlink,
        group=b"",
        target=os.readlink(name, dir_fd=at) if kind == "symlink" else b"",
        xattrs=_xattrs(at, name),
        flags=flags,
        content=content,
    )
    return entry, (status.st_dev, status.st_ino)


def _xattrs(at: int, name: bytes) -> tuple[tuple[bytes, bytes], ...]:
    # There is no getxattrat before Linux 6.13; through /proc the path stays short at any depth.
    path = b"/proc/self/fd/%d/%s" % (at, name)
    names = os.listxattr(path, follow_symlinks=False)
    return tuple(
        (os.fsencode(each), os.getxattr(path, each, follow_symlinks=False))
        for each in sorted(names)
    )


def _inside(at: int, name: bytes, status: os.stat_result) -> tuple[inode_flags.Flag, Content]:
    """Tell what needs the thing opened: only files and directories are."""
    if stat.S_ISDIR(status.st_mode):
        how = _DIRECTORY
    elif stat.S_ISREG(status.st_mode):
        how = _FILE
    else:
        return inode_flags.Flag(0), Content()
    fd = os.open(name, how, dir_fd=at)
    try:
        content = Content() if how == _DIRECTORY else _content(fd, status)
        return inode_flags.read(fd), content
    finally:
        os.close(fd)


def _content(fd: int, status: os.stat_result) -> Content:
    digest, done = hashlib.sha256(), 0
    for start, end in _data_segments(fd, status.st_size):
        at = max(start - start % BLOCK, done)
        done = min(end + -end % BLOCK, status.st_size)
        while at < done:
            piece = os.pread(fd, min(_PIECE, done - at), at)
            if not piece:
                raise OSError(errno.EIO, "a file became shorter while it was read")
            _hash_blocks(digest, piece, at)
            at += len(piece)
    return Content(digest.hexdigest(), status.st_blocks * 512)


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def _hash_blocks(digest: "_Digest", piece: bytes, at: int) -> None:
    for offset in range(0, len(piece), BLOCK):
        block = piece[offset : offset + BLOCK]
        if block != _ZEROS[: len(block)]:
            digest.update((at + offset).to_bytes(8, "big"))
            digest.update(block)


def _data_segments(fd: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, min(at, size)


COMPARED = tuple(each.name for each in fields(Entry) if each.name not in {"kind", "content"})


def compare(a: Manifest, b: Manifest, *, without: Container[str] = ()) -> list[str]:
    """List what differs between a source `a` and its restored twin `b`: `field of path: how`.

    A socket may be missing from `b`: nobody is left to answer on it, so a backup only reports it.
    Fields named in `without` are not compared.
    """
    found: list[str] = []
    for path in sorted(a.keys() | b.keys()):
        left, right = a.get(path), b.get(path)
        if left is None:
            found.append(_line(path, "name", "extra"))
        elif right is None:
            if left.kind != "socket":
                found.append(_line(path, "name", "missing"))
        else:
            found += [
                _line(path, field, how)
                for field, how in _differences(left, right)
                if field not in without
            ]
    return found


def _line(path: bytes, field: str, how: str) -> str:
    return f"{field} of {os.fsdecode(path)!r}: {how}"


def _differences(a: Entry, b: Entry) -> Iterator[tuple[str, str]]:
    if a.kind != b.kind:
        yield "kind", f"{a.kind} became {b.kind}"
        return
    for field in COMPARED:
        left, right = getattr(a, field), getattr(b, field)
        if left == right:
            continue
        if field == "xattrs":
            yield field, _xattr_difference(dict(a.xattrs), dict(b.xattrs))
        else:
            yield field, f"{_show(field, left)} became {_show(field, right)}"
    yield from _content_differences(a, b)


def _show(field: str, value: object) -> str:
    return oct(value) if field == "mode" and isinstance(value, int) else repr(value)


def _xattr_difference(a: dict[bytes, bytes], b: dict[bytes, bytes]) -> str:
    lost, new = sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())
    other = sorted(each for each in a.keys() & b.keys() if a[each] != b[each])
    return f"lost {lost}, new {new}, changed {other}"


def _content_differences(a: Entry, b: Entry) -> Iterator[tuple[str, str]]:
    if a.content.digest != b.content.digest:
        yield "content", f"{a.content.digest} became {b.content.digest}"
    sparse = a.size - a.content.disk >= DISK_SLACK
    if sparse and b.content.disk > a.content.disk + DISK_SLACK:
        yield "holes", f"{a.content.disk} bytes on disk became {b.content.disk}"
