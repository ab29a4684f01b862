"""Writes every vector anew: `python -m tests.vectors.make`, from the root of the repository."""

from __future__ import annotations

from itertools import chain

from tests.vectors import (
    engine_cases,
    key_cases,
    node_cases,
    record_cases,
    snapshot_cases,
    statement_cases,
)
from tests.vectors.case import FOLDER, every_file


def everything() -> dict[str, str]:
    """Name of the case -> text of its file."""
    sources = (
        key_cases,
        statement_cases,
        record_cases,
        node_cases,
        snapshot_cases,
        engine_cases,
    )
    made: dict[str, str] = {}
    for case in chain.from_iterable(source.cases() for source in sources):
        if case.name in made:
            raise ValueError(f"two cases are called {case.name}")
        made[case.name] = case.render()
    return made


def write() -> None:
    for path in every_file():
        path.unlink()
    for name, text in everything().items():
        path = (FOLDER / name).with_suffix(".toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
