"""The form of a vector: one case in one TOML file, bytes in hexadecimal.

`expect` is "ok" or the name of the error (backit.errors) with which the case is refused; everything
else depends on the object, which is the name of the folder.
"""

from __future__ import annotations

import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

FOLDER = Path(__file__).parent
OK = "ok"
# Hexadecimal digits a line.
WIDTH = 96

Scalar = str | int | bool | bytes
Value = Scalar | list[int] | list[str] | list[bytes] | dict[str, Scalar]


@dataclass(frozen=True, slots=True)
class Case:
    """What one file says; `name` is "object/case"."""

    name: str
    about: str
    fields: dict[str, Value]

    @classmethod
    def load(cls, path: Path) -> Self:
        text = path.read_text(encoding="utf-8")
        about = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
        return cls(path.relative_to(FOLDER).with_suffix("").as_posix(), about, tomllib.loads(text))

    @property
    def kind(self) -> str:
        """The object."""
        return self.name.partition("/")[0]

    @property
    def expect(self) -> str:
        return self.text("expect")

    @property
    def is_good(self) -> bool:
        return self.expect == OK

    def text(self, field: str) -> str:
        return str(self.fields[field])

    def number(self, field: str) -> int:
        return cast("int", self.fields[field])

    def bytes(self, field: str) -> bytes:
        return unhex(self.text(field))

    def list(self, field: str) -> list[Any]:
        return list(cast("list[Any]", self.fields[field]))

    def table(self, field: str) -> dict[str, Scalar]:
        return dict(cast("dict[str, Scalar]", self.fields[field]))

    def render(self) -> str:
        """The text of the file."""
        lines = textwrap.wrap(self.about, 94, initial_indent="# ", subsequent_indent="# ")
        tables = [key for key, value in self.fields.items() if isinstance(value, dict)]
        lines += [_line(key, value) for key, value in self.fields.items() if key not in tables]
        for name in tables:
            lines += ["", f"[{name}]"]
            lines += [_line(key, value) for key, value in self.table(name).items()]
        return "\n".join(lines) + "\n"


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def every_file() -> list[Path]:
    """Every case on disk."""
    return sorted(FOLDER.glob("*/*.toml"))


def _line(key: str, value: Value) -> str:
    if isinstance(value, list):
        items = [_item(each) for each in cast("list[Scalar]", value)]
        inline = f"{key} = [{', '.join(items)}]"
        if len(inline) <= 100:
            return inline
        return "\n".join([f"{key} = [", *(f"  {item}," for item in items), "]"])
    if isinstance(value, bytes) and len(value) > 40:
        return f'{key} = """\n' + "\n".join(textwrap.wrap(value.hex(), WIDTH)) + '\n"""'
    return f"{key} = {_item(value)}"


def _item(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = value.hex() if isinstance(value, bytes) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
