"""A file that is put together from several pieces, which come in any order and from several
threads.

Each piece has the id of its chunk, and the list of its pieces the hash in the snapshot: whoever
plans has seen to that. So nothing is held but the file's handle.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

from backit.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from backit.client.write import NewFile
    from backit.engine.plan import Layout


class Assembly:
    """One file. `open_file` makes it when the first piece is there; `let_go` is called when it is
    no longer in use.
    """

    def __init__(
        self,
        layout: Layout,
        open_file: Callable[[], NewFile],
        let_go: Callable[[], None],
    ) -> None:
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
        self._written = 0

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
            self._written += len(data)
            self._left -= 1
            return not self._left and self._is_listed

    def take(self) -> NewFile:
        """The file, complete. Raises Damaged if something is missing. `drop` it when it is
        published.
        """
        with self._lock:
            if self._file is None or self._written != self._layout.data_size:
                raise Damaged("its pieces do not add up to the file in the snapshot")
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
