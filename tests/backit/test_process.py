"""No program of ours can be looked into while it holds keys: not by a debugger, not by its core."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backit import process

# Each begins as it does in earnest, and soon ends.
BEGINNINGS = {
    "backitctl": "from backitctl import __main__; sys.argv[1:] = ['status']; __main__.main()",
    "backitd": (
        "from backitd import __main__; sys.argv[1:] = ['rebuild', '--state', '/dev/null/none'];"
        "__main__.main()"
    ),
    "the process that reads": (
        "from backit.client import reading; up, down = os.pipe()[1], os.open(os.devnull, 0);"
        "arena = os.memfd_create('arena'); os.ftruncate(arena, 1 << 22);"
        "sys.argv[1:] = [str(arena), str(up), str(down)]; reading.main()"
    ),
    "the process that writes": (
        "from backit.client import writing; import socket; ours, theirs = socket.socketpair();"
        "ours.close(); arena = os.memfd_create('arena'); os.ftruncate(arena, 1 << 22);"
        "sys.argv[1:] = [str(arena), str(theirs.detach())]; writing.main()"
    ),
}
# It opens each file with the mode it is to have.
UMASKS = {"the process that writes": "0"}
LOOK = """
dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
print(os.umask(0), *resource.getrlimit(resource.RLIMIT_CORE), dumpable)
"""


@pytest.mark.parametrize("program", BEGINNINGS)
def test_a_program_cannot_be_looked_into(program: str, tmp_path: object) -> None:
    code = "import contextlib, ctypes, os, resource, sys\n"
    code += "with contextlib.suppress(SystemExit):\n    " + BEGINNINGS[program] + LOOK
    umask = UMASKS.get(program, str(0o077))
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"BACKIT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines()[-1].split() == [umask, "0", "0", "0"], answer.stderr


def test_a_c_library_without_our_settings_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(_name: None) -> object:
        return object()

    monkeypatch.setattr("ctypes.CDLL", bare)
    (told,) = process.tune_memory()
    assert "memory is not tuned" in told
