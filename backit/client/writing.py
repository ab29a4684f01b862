"""The process that writes: makes small files from a chunk that is open already, and knows neither
network nor snapshot.

A process of its own because the interpreter lets only one thread run: a small file is a dozen
system calls, and beside threads that plan and fetch, the one that writes waits for its turn after
each. Started by `writing_host`, asked over a socket, through which the directories come as open
handles: no path is ever opened here. It remembers nothing but the content key, and ends when the
other side does.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from backit import process
from backit.client import imprint, surprise
from backit.client.arena import Arena
from backit.client.frames import read_value, write_value
from backit.client.imprint import reason
from backit.client.orders import DIRECTORIES_MAX, HEAD, Order, Trouble
from backit.client.whole import Maker
from backit.client.write import is_ending
from backit.errors import Damaged, Internal

if TYPE_CHECKING:
    from collections.abc import Sequence

# Nothing here is cyclic but what a traceback holds.
GC_THRESHOLD = (100_000, 50, 100)


class Writing:
    """Does orders, one after another."""

    def __init__(self, content_key: bytes) -> None:
        self._maker = Maker(content_key)

    def write(
        self, chunk: memoryview, directories: Sequence[int], orders: Sequence[Order]
    ) -> list[Trouble]:
        """`directories` are open handles. What stands in no trouble is made."""
        devices = [os.fstat(directory).st_dev for directory in directories]
        troubles: list[Trouble] = []
        for number, order in enumerate(orders):
            at = order.directory
            try:
                self._make(chunk, directories[at], devices[at], order, number, troubles)
            except OSError as error:
                code = error.errno or 0 if is_ending(error) else 0
                troubles.append(Trouble(number, reason(error), is_made=False, code=code))
                if code:
                    break
            except Damaged as error:
                troubles.append(Trouble(number, str(error), is_made=False))
        return troubles

    def _make(
        self,
        chunk: memoryview,
        directory: int,
        device: int,
        order: Order,
        number: int,
        troubles: list[Trouble],
    ) -> None:
        def warn(text: str) -> None:
            troubles.append(Trouble(number, text, is_made=True))

        data = chunk[order.start : order.start + order.length]
        file = self._maker.make(directory, device, order.whole, data, warn)
        try:
            if order.whole.needs_flags:
                imprint.imprint_flags(file.fd, order.whole.wanted.flags, warn)
        finally:
            file.close()


def main() -> int:
    """Descriptors of the arena and the socket are the arguments."""
    # What cannot be done here could not be done in the process that started us, which has said so.
    process.harden()
    process.tune_memory()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # whoever started us decides, and closes the socket
    process.end_with_parent()  # another restore may begin at once, and must not meet this one
    os.umask(0)  # each file is opened with the mode it is to have, which saves setting it again
    gc.set_threshold(*GC_THRESHOLD)
    arena_fd, socket_fd = (int(argument) for argument in sys.argv[1:3])
    arena = Arena(arena_fd)
    try:
        with socket.socket(fileno=socket_fd) as host:
            writing = Writing(read_value(socket_fd))
            while _serve(writing, arena, host):
                pass
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 1  # the other side is gone, and knows why
    return 0


def _serve(writing: Writing, arena: Arena, host: socket.socket) -> bool:
    """One request. False once there are no more."""
    head, directories, _flags, _address = socket.recv_fds(host, len(HEAD), DIRECTORIES_MAX)
    if not head:
        return False
    try:
        length, orders = read_value(host.fileno())
        answer: object = writing.write(arena.stretch(0, length), directories, orders)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001 - told by the other process, without a traceback
        if surprise.is_wanted():
            sys.stderr.write(surprise.explained(error))
        answer = Internal(f"writing files: {surprise.told(error)}")
    finally:
        for directory in directories:
            os.close(directory)
    write_value(host.fileno(), answer)
    return True


if __name__ == "__main__":
    sys.exit(main())
