"""Starts the program `backitfs` and hands it what it needs: nothing secret in sight.

The login goes through a pipe, and what became of the mount comes back through another. Programs
know each other by their command lines alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backit.client.status import BY_REASON
from backit.errors import Internal
from backitctl.interrupts import INTERRUPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

# -P: what lies in the current folder is not imported.
PROGRAM = (sys.executable, "-P", "-m", "backitfs")
SAID_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Started:
    """A `backitfs` that has said that all is well, and what it said."""

    process: subprocess.Popen[bytes]
    answer: dict[str, str]


def start(
    verb: str, arguments: Sequence[str], login: bytes = b"", *, with_words: bool = False
) -> Started:
    """Run `backitfs` until it is ready; `with_words` leaves it our standard error.

    Raises what it has failed with.
    """
    login_read, login_write = os.pipe()
    ready_read, ready_write = os.pipe()
    given = ("--login-fd", str(login_read)) if login else ()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program
            (*PROGRAM, verb, *given, "--ready-fd", str(ready_write), *arguments),
            pass_fds=(login_read, ready_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if with_words else subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: we tell it to end
        )
    except BaseException:
        os.close(login_write)
        os.close(ready_read)
        raise
    finally:
        os.close(login_read)
        os.close(ready_write)
    try:
        with os.fdopen(login_write, "wb") as pipe, suppress(BrokenPipeError):
            pipe.write(login)
        with os.fdopen(ready_read, "rb") as pipe, INTERRUPTS.at_once():
            said = pipe.readline(SAID_BYTES)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return Started(process, _answer(process, said))


def _answer(process: subprocess.Popen[bytes], said: bytes) -> dict[str, str]:
    document: dict[str, str] = json.loads(said) if said.endswith(b"\n") else {}
    if "reason" not in document and said:
        return document
    code = process.wait()
    words = process.stderr.read(SAID_BYTES).decode(errors="replace") if process.stderr else ""
    words = " ".join(words.split())
    if not document:
        raise Internal(f"backitfs ended with code {code}: {words}")
    if document["reason"] == "LOCAL":
        raise OSError(0, document["message"], "backitfs")
    kind = BY_REASON.get(document["reason"], Internal)
    raise kind(f"{document['message']} ({words})" if words else document["message"])
