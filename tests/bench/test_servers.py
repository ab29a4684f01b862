"""Servers start and stop as promised: real ones, on loopback."""

import os
import ssl
import sys
from pathlib import Path

import pytest

from tests.bench.processes import BenchError, Command
from tests.bench.servers import LOOPBACK, Certificate, Server, free_port

_LISTEN = """
import signal, socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    signal.pause()
"""


def _python(folder: Path, program: str, *arguments: str) -> Command:
    return Command((sys.executable, "-SEc", program, *arguments), {}, folder, folder / "log")


def test_a_stopped_server_is_gone(tmp_path: Path) -> None:
    port = free_port()
    server = Server(_python(tmp_path, _LISTEN, str(port)), port)
    server.start()
    (pid,) = server.pids
    os.kill(pid, 0)
    server.stop()
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_ends_at_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    server = Server(_python(tmp_path, "raise SystemExit('port taken')"), free_port())
    with pytest.raises(BenchError, match=r"status 1\n    port taken"):
        server.start()


def test_the_certificate_is_trusted_for_loopback_alone(tmp_path: Path) -> None:
    made = Certificate.make(tmp_path)
    accept = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accept.load_cert_chain(made.certificate, made.key)
    connect = ssl.create_default_context(cafile=str(made.certificate))
    _handshake(connect, accept, LOOPBACK)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(connect, accept, "127.0.0.2")
    assert made.key.stat().st_mode & 0o077 == 0


def _handshake(connect: ssl.SSLContext, accept: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = connect.wrap_bio(to_client, to_server, server_hostname=name)
    server = accept.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
