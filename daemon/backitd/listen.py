"""Addresses to listen on: how they are written, and what to do about sockets that others left.

unix:PATH         no TLS; whoever may open the socket may try to log in
tcp:HOST:PORT     TLS; HOST is a name, an IPv4 address or an IPv6 address in brackets; PORT 0 is any
"""

from __future__ import annotations

import contextlib
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from backit.errors import Conflict, Invalid

LONGEST_SOCKET_PATH = 107  # sockaddr_un on Linux, without the zero byte
TCP = re.compile(r"tcp:(\[[0-9a-fA-F:.%\w]+\]|[\w.-]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __post_init__(self) -> None:
        if len(bytes(self.path)) > LONGEST_SOCKET_PATH:
            raise Invalid(
                f"unix:{self.path}: {len(bytes(self.path))} bytes are too long for the path of a "
                f"socket; the system allows {LONGEST_SOCKET_PATH}"
            )

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port, served with TLS."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:{self.host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse(text: str) -> Address:
    """Raises Invalid."""
    if text.startswith("unix:") and text != "unix:":
        return UnixAddress(Path(text.removeprefix("unix:")).absolute())
    if found := TCP.fullmatch(text):
        port = int(found[2])
        if port < 65_536:
            return TcpAddress(found[1], port)
    raise Invalid(f"{text!r} is no address: unix:PATH or tcp:HOST:PORT")


def make_way(address: UnixAddress) -> None:
    """Remove a socket that nobody answers on.

    Raises Conflict if somebody does, or if it is no socket.

    gRPC itself would unlink whatever is there, and so cut a running daemon off.
    """
    try:
        mode = address.path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{address}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(address.path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                address.path.unlink()
            return
    raise Conflict(f"{address}: somebody listens there already")
