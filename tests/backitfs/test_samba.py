"""A mount handed on by Samba: people open old versions from Windows, with nothing installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.backitfs.mounts import mounted
from tests.patience import until
from tests.system import trees

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.programs import Person

LOOPBACK = "127.0.0.1"
CONFIG = """
[global]
interfaces = {host}
bind interfaces only = yes
smb ports = {port}
disable netbios = yes
server role = standalone server
map to guest = Bad User
guest account = nobody
load printers = no
printing = bsd
log file = {place}/log
lock directory = {place}/lock
state directory = {place}/state
cache directory = {place}/cache
pid directory = {place}/pid
private dir = {place}/private
ncalrpc dir = {place}/rpc

[backups]
path = {share}
read only = yes
guest ok = yes
force user = root
"""


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as found:
        port: int = found.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
        return True
    return False


@contextlib.contextmanager
def exported(share: Path, place: Path) -> Generator[tuple[str, ...]]:
    """Samba on loopback with one share, for a block; given are the words that call its client."""
    for name in ("lock", "state", "cache", "pid", "private", "rpc"):
        (place / name).mkdir(parents=True)
    port, config = free_port(), place / "smb.conf"
    config.write_text(CONFIG.format(host=LOOPBACK, port=port, place=place, share=share))
    with (place / "said").open("wb") as said:
        server = subprocess.Popen(
            ("smbd", "--foreground", "--no-process-group", f"--configfile={config}"),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            process_group=0,
        )
    try:
        until(lambda: answers(port) or server.poll() is not None, "Samba answers")
        assert server.poll() is None, (place / "said").read_text()
        address = (f"//{LOOPBACK}/backups", "--port", str(port), "--no-pass")
        yield ("smbclient", *address, f"--configfile={config}")
    finally:
        # A process for each client, all in one group.
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        until(lambda: not is_group(server.pid), "no process of Samba's is left")


def is_group(number: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, 0)
        return True
    return False


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.root
@pytest.mark.skipif(shutil.which("smbd") is None, reason="`make test` installs Samba")
def test_samba_exports_a_mount(anna: Person, source: Path, folder: Path, tmp_path: Path) -> None:
    trees.plant(source, "samba", files=40, large=3 * trees.MIB)
    anna.backup(source)
    got = tmp_path / "got"
    got.mkdir()
    with mounted(anna, folder) as found:
        seen = found.latest / source.relative_to("/")
        with exported(seen, tmp_path / "samba") as client:
            commands = f'recurse; prompt; lcd "{got}"; mget *'
            done = subprocess.run((*client, "-c", commands), capture_output=True, check=False)
            assert done.returncode == 0, (done.stdout + done.stderr).decode()
            refused = subprocess.run((*client, "-c", "rm large"), capture_output=True, check=False)
            assert b"NT_STATUS" in refused.stdout + refused.stderr
        assert found.log_text() == ""
    assert files_of(got) == files_of(source)
