"""Starts the processes that write small files, and has files written by them.

No decisions about files: orders out, troubles in.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from threading import Lock
from typing import TYPE_CHECKING

from backit.client.arena import Arena
from backit.client.frames import read_value, write_value
from backit.client.orders import HEAD
from backit.errors import Internal
from backit.format.magic import PLAINTEXT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.client.orders import Order, Trouble

CORES_MIN = 2
# Fewer in one chunk are written sooner than asked for.
FILES_MIN = 8
ENDED = "restoring: a process that writes files has ended unexpectedly"


class WritingHost:
    """One writing process, until `close`. Used by one thread at a time."""

    def __init__(self, content_key: bytes) -> None:
        with contextlib.ExitStack() as undo:
            self._arena = Arena.create(PLAINTEXT_LIMIT)
            undo.callback(self._arena.close)
            self._socket, theirs = socket.socketpair()
            undo.callback(self._socket.close)
            with theirs:
                self._process = self._start(theirs.fileno())
            undo.callback(self._end)
            write_value(self._socket.fileno(), content_key)
            self._undo = undo.pop_all()

    def write(
        self, chunk: memoryview, directories: Sequence[int], orders: Sequence[Order]
    ) -> list[Trouble]:
        """Have files made in these open directories, and wait until they are.

        Raises Internal if the process has ended.
        """
        self._arena.stretch(0, len(chunk))[:] = chunk
        try:
            socket.send_fds(self._socket, [HEAD], directories)
            write_value(self._socket.fileno(), (len(chunk), orders))
            answer: list[Trouble] | Internal = read_value(self._socket.fileno())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise Internal(ENDED) from None
        if isinstance(answer, Internal):
            raise answer
        return answer

    def close(self) -> None:
        """Make sure that it has ended; no `write` may be under way."""
        self._undo.close()

    def _start(self, theirs: int) -> subprocess.Popen[bytes]:
        descriptors = (self._arena.fd, theirs)
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-m", "backit.client.writing", *map(str, descriptors)],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for us, and we end it
        )

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


class WritingHosts:
    """As many writing processes as threads that have something written at the same time."""

    def __init__(self, content_key: bytes, *, after: int) -> None:
        """So many files are not worth starting a process for."""
        self._content_key = content_key
        self._after = after
        # On a single core a process more gains nothing; elsewhere it may be forbidden.
        self._is_alone = len(os.sched_getaffinity(0)) < CORES_MIN
        self._lock = Lock()
        self._files = 0
        self._idle: list[WritingHost] = []
        self._all: list[WritingHost] = []

    def are_worth(self, files: int) -> bool:
        """Whether so many files of one chunk, after those asked about before, should be written by
        a process.
        """
        if files < FILES_MIN or self._is_alone:
            return False
        with self._lock:
            self._files += files
            return self._files > self._after

    def take(self, files: int) -> WritingHost | None:
        """A process for so many files of one chunk, to be given back; None if they had better be
        written here.
        """
        if not self.are_worth(files):
            return None
        with self._lock:
            if self._idle:
                return self._idle.pop()
            try:
                host = WritingHost(self._content_key)
            except OSError:  # no more processes for this user, or no memory: slower, and no harm
                self._is_alone = True
                return None
            self._all.append(host)
            return host

    def give_back(self, host: WritingHost) -> None:
        with self._lock:
            self._idle.append(host)

    def close(self) -> None:
        """All must have been given back."""
        for host in self._all:
            host.close()
