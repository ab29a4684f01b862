"""The network between a client and a box, in our hands: it counts, holds, cuts, and can listen in.

A forwarder, on loopback or between unix sockets, that knows bytes and no protocol.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from enum import Enum
from pathlib import Path
from typing import Protocol

from tests.patience import notified

LOOPBACK = "127.0.0.1"
PIECE = 16 << 10


class Ended(Protocol):
    """What tells whether it has ended, such as a process."""

    def poll(self) -> int | None: ...


class Way(Enum):
    """Where bytes go."""

    TO_BOX = "to the box"
    TO_CLIENT = "to the client"


class Wire:
    """Forwards connections to a port or a socket; what it does can be changed while it runs."""

    def __init__(self, target: int | Path, *, listens_in: bool = False) -> None:
        self.target = target
        self.listens_in = listens_in
        self.overheard = {way: bytearray() for way in Way}
        self._listener = _listen(target)
        # Guards all below; notified whenever any of it changes.
        self._changed = threading.Condition()
        self._passed = dict.fromkeys(Way, 0)
        self._limits: dict[Way, int] = {}
        self._held = False
        self._ended = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def address(self) -> str:
        """For `backitctl pair`."""
        name: object = self._listener.getsockname()
        return f"tcp:{LOOPBACK}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"

    def passed(self, way: Way) -> int:
        """Bytes so far."""
        with self._changed:
            return self._passed[way]

    def hold(self, way: Way, after: int) -> None:
        """Once so many more bytes have gone that way, nothing goes until `release` or `cut`."""
        with self._changed:
            self._limits[way] = self._passed[way] + after
            self._held = False

    def wait_held(self, ended: Ended) -> bool:
        """Wait until it holds: True; or until a process has ended before that: False."""
        with self._changed:
            notified(
                self._changed,
                lambda: self._held or ended.poll() is not None,
                "enough bytes have gone, or it has ended",
            )
            return self._held

    def release(self) -> None:
        """Let everything through again."""
        with self._changed:
            self._limits.clear()
            self._held = False
            self._changed.notify_all()

    def cut(self) -> None:
        """Break every connection; new ones may be made."""
        with self._changed:
            for each in self._open:
                _shut(each)
            self._limits.clear()
            self._held = False
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._ended = True
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            try:
                box = _connect(self.target)
            except OSError:  # nobody is there: the client shall notice
                client.close()
                continue
            with self._changed:
                self._open |= {client, box}
                if self._ended:
                    _shut(client)
                    _shut(box)
            self._start(self._pump, client, box, Way.TO_BOX)
            self._start(self._pump, box, client, Way.TO_CLIENT)

    def _pump(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                for piece in self._let_through(way, data):
                    sink.sendall(piece)
        # One side has gone, or was cut off: so is the other. The second pump closes both.
        _shut(source)
        _shut(sink)
        with self._changed:
            first = source in self._open
            self._open -= {source, sink}
        if not first:
            source.close()
            sink.close()

    def _let_through(self, way: Way, data: bytes) -> Iterator[bytes]:
        while data:
            with self._changed:
                limit = self._limits.get(way)
                while limit is not None and self._passed[way] >= limit:
                    self._held = True
                    self._changed.notify_all()
                    self._changed.wait()
                    limit = self._limits.get(way)
                room = len(data) if limit is None else limit - self._passed[way]
                piece, data = data[:room], data[room:]
                self._passed[way] += len(piece)
                if self.listens_in:
                    self.overheard[way] += piece
                self._changed.notify_all()
            yield piece


def _listen(target: int | Path) -> socket.socket:
    if isinstance(target, int):
        return socket.create_server((LOOPBACK, 0))
    return socket.create_server(f"{target}.wire", family=socket.AF_UNIX)


def _connect(target: int | Path) -> socket.socket:
    if isinstance(target, int):
        return socket.create_connection((LOOPBACK, target))
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(str(target))
    except OSError:
        made.close()
        raise
    return made


def _shut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def tapped(target: int | Path, *, listens_in: bool = False) -> Generator[Wire]:
    """A wire to a port of the loopback interface or to a unix socket, for a block."""
    wire = Wire(target, listens_in=listens_in)
    try:
        yield wire
    finally:
        wire.close()
