"""Reads one file for a backup: what it is, what it holds, and whether it held still meanwhile.

A file whose size or times change while it is read is read again; if they go on changing, the last
of up to three readings is kept and marked inconsistent. What cannot be read of an entry beside its
content is reported and left out, and the entry's ctime is set a nanosecond back, so that the next
backup does not take it for unchanged. Where the bytes go is contents.py's business.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from backit.client import handles, metadata
from backit.client.contents import Contents, LargeFile, Placement
from backit.crypto import primitives
from backit.engine.chunker import Chunker
from backit.engine.file_types import FORMAT_MASK, REGULAR, TYPE_OF
from backit.engine.leaf import ATTRIBUTE_WEIGHT, NewEntry
from backit.errors import Invalid
from backit.format.magic import ENTRY_LIMIT, LARGE_FILE, MIB
from backit.format.node import TIME_LIMIT, TIME_OFFSET, encode_time
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backit.client.outlet import Outlet
    from backit.crypto.keys import DomainKeys

WINDOW = 8 * MIB
# What the attributes of an entry may weigh; holes and all else fit into the rest.
ATTRIBUTES_MAX = ENTRY_LIMIT // 3
# File systems stamp with a clock that ticks up to 10 ms apart: a file that changes again within the
# tick in which it was read has the same ctime. A server's clock may be ahead of ours.
TICK_NS = 10_000_000
AHEAD_NS = 60_000_000_000
_EARLIEST, _LATEST = -TIME_OFFSET, TIME_LIMIT - TIME_OFFSET

# Looking a name up in a generated enumeration takes as long as a system call.
_REGULAR, _DIRECTORY = pb.FILE_TYPE_REGULAR, pb.FILE_TYPE_DIRECTORY

# A file as it was read: the entry without its extents, and the content, if there is any that has to
# be stored. A plain tuple: there are millions.
_Reading = tuple[pb.Entry, Placement | LargeFile | None]


def describe(name: bytes, found: os.stat_result) -> pb.Entry:
    """What stat says, as an entry. Raises Invalid for a type that cannot be saved."""
    mode = found.st_mode
    kind = TYPE_OF.get(mode & FORMAT_MASK)
    if kind is None:
        raise Invalid("a file of a type that cannot be saved")
    # Field by field: keyword arguments take twice as long, and this is done for every file.
    entry = pb.Entry()
    entry.name = name
    entry.type = kind
    entry.mode = mode & 0o7777
    entry.uid = found.st_uid
    entry.gid = found.st_gid
    try:
        entry.mtime = found.st_mtime_ns + TIME_OFFSET
        entry.ctime = found.st_ctime_ns + TIME_OFFSET
    except ValueError:  # before 1900 or after 2484
        entry.mtime = encode_time(found.st_mtime_ns)
        entry.ctime = encode_time(found.st_ctime_ns)
    entry.inode = found.st_ino
    if kind == _REGULAR:
        entry.size = found.st_size
    elif kind in (pb.FILE_TYPE_CHARACTER, pb.FILE_TYPE_BLOCK):
        entry.device_major = os.major(found.st_rdev)
        entry.device_minor = os.minor(found.st_rdev)
    if found.st_nlink > 1 and kind != _DIRECTORY:
        entry.links = found.st_nlink
        entry.link_device = found.st_dev
    return entry


class Reader:
    """Reads files and places their contents. For one thread."""

    def __init__(
        self,
        contents: Contents,
        sender: Outlet,
        keys: DomainKeys,
        report: Callable[[bytes, str], None],
    ) -> None:
        self._contents = contents
        self._sender = sender
        self._keys = keys
        self._content_key = keys.content_key
        self._report = report
        self._chunker = Chunker(keys)
        # One for all large files: to have fresh memory cleared takes longer than to read into it.
        self._memory = bytearray(WINDOW)

    def read(
        self, directory: bytes, fd: int, name: bytes, found: os.stat_result, parent_hash: bytes
    ) -> NewEntry:
        """Read one name of a directory, which is open as `fd`. Raises OSError if that cannot be
        done, Invalid for what has been replaced meanwhile.

        `found` is what the scan saw. `parent_hash` is the content hash that the parent snapshot has
        for this path, or empty: content that is still the same is not placed again (it is None,
        although there is data).
        """
        started = time.time_ns() + TIME_OFFSET
        if found.st_mode & FORMAT_MASK == REGULAR:
            new = self._read_file(directory, fd, name, found, parent_hash)
        else:
            new = NewEntry(directory, self._read_other(fd, name, found))
        if started - TICK_NS < new.message.ctime < started + AHEAD_NS:
            _look_again(new.message)
        if not _EARLIEST <= found.st_mtime_ns <= _LATEST:
            self._report(name, "its time of change does not lie between 1900 and 2484")
        return new

    def _read_file(
        self, directory: bytes, dir_fd: int, name: bytes, found: os.stat_result, parent_hash: bytes
    ) -> NewEntry:
        fd = handles.open_for_reading(dir_fd, name)
        try:
            reading = self._read_still(fd, name, found, parent_hash)
            has_holes = False
            if reading is None:
                reading = self._read_regular(fd, name, parent_hash)
                has_holes = bool(reading[0].holes)
            has_attributes = self._look_at(fd, reading[0])
        finally:
            os.close(fd)
        is_plain = not (has_holes or has_attributes)
        return NewEntry(directory, reading[0], content=reading[1], is_plain=is_plain)

    def _read_still(
        self, fd: int, name: bytes, found: os.stat_result, parent_hash: bytes
    ) -> _Reading | None:
        """Nearly every file: small, without holes, and still what the scan saw. None for others."""
        size = found.st_size
        if size >= LARGE_FILE or found.st_blocks * 512 < size:
            return None
        try:
            data = os.pread(fd, size, 0)
        except OSError:
            return None  # if it cannot be read at all, the next attempt will say so
        if len(data) < size or not _is_same(found, os.fstat(fd)):
            return None
        entry = describe(name, found)
        return entry, self._place(entry, data, parent_hash)

    def _read_other(self, dir_fd: int, name: bytes, found: os.stat_result) -> pb.Entry:
        entry = describe(name, found)
        if entry.type == pb.FILE_TYPE_DIRECTORY:
            self._look_at_directory(dir_fd, entry)
            return entry
        if entry.type == pb.FILE_TYPE_SYMLINK:
            entry.target = os.readlink(name, dir_fd=dir_fd)
        try:
            attributes = metadata.read_attributes_at(dir_fd, name)
        except FileNotFoundError:
            raise  # not the attributes, but what has them
        except OSError as error:
            self._lacks(entry, f"its attributes cannot be read: {_reason(error)}")
        else:
            self._add_attributes(entry, attributes)
        return entry

    def _look_at_directory(self, dir_fd: int, entry: pb.Entry) -> None:
        """It is saved even if it cannot be opened, because what is in it must not stand alone."""
        try:
            fd = handles.open_directory(dir_fd, entry.name)
        except FileNotFoundError:
            _look_again(entry)  # whoever goes into it will say that it has gone
        except OSError as error:
            self._lacks(entry, f"it cannot be opened: {_reason(error)}")
        else:
            try:
                self._look_at(fd, entry)
            finally:
                os.close(fd)

    def _look_at(self, fd: int, entry: pb.Entry) -> bool:
        """Flags and attributes of what is open; whether it has any attributes."""
        try:
            flags = metadata.read_flags(fd)
            if flags:
                entry.flags = flags
        except OSError as error:
            self._lacks(entry, f"its flags cannot be read: {_reason(error)}")
        try:
            attributes = metadata.read_attributes(fd)
        except OSError as error:
            self._lacks(entry, f"its attributes cannot be read: {_reason(error)}")
            return False
        if attributes:
            self._add_attributes(entry, attributes)
        return bool(attributes)

    def _add_attributes(self, entry: pb.Entry, attributes: metadata.Attributes) -> None:
        room = ATTRIBUTES_MAX
        for name, value in attributes:
            weight = ATTRIBUTE_WEIGHT + len(name) + len(value)
            if weight > room:
                self._lacks(entry, f"attribute {name!r} does not fit and is not saved")
            else:
                room -= weight
                entry.attributes.add(name=name, value=value)

    def _lacks(self, entry: pb.Entry, why: str) -> None:
        self._report(entry.name, why)
        _look_again(entry)

    def _read_regular(self, fd: int, name: bytes, parent_hash: bytes) -> _Reading:
        before = os.fstat(fd)
        for is_second in (False, True):
            try:
                reading = self._read_once(fd, name, before, parent_hash)
            finally:
                after = os.fstat(fd)
                if after.st_mode & FORMAT_MASK != REGULAR:
                    raise Invalid("it was replaced by something else while it was being read")
            if _is_same(before, after):
                return reading
            if is_second:
                reading[0].inconsistent = True
                self._report(name, "it changed while it was being read, twice")
            before = after
        return reading

    def _read_once(
        self, fd: int, name: bytes, found: os.stat_result, parent_hash: bytes
    ) -> _Reading:
        entry = describe(name, found)
        size = found.st_size
        if not size:
            return entry, None
        if found.st_blocks * 512 < size:
            ranges: Sequence[tuple[int, int]] = metadata.data_ranges(fd, size)
            if sum(length for _offset, length in ranges) < LARGE_FILE:
                return entry, self._read_sparse(fd, entry, ranges, parent_hash)
        elif size < LARGE_FILE:
            data = os.pread(fd, size, 0)
            if len(data) < size:
                data += _read_up_to(fd, len(data), size - len(data))
                entry.size = len(data)
            return entry, self._place(entry, data, parent_hash)
        else:
            ranges = ((0, size),)
        return entry, self._read_large(fd, entry, ranges, parent_hash)

    def _read_sparse(
        self, fd: int, entry: pb.Entry, ranges: Sequence[tuple[int, int]], parent_hash: bytes
    ) -> Placement | None:
        pieces: list[bytes] = []
        for offset, length in ranges:
            pieces.append(_read_up_to(fd, offset, length))
            if len(pieces[-1]) < length:
                break  # the file ends here now, whatever may come behind it meanwhile
        _set_size(entry, ranges, [len(piece) for piece in pieces])
        return self._place(entry, b"".join(pieces), parent_hash)

    def _place(self, entry: pb.Entry, data: bytes, parent_hash: bytes) -> Placement | None:
        """What a small file holds: into a bundle, unless there is nothing or nothing new."""
        if not data:
            return None
        content_hash = primitives.keyed_digest(self._content_key, data)
        entry.content_hash = content_hash
        if content_hash == parent_hash:
            return None
        return self._contents.small(data, content_hash)

    def _read_large(
        self, fd: int, entry: pb.Entry, ranges: Sequence[tuple[int, int]], parent_hash: bytes
    ) -> Placement | LargeFile | None:
        window = _Window(self._chunker, LargeFile(self._sender, self._keys), self._memory)
        read: list[int] = []
        for offset, length in ranges:
            read.append(_read_through(fd, offset, length, window))
            if read[-1] < length:
                break
        _set_size(entry, ranges, read)
        if sum(read) < LARGE_FILE:  # it has become shorter meanwhile, and nothing was cut yet
            return self._place(entry, window.all_of_it(), parent_hash)
        return window.finish()


class _Window:
    """The stretch of a large file that is in memory: filled at its end, cut when it is full."""

    def __init__(self, chunker: Chunker, large: LargeFile, memory: bytearray) -> None:
        self._chunker = chunker
        self._large = large
        self._view = memoryview(memory)
        self._used = 0

    def room(self, wanted: int) -> memoryview:
        """Where to read to next: at least one byte, at most `wanted`."""
        if self._used == len(self._view):
            rest = self._cut(is_last=False)
            self._view[: len(rest)] = rest
            self._used = len(rest)
        return self._view[self._used : self._used + wanted]

    def filled(self, got: int) -> None:
        self._used += got

    def all_of_it(self) -> bytes:
        """What is there, of a file that is shorter than the window."""
        return bytes(self._view[: self._used])

    def finish(self) -> LargeFile:
        self._cut(is_last=True)
        return self._large

    def _cut(self, *, is_last: bool) -> memoryview:
        """Send the chunks that end here; returns what is left behind them."""
        window = self._view[: self._used]
        at = 0
        for chunk in self._chunker.cut(window, is_last=is_last):
            self._large.add(chunk)
            at += len(chunk)
        return window[at:]


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_ctime_ns == after.st_ctime_ns
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_size == after.st_size
        and before.st_ino == after.st_ino
        and before.st_dev == after.st_dev
    )


def _read_up_to(fd: int, offset: int, length: int) -> bytes:
    """Fewer bytes only where the file ends: one call may give less than there is."""
    data = os.pread(fd, length, offset)
    while data and len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _read_through(fd: int, offset: int, length: int, window: _Window) -> int:
    """Read a range into the window. Returns its length, or less if the file ends in it."""
    read = 0
    while read < length:
        got = os.preadv(fd, [window.room(length - read)], offset + read)
        if not got:
            break
        window.filled(got)
        read += got
    return read


def _set_size(entry: pb.Entry, ranges: Sequence[tuple[int, int]], read: Sequence[int]) -> None:
    """Length and holes as they were read: a file that shrank meanwhile ends where its data did,
    and of no range behind that anything has been read.
    """
    end = 0
    for (offset, length), got in zip(ranges, read, strict=False):
        if offset > end:
            entry.holes.add(offset=end, length=offset - end)
        end = offset + got
        if got < length:
            entry.size = end
            return
    if end < entry.size:
        entry.holes.add(offset=end, length=entry.size - end)


def _look_again(entry: pb.Entry) -> None:
    entry.ctime = max(entry.ctime, 1) - 1


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
