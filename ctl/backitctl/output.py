"""The only module that prints.

Rules:
- Standard output has the answer and nothing else; everything else goes to standard error.
- With --json, standard output has one JSON document, or JSON lines where a command reports
  progress; an error is a JSON document on standard error.
- Sentences begin with a small letter and have no full stop.
- What came from files, the appliance or other people is made printable first: it moves no cursor.
- No secrets, except the one thing that was asked for: a recovery kit.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backitctl.clock import local
from backitctl.interrupts import INTERRUPTS

Document = Mapping[str, Any]


@dataclass(slots=True)
class Output:
    """Where answers, notes and errors go."""

    as_json: bool = False

    def answer(self, document: Document, lines: Iterable[str] = ()) -> None:
        """The command's result: the document for programs, the lines for people."""
        if self.as_json:
            self.event(document)
        else:
            for line in lines:
                _write(line + "\n")

    def event(self, document: Document) -> None:
        """One line for programs; nothing for people."""
        if self.as_json:
            _write(json.dumps(document, ensure_ascii=False) + "\n")

    def line(self, text: str) -> None:
        """One line of a long answer for people; nothing for programs."""
        if not self.as_json:
            _write(text + "\n")

    def item(self, document: Document, line: str) -> None:
        """One of many results, as soon as it is known: a JSON line, or a line."""
        _write((json.dumps(document, ensure_ascii=False) if self.as_json else line) + "\n")

    def raw(self, data: bytes) -> None:
        """A file's own bytes."""
        with INTERRUPTS.at_once():
            sys.stdout.buffer.write(data)

    def note(self, text: str) -> None:
        """Something people should know that is not the answer."""
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def warning(self, text: str, document: Document | None = None) -> None:
        """Something went wrong, but not everything."""
        if self.as_json:
            self.event({"event": "warning", "message": text} | dict(document or {}))
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def failed(self, reason: str, message: str, hint: str) -> None:
        """Why the program ends without an answer."""
        message = printable(message)
        if self.as_json:
            problem = {"reason": reason, "message": message} | ({"hint": hint} if hint else {})
            print(json.dumps({"error": problem}, ensure_ascii=False), file=sys.stderr)
            return
        print(f"backitctl: {message}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)

    def traceback(self, text: str) -> None:
        """For somebody who asked to see where the program failed."""
        print(text, file=sys.stderr)


def _write(text: str) -> None:
    """Names on disk need not be text: their bytes go out as they came."""
    with INTERRUPTS.at_once():  # whoever should read it may not
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()


def printable(text: str) -> str:
    """Text on one line in which nothing moves the cursor or changes colours."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def shown_path(path: bytes) -> str:
    """A path for people."""
    return printable(os.fsdecode(path))


def path_fields(path: bytes) -> dict[str, str]:
    """A path for programs: readable, and exact where the readable form is not."""
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path": shown_path(path), "path_b64": base64.b64encode(path).decode()}


def shown_size(count: int) -> str:
    """Bytes, to three digits."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1000 or unit == "TiB":
            break
        size /= 1024
    return (
        f"{count} B"
        if unit == "B"
        else f"{size:.3g} {unit}"
        if size < 1000
        else f"{size:.0f} {unit}"
    )


def shown_time(seconds: float | None) -> str:
    """A Unix time in this machine's zone, to the minute."""
    return "never" if seconds is None else f"{local(seconds):%Y-%m-%d %H:%M}"


def iso_time(seconds: float | None) -> str | None:
    """A Unix time for programs."""
    return None if seconds is None else local(seconds).isoformat()


def columns(rows: Sequence[Sequence[str]], *, right: Iterable[int] = ()) -> Iterable[str]:
    """Rows of a table, the first one its head, in aligned columns; `right` are aligned to the
    right.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    flush = set(right)
    for row in rows:
        cells = (
            cell.rjust(width) if i in flush else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
