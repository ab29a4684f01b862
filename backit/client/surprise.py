"""An error that nobody expected: how it may be told.

What and where, never with values: its own text and the lines of a traceback may hold names and
secrets. Those are for whoever asks with BACKIT_DEBUG=1; local variables are never shown.
"""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

DEBUG = "BACKIT_DEBUG"
OURS = ("backit", "__main__")


def told(error: BaseException) -> str:
    """In a few words; the place is the innermost one in our own code."""
    places = [(_module(frame), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [place for place in places if place[0].startswith(OURS)]
    kind = type(error).__name__
    if not places:
        return f"unexpected {kind}"
    module, line = (ours or places)[-1]
    return f"unexpected {kind} at {module}:{line}"


def _module(frame: FrameType) -> str:
    """By its own name, also where it runs as a program."""
    spec = frame.f_globals.get("__spec__")
    return str(spec.name if spec is not None else frame.f_globals.get("__name__"))


def is_wanted() -> bool:
    """Whether whoever started us wants tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def explained(error: BaseException) -> str:
    """The traceback, as Python writes it."""
    return "".join(traceback.format_exception(error))
