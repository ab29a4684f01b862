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
from typing import TYPE_CHECKING, Self

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


class Launch:
    """A `backitfs` that has been started, and waits for its login before it does anything.

    It takes a while to import what it needs: start it before the account is opened. Whatever ends
    the block before `finish` ends it, too.
    """

    def __init__(
        self, verb: str, arguments: Sequence[str], *, takes_login: bool, with_words: bool = False
    ) -> None:
        """`with_words` leaves it our standard error."""
        login_read, login_write = os.pipe()
        ready_read, ready_write = os.pipe()
        self._login, self._ready = os.fdopen(login_write, "wb"), os.fdopen(ready_read, "rb")
        self._is_finished = False
        given = ("--login-fd", str(login_read)) if takes_login else ()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                (*PROGRAM, verb, *given, "--ready-fd", str(ready_write), *arguments),
                pass_fds=(login_read, ready_write),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if with_words else subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us: we tell it to end
            )
        except BaseException:
            self._close()
            raise
        finally:
            os.close(login_read)
            os.close(ready_write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._is_finished:
            self._process.terminate()
            self._process.wait()
        self._close()

    def finish(self, login: bytes = b"") -> Started:
        """Hand the login over and wait until it is ready. Raises what it has failed with."""
        with suppress(BrokenPipeError):
            self._login.write(login)
            self._login.close()
        with INTERRUPTS.at_once():
            said = self._ready.readline(SAID_BYTES)
        self._is_finished = True
        return Started(self._process, _answer(self._process, said))

    def _close(self) -> None:
        with suppress(BrokenPipeError):
            self._login.close()
        self._ready.close()


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
