"""Runs the programs this suite leans on (mkfs, mount, rsync, git).

Nothing here knows what those programs are for, and nothing else in this folder starts a process.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


class CommandFailed(Exception):
    """A program ended with a code that its caller did not allow; carries what it said."""


def run(
    *argv: str | Path,
    ok: tuple[int, ...] = (0,),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end with no standard input; `env` is added to ours.

    Raises CommandFailed when the exit code is not one of `ok`.
    """
    done = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", **(env or {})},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode not in ok:
        said = done.stderr.decode(errors="replace").strip()
        raise CommandFailed(f"{argv[0]} ended with code {done.returncode}: {said}")
    return done
