"""Whether what stands in the target already is what a snapshot's entry says. Reads, and never
changes anything.
"""

from __future__ import annotations

import os
import stat as st
from typing import TYPE_CHECKING

from backit.client import metadata
from backit.client.handles import open_for_reading
from backit.client.imprint import Metadata, attributes_differ, differs
from backit.client.write import hash_content
from backit.crypto import primitives
from backit.engine.file_types import FORMAT_OF
from backit.engine.plan import Here
from backit.format.v1 import tree_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backit.crypto.keys import DomainKeys
    from backit.engine.leaf import Extent
    from backit.engine.plan import Layout


def compare(
    directory: int, found: os.stat_result, entry: pb.Entry, wanted: Metadata, *, verify: bool
) -> Here:
    """What stands at the entry's name in an open directory, `found` being what lstat says of it.

    A regular file of the same size and time is taken to have the same content, unless `verify`. Not
    for directories. Raises OSError.
    """
    if st.S_IFMT(found.st_mode) != FORMAT_OF[entry.type]:
        return Here.OTHER
    if entry.type == pb.FILE_TYPE_REGULAR:
        if found.st_size != entry.size:
            return Here.OTHER
        if entry.size and (verify or found.st_mtime_ns != wanted.mtime):
            return Here.UNKNOWN
    elif entry.type == pb.FILE_TYPE_SYMLINK:
        if os.readlink(entry.name, dir_fd=directory) != entry.target:
            return Here.OTHER
    elif found.st_rdev != os.makedev(entry.device_major, entry.device_minor):
        return Here.OTHER
    return compare_metadata(directory, found, entry, wanted)


def compare_metadata(
    directory: int, found: os.stat_result, entry: pb.Entry, wanted: Metadata
) -> Here:
    """The same of something whose content is known to be right."""
    if not (
        differs(found, wanted)
        or attributes_differ(metadata.read_attributes_at(directory, entry.name), wanted.attributes)
        or (wanted.flags and _flags(directory, entry) != wanted.flags)
    ):
        return Here.SAME
    if found.st_nlink > max(entry.links, 1):
        # It has names that the snapshot knows nothing of: it is not ours to change.
        return Here.OTHER
    return Here.SAME_CONTENT


def _flags(directory: int, entry: pb.Entry) -> int | None:
    if entry.type != pb.FILE_TYPE_REGULAR:
        return entry.flags
    try:
        fd = open_for_reading(directory, entry.name)
    except PermissionError:
        return None
    try:
        return metadata.read_flags(fd)
    finally:
        os.close(fd)


def same_content(
    directory: int,
    entry: pb.Entry,
    layout: Layout,
    keys: DomainKeys,
    extents: Iterable[Extent] | None,
    check: Callable[[], None],
) -> bool:
    """Whether a local file holds what the entry says, read in full. Raises OSError, Damaged or
    NotFound.

    `extents` if the content hash is that of their list, which has been checked. `check` is called
    now and then and may raise to end it.
    """
    whole = _Chunks(keys, extents) if extents is not None else _Whole(keys, entry.content_hash)

    def update(data: bytes) -> None:
        check()
        whole.update(data)

    if not hash_content(directory, entry.name, layout, update):
        return False
    return not layout.data_size or whole.is_right()


class _Whole:
    """Compares data that comes bit by bit with its hash."""

    def __init__(self, keys: DomainKeys, wanted: bytes) -> None:
        self._wanted = wanted
        self._hasher = primitives.keyed_hasher(keys.content_key)

    def update(self, data: bytes) -> None:
        self._hasher.update(data)

    def is_right(self) -> bool:
        return self._hasher.digest() == self._wanted


class _Chunks:
    """The same with the chunks that it should be made of, each from its beginning to its end."""

    def __init__(self, keys: DomainKeys, extents: Iterable[Extent]) -> None:
        self._key = keys.data_id_key
        self._extents = iter(extents)
        self._extent: Extent | None = None
        self._left = 0
        self._hasher = primitives.keyed_hasher(self._key)
        self._is_right = True

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        while self._is_right and view:
            if not self._left:
                self._next()
            part, view = view[: self._left], view[self._left :]
            self._hasher.update(part)
            self._left -= len(part)
            if not self._left:
                self._is_right &= (
                    self._extent is not None and self._hasher.digest() == self._extent.chunk.raw
                )

    def is_right(self) -> bool:
        return self._is_right and not self._left and next(self._extents, None) is None

    def _next(self) -> None:
        self._extent = next(self._extents, None)
        self._hasher = primitives.keyed_hasher(self._key)
        if self._extent is None or self._extent.offset:
            self._is_right = False
        else:
            self._left = self._extent.length
