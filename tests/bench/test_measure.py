"""What the stopwatch promises, on real processes."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.machine import Machine
from tests.bench.measure import cpu_seconds, measure
from tests.bench.processes import BenchError, Command

_MIB = 1 << 20
_BURN = "import time\nwhile time.process_time() < {seconds}: pass"
# Answers each connection after burning CPU and holding memory for it.
_SERVER = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print(flush=True)
    while True:
        connection, _ = listener.accept()
        end = time.process_time() + 0.1
        held = bytearray(64 << 20)
        while time.process_time() < end: pass
        del held
        connection.close()
"""
_CLIENT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.recv(1)
"""
# A signal is on its way for a while.
_KILL = """
import os, sys, time
pid = int(sys.argv[1])
os.kill(pid, 9)
while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z": time.sleep(0.01)
"""


def _python(folder: Path, program: str, *arguments: str) -> Command:
    return Command((sys.executable, "-SEc", program, *arguments), {}, folder, folder / "log")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    argv = (sys.executable, "-SEc", _SERVER, str(tmp_path / "socket"))
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.kill()


def test_the_cpu_of_the_command_is_counted(tmp_path: Path) -> None:
    usage = measure(_python(tmp_path, _BURN.format(seconds=0.1)))
    assert 0.1 <= usage.client_cpu < 10
    assert usage.wall > 0
    assert (usage.server_cpu, usage.server_peak) == (0, None)


def test_the_cpu_of_a_child_of_the_command_is_counted(tmp_path: Path) -> None:
    program = f"import subprocess, sys\nsubprocess.run((sys.executable, '-SEc', '''{_BURN}'''))"
    assert measure(_python(tmp_path, program.format(seconds=0.1))).client_cpu >= 0.1


def test_the_peak_of_the_command_is_its_own_and_not_ours(tmp_path: Path) -> None:
    ours = bytearray(128 * _MIB)
    small = measure(_python(tmp_path, "import time; time.sleep(0.05)"))
    assert len(ours) == 128 * _MIB
    assert _MIB < small.client_peak < 64 * _MIB


def test_memory_that_was_given_back_still_counts(tmp_path: Path) -> None:
    # Above what this process has ever held: then the kernel's own figure is taken.
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 32
    peak = measure(_python(tmp_path, f"bytearray({more} << 20)")).client_peak
    assert more * _MIB <= peak < (more + 64) * _MIB


def test_the_server_is_charged_for_what_it_did_meanwhile(tmp_path: Path, server: int) -> None:
    ask = _python(tmp_path, _CLIENT, str(tmp_path / "socket"))
    usage = measure(ask, (server,))
    assert 0.08 <= usage.server_cpu < 10  # the kernel counts in steps of 10 ms
    assert usage.server_peak is not None
    assert 64 * _MIB <= usage.server_peak < 128 * _MIB


def test_the_server_is_not_charged_for_what_it_did_before(tmp_path: Path, server: int) -> None:
    measure(_python(tmp_path, _CLIENT, str(tmp_path / "socket")), (server,))
    usage = measure(_python(tmp_path, "pass"), (server,))
    assert cpu_seconds(server) >= 0.08
    assert usage.server_cpu <= 0.03
    assert usage.server_peak is not None
    assert usage.server_peak < 64 * _MIB


def test_what_the_page_cache_had_lost_is_seen(tmp_path: Path) -> None:
    if Machine.look(tmp_path).file_system != "ext4":
        pytest.skip("the kernel counts reads of block devices only")
    file = tmp_path / "lost"
    with file.open("wb") as out:
        out.write(os.urandom(4 * _MIB))
        out.flush()
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert measure(_python(tmp_path, f"open({str(file)!r}, 'rb').read()")).disk_read >= 4 * _MIB


def test_a_server_that_dies_meanwhile_is_an_error(tmp_path: Path, server: int) -> None:
    kill = _python(tmp_path, _KILL, str(server))
    with pytest.raises(BenchError, match="the server ended meanwhile"):
        measure(kill, (server,))


def test_a_failure_names_the_command_and_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"exit status 3\n    out of luck"):
        measure(_python(tmp_path, "print('out of luck'); raise SystemExit(3)"))


def test_an_interruption_kills_the_command(tmp_path: Path) -> None:
    tell = "echo $$ > pid; kill -INT $PPID; exec sleep 60"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            measure(Command(("/bin/sh", "-c", tell), {"PATH": "/bin"}, tmp_path, tmp_path / "log"))
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
