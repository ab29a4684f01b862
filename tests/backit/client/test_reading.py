"""The process that reads, alone: what it does to itself, and how it fails."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import ExitStack

from backit.client.arena import Arena
from backit.client.frames import Up, read_frame, write_value
from backit.client.job import Start, Trust
from backit.errors import Internal
from backit.format.magic import MIB


def test_what_nobody_expected_is_told_without_a_traceback() -> None:
    with ExitStack() as undo:
        arena = Arena.create(MIB)
        undo.callback(arena.close)
        (up, up_end), (down_end, down) = os.pipe(), os.pipe()
        for fd in (up, down):
            undo.callback(os.close, fd)
        ends = (arena.fd, up_end, down_end)
        command = [sys.executable, "-I", "-m", "backit.client.reading", *map(str, ends)]
        process = undo.enter_context(
            subprocess.Popen(command, pass_fds=ends, stderr=subprocess.PIPE)
        )
        os.close(up_end)
        os.close(down_end)
        write_value(down, "a secret instead of a job")
        write_value(down, Start(None, Trust.ALL))
        found = read_frame(up)
        _output, said = process.communicate(timeout=60)
    assert found is not None
    assert found[0].kind is Up.FAILED
    error = pickle.loads(found[1])  # noqa: S301 - our own program
    assert isinstance(error, Internal)
    assert "unexpected AttributeError at backit.client.reading:" in str(error)
    assert "secret" not in str(error)
    assert (process.returncode, said) == (1, b"")
