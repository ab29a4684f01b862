"""Makes a regular file: opens it, puts its metadata on, gives it its name; and all at once where
its content is at hand.

What is to be made is told by values that can be sent to another process. Which files, and what
becomes of one that fails, is not known here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from backit.client import imprint
from backit.client.imprint import EARLY_FLAGS
from backit.client.write import Nameless, NewFile, remove_directory
from backit.crypto import primitives
from backit.errors import Damaged

if TYPE_CHECKING:
    from backit.client.imprint import Metadata, Warn
    from backit.engine.plan import Layout


class Whole(NamedTuple):
    """A file that is to be made.

    `content_hash` is empty where the content has been checked already. `inherits`: its directory
    gives it attributes or flags of its own. `layout` is None where there are no holes.
    `over_directory`: an empty directory may stand in its place.
    """

    name: bytes
    wanted: Metadata
    content_hash: bytes
    layout: Layout | None
    inherits: bool
    replace: bool
    over_directory: bool

    @property
    def needs_flags(self) -> bool:
        return bool(self.wanted.flags) or self.inherits


class Maker:
    """For any thread."""

    def __init__(self, content_key: bytes) -> None:
        self._content_key = content_key
        self._nameless = Nameless()

    def begin(self, directory: int, device: int, whole: Whole, warn: Warn) -> NewFile:
        """The file without its name, for content to be written. Raises OSError."""
        file = NewFile(directory, device, self._nameless, whole.wanted.mode)
        if whole.wanted.flags & EARLY_FLAGS or whole.inherits:
            imprint.imprint_flags(file.fd, whole.wanted.flags, warn, among=EARLY_FLAGS)
        return file

    def publish(self, file: NewFile, whole: Whole, warn: Warn) -> None:
        """Its content is right: give it its metadata, but for flags, and its name. Raises
        OSError.
        """
        is_fresh = not whole.inherits
        if not (is_fresh and imprint.imprint_plain(file.fd, whole.wanted)):
            imprint.imprint(file.fd, whole.wanted, warn, is_fresh=is_fresh)
        if whole.over_directory:
            remove_directory(file.directory, whole.name)
        file.publish(whole.name, replace=whole.replace)

    def make(
        self, directory: int, device: int, whole: Whole, data: memoryview, warn: Warn
    ) -> NewFile:
        """The file with this content, under its name, still open for its flags: `close` it.

        Raises Damaged if the content is not that of the hash, or OSError; then it is not there.
        """
        if len(data) and whole.content_hash:
            found = primitives.keyed_digest(self._content_key, data)
            if found != whole.content_hash:
                raise Damaged("its content does not have the hash in the snapshot")
        file = self.begin(directory, device, whole, warn)
        try:
            if whole.layout is not None:
                os.ftruncate(file.fd, whole.layout.size)
            if len(data):
                file.write(data, 0, whole.layout)
            self.publish(file, whole, warn)
        except BaseException:
            file.discard()
            raise
        return file
