"""Servers on loopback for one repository: a free port, a certificate, start, wait, stop."""

import ipaddress
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.bench.processes import BenchError, Command, interruptions_deferred, log_tail, start

LOOPBACK = "127.0.0.1"
_START_SECONDS = 60
_STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM: a self-signed certificate for the loopback address, and its key."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "backup benchmark")])
        address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        made = cls(folder / "tls.crt", folder / "tls.key")
        made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.touch(mode=0o600)
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return made


class Server:
    """A server that is told apart by its port. Once `start` was called it must be stopped."""

    def __init__(self, command: Command, port: int) -> None:
        self._command = command
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of its processes: none unless it runs."""
        return () if self._process is None else (self._process.pid,)

    def start(self) -> None:
        """Return once it accepts connections; raises BenchError if it ends before."""
        with interruptions_deferred():
            self._process = start(self._command)
        deadline = time.monotonic() + _START_SECONDS
        while not self._accepts():
            if (code := self._process.poll()) is not None:
                raise self._error(f"ended at start with status {code}")
            if time.monotonic() > deadline:
                raise self._error(f"accepts no connection after {_START_SECONDS} s")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it; nothing happens if it has ended.

        Raises BenchError if it had to be killed because it did not end when asked.
        """
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise self._error(f"still running {_STOP_SECONDS} s after SIGTERM") from error
        finally:
            self._process.kill()
            self._process.wait()

    def _accepts(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def _error(self, what: str) -> BenchError:
        return BenchError(f"{self._command.argv[0]}: {what}{log_tail(self._command.log)}")


def free_port() -> int:
    """A port of the loopback address that nobody listens on at this moment."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
