"""The vectors hold: every file, good and bad, and they are what the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backit import errors
from tests.vectors import engine_readers, readers
from tests.vectors.case import FOLDER, OK, Case, every_file
from tests.vectors.make import everything

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READERS: dict[str, Callable[[Case], None]] = {
    "bundle": engine_readers.read_bundle,
    "chunk_id": readers.read_chunk_id,
    "chunker": engine_readers.read_chunker,
    "enrolment": readers.read_enrolment,
    "extents": engine_readers.read_extents,
    "id_text": readers.read_id_text,
    "keys": readers.read_keys,
    "login": readers.read_login,
    "node": readers.read_node,
    "pack": readers.read_pack,
    "padding": readers.read_padding,
    "passphrase": readers.read_passphrase,
    "record": readers.read_record,
    "session_key": readers.read_session_key,
    "slot_commitment": readers.read_slot_commitment,
    "snapshot": readers.read_snapshot,
    "statement": readers.read_statement,
    "succession": readers.read_succession,
    "tree": engine_readers.read_tree,
    "wrapped": readers.read_wrapped,
}
FILES = every_file()


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def hold(case: Case, read: Callable[[Case], None], expect: str) -> None:
    """Refused with exactly the error that is expected, or read without one."""
    if expect == OK:
        read(case)
        return
    with pytest.raises(errors.BackitError) as caught:
        read(case)
    assert type(caught.value).__name__ == expect, caught.value


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_vector_holds(path: Path) -> None:
    case = Case.load(path)
    hold(case, READERS[case.kind], case.expect)
    if case.kind == "record":
        hold(case, readers.read_stored_record, case.text("stored"))


def test_each_object_has_good_vectors() -> None:
    good = {case.kind for case in map(Case.load, FILES) if case.is_good}
    assert good == set(READERS)


def test_the_vectors_can_be_made_again_byte_for_byte() -> None:
    made = everything()
    on_disk = {name_of(path): path.read_text(encoding="utf-8") for path in FILES}
    assert set(made) == set(on_disk)
    assert [name for name, text in made.items() if on_disk[name] != text] == []


def test_each_vector_says_what_it_is_about() -> None:
    assert [name_of(path) for path in FILES if not Case.load(path).about] == []
