"""A file that is put together from several pieces, which come in any order and from several
threads.

Its content is hashed in order: a piece that is next in turn from memory, one that came early from
the file itself once its turn has come. So nothing is held but the file's handle.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

from backit.crypto import primitives
from backit.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.write import NewFile
    from backit.engine.plan import Layout

_BLOCK = 1 << 20


class Assembly:
    """One file. `open_file` makes it when the first piece is there; `let_go` is called when it is
    no longer in use.
    """

    def __init__(
        self,
        content_key: bytes,
        layout: Layout,
        open_file: Callable[[], NewFile],
        let_go: Callable[[], None],
    ) -> None:
        self._hasher = primitives.keyed_hasher(content_key)
        self._layout = layout
        self._open_file = open_file
        self._let_go = let_go
        self._lock = Lock()
        self._file: NewFile | None = None
        # Pieces known of and not yet written, those being written, and whether all are known.
        self._left = 0
        self._busy = 0
        self._is_listed = False
        self._failed = False
        # Data up to here is hashed; behind it, what is written already: start -> length.
        self._hashed = 0
        self._written: dict[int, int] = {}

    @property
    def is_given_up(self) -> bool:
        return self._failed

    def expect(self) -> None:
        """One more piece will come."""
        with self._lock:
            self._left += 1

    def all_expected(self) -> bool:
        """No further pieces will come. True if all are written: the caller must take the file."""
        with self._lock:
            self._is_listed = True
            return not self._left and not self._failed

    def put(self, data: memoryview, at: int) -> bool:
        """A piece of the file's data. True if it was the last: the caller must take the file.
        Raises OSError.
        """
        with self._lock:
            if self._failed:
                return False
            if self._file is None:
                self._file = self._open_file()
                os.ftruncate(self._file.fd, self._layout.size)
            file = self._file
            self._busy += 1
        try:
            file.write(data, at, self._layout)
        finally:
            with self._lock:
                self._busy -= 1
                if self._failed and not self._busy:
                    self._discard()
        with self._lock:
            if self._failed:
                return False
            self._written[at] = len(data)
            self._hash(file, data, at)
            self._left -= 1
            return not self._left and self._is_listed

    def take(self, wanted_hash: bytes) -> NewFile:
        """The file, complete. Raises Damaged if its content is not that of the hash. `drop` it when
        it is published.
        """
        with self._lock:
            found = self._hasher.digest()
            if self._file is None or self._hashed != self._layout.data_size or found != wanted_hash:
                raise Damaged("its content does not have the hash in the snapshot")
            return self._file

    def drop(self) -> None:
        """The file has its name and is closed."""
        with self._lock:
            self._file = None
        self._let_go()

    def fail(self) -> bool:
        """Give the file up and leave nothing of it. True for the first who says so."""
        with self._lock:
            if self._failed:
                return False
            self._failed = True
            if not self._busy:
                self._discard()
            return True

    def _discard(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.discard()
            finally:
                self._let_go()

    def _hash(self, file: NewFile, data: memoryview, at: int) -> None:
        while (length := self._written.pop(self._hashed, None)) is not None:
            if self._hashed == at:
                self._hasher.update(data)
            else:
                for offset, _start, run in self._layout.places(self._hashed, length):
                    self._hash_run(file, offset, run)
            self._hashed += length

    def _hash_run(self, file: NewFile, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            data = os.pread(file.fd, min(_BLOCK, end - offset), offset)
            if not data:
                raise Damaged("the file became shorter while it was being written")
            self._hasher.update(data)
            offset += len(data)
