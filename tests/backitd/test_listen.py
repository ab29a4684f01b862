"""Promises of addresses and of the sockets that others left behind."""

import socket
from pathlib import Path

import pytest

from backit.errors import Conflict, Invalid
from backitd import listen
from backitd.listen import TcpAddress, UnixAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/backit.sock", UnixAddress(Path("/run/backit.sock"))),
        ("unix:here.sock", UnixAddress(Path.cwd() / "here.sock")),
        ("tcp:127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
        ("tcp:box.local:7443", TcpAddress("box.local", 7443)),
        ("tcp:[::1]:7443", TcpAddress("[::1]", 7443)),
    ],
)
def test_an_address_is_understood(text: str, address: listen.Address) -> None:
    assert listen.parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "tcp:",
        "tcp::80",
        "tcp:host",
        "tcp:host:65536",
        "tcp:host:-1",
        "tcp:::1:80",
        "tcp:ho st:80",
        "http://host",
        "unix-abstract:x",
        "unix:/" + "x" * 200,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        listen.parse(text)


@pytest.fixture
def address(tmp_path: Path) -> UnixAddress:
    return UnixAddress(tmp_path / "s")


def test_a_socket_that_nobody_answers_on_is_removed(address: UnixAddress) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address.path))
    listen.make_way(address)
    assert not address.path.exists()


def test_a_socket_that_somebody_answers_on_is_left_alone(address: UnixAddress) -> None:
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(address.path))
        alive.listen()
        with pytest.raises(Conflict, match="somebody listens"):
            listen.make_way(address)
        assert address.path.exists()


def test_a_file_in_the_way_is_not_touched(address: UnixAddress) -> None:
    address.path.write_text("precious")
    with pytest.raises(Conflict, match="no socket"):
        listen.make_way(address)
    assert address.path.read_text() == "precious"


def test_nothing_in_the_way_is_fine(address: UnixAddress) -> None:
    listen.make_way(address)
