"""Asking people: passwords, recovery words, yes or no.

A password comes from BACKIT_PASSWORD_FILE or BACKIT_PASSWORD_COMMAND if one is set, else from the
terminal, else from a line of standard input. A new one comes from BACKIT_NEW_PASSWORD_FILE or
BACKIT_NEW_PASSWORD_COMMAND first, and is typed twice on a terminal. Questions go to standard error.
Never an argument: other people see those.
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backit.errors import Invalid, Refused
from backitctl.interrupts import INTERRUPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def password(question: str) -> str:
    """The password that opens something. Raises Refused if there is nobody to ask."""
    return _from_environment("BACKIT_PASSWORD") or _typed(question)


def new_password(question: str, *, first: bool) -> str:
    """A password to be set; `first` if there is none yet, so BACKIT_PASSWORD_* can mean it."""
    found = _from_environment("BACKIT_NEW_PASSWORD")
    if not found and first:
        found = _from_environment("BACKIT_PASSWORD")
    if found:
        return found
    typed = _typed(question)
    if sys.stdin.isatty() and _typed("Once more: ") != typed:
        raise Invalid("the two passwords are not the same")
    return typed


def recovery_words(is_complete: Callable[[str], bool]) -> str:
    """The words of a kit, on one line or several, from the terminal unseen or from standard input.

    Ends with the last word, with an empty line on a terminal, or where the input ends.
    """
    text = ""
    while not is_complete(text):
        line = _line("More words: " if text else "The words of the recovery kit: ")
        if not line:
            break
        text += line + "\n"
    return text


def confirmed(question: str) -> bool:
    """Whether somebody at a terminal says yes; nobody there is a no."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    with INTERRUPTS.at_once():
        answer = sys.stdin.readline()
    return answer.strip().lower() in ("y", "yes")


def _typed(question: str) -> str:
    line = _line(question)
    if not line and not sys.stdin.isatty():
        raise Refused("a password is needed, but there is no terminal to ask for it")
    typed = line.rstrip("\r\n")
    if not typed:
        raise Refused("the password is empty")
    return typed


def _line(question: str) -> str:
    """Unseen from the terminal, or a line of standard input: empty where that ends."""
    with INTERRUPTS.at_once():
        return getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline()


def _from_environment(name: str) -> str:
    """Empty if neither variable is set."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            found = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise Invalid(f"{name}_FILE: {path} is not text in UTF-8") from None
    elif command := os.environ.get(f"{name}_COMMAND"):
        found = _answer_of(name, command)
    else:
        return ""
    found = found.removesuffix("\n").removesuffix("\r")
    if not found:
        raise Refused(f"the password that {name}_* gives is empty")
    return found


def _answer_of(name: str, command: str) -> str:
    try:
        with _begun(shlex.split(command)) as process, INTERRUPTS.at_once():
            answer, _ = process.communicate()
    except UnicodeDecodeError:  # whose words quote the answer
        raise Refused(f"{name}_COMMAND: its answer is not text in UTF-8") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{name}_COMMAND: {error}") from None
    if process.returncode:
        raise Refused(f"{name}_COMMAND ended with code {process.returncode}")
    return answer


@contextmanager
def _begun(command: list[str]) -> Generator[subprocess.Popen[str]]:
    """Ends with the block, if not before."""
    with subprocess.Popen(  # noqa: S603 - the person's own command
        command, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing, once it has ended
