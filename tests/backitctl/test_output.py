"""What is shown: nothing that moves a cursor, sizes and tables that people can read."""

from __future__ import annotations

import base64
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backitctl import output
from backitctl.output import Output

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)


@given(NAMES)
def test_a_path_is_shown_on_one_printable_line(name: bytes) -> None:
    assert output.shown_path(name).isprintable()


@given(NAMES)
def test_a_program_can_always_tell_the_exact_path(name: bytes) -> None:
    fields = output.path_fields(name)
    exact = (
        base64.b64decode(fields["path_b64"]) if "path_b64" in fields else fields["path"].encode()
    )
    assert exact == name


@given(NAMES)
def test_json_is_one_line_of_utf_8(name: bytes) -> None:
    line = json.dumps(output.path_fields(name), ensure_ascii=False)
    assert "\n" not in line
    line.encode()


def test_odd_names_look_like_themselves() -> None:
    assert output.shown_path(b"ol\xe9 \xc3\xa9\n") == "ol\\xe9 é\\n"
    assert output.path_fields("é".encode()) == {"path": "é"}


def test_an_escape_sequence_is_harmless() -> None:
    assert output.printable("\x1b[31mred") == "\\x1b[31mred"
    assert output.printable(os.fsdecode(b"\xff")) == "\\xff"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1536, "1.5 KiB"),
        (1_048_576, "1 MiB"),
        (123_456_789, "118 MiB"),
        (1_072_693_248, "0.999 GiB"),
        (5 * 1024**4, "5 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes_have_three_digits(count: int, shown: str) -> None:
    assert output.shown_size(count) == shown


def test_columns_are_aligned() -> None:
    rows = [("NAME", "SIZE"), ("a", "1"), ("longer", "12345")]
    assert list(output.columns(rows, right=[1])) == [
        "NAME     SIZE",
        "a           1",
        "longer  12345",
    ]
    assert list(output.columns([])) == []


def test_programs_and_people_are_told_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        out = Output(as_json=as_json)
        out.answer({"a": 1}, ["one"])
        out.event({"b": 2})
        out.line("two")
        out.note("aside")
        out.failed("REASON", "it failed\n", "do this")
    text, errors = capsys.readouterr()
    assert text.splitlines() == ["one", "two", '{"a": 1}', '{"b": 2}']
    assert errors.splitlines() == [
        "aside",
        "backitctl: it failed\\n",
        "hint: do this",
        '{"error": {"reason": "REASON", "message": "it failed\\\\n", "hint": "do this"}}',
    ]
