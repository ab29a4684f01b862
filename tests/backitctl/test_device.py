"""Machines, with the real programs: enrolled here, asked for and approved, listed, revoked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.backitctl.conftest import MakePerson, type_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs import Box, Output, Person


def devices(person: Person) -> dict[str, dict[str, Any]]:
    found = person.ctl("--json", "device", "list").json["devices"]
    return {each["label"]: each for each in found}


def test_signing_up_makes_the_machine_a_write_only_device(
    box: Box, person: MakePerson, user: str
) -> None:
    anna = person()
    anna.ctl("pair", box.unix, "--trust-first-use")
    anna.ctl("signup", user, "--label", "laptop")
    assert devices(anna)["laptop"]["role"] == "write-only"
    assert anna.ctl("--json", "whoami").json["role"] == "write-only"


def test_a_device_backs_up_without_a_password(anna: Person, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    type_in(anna, "", "backup", str(tmp_path / "file"))
    assert type_in(anna, "", "--json", "status").json["snapshots"] == 1


def test_a_write_only_device_opens_nothing(anna: Person, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    type_in(anna, "", "backup", str(tmp_path / "file"))
    for command in (["snapshots"], ["ls", "latest"], ["cat", "latest:/x"], ["forget", "latest"]):
        type_in(anna, "", *command, expect=4)


def test_a_second_machine_is_enrolled_with_the_password(
    box: Box, anna: Person, person: MakePerson, user: str
) -> None:
    other = person("other")
    other.ctl("pair", box.unix, "--trust-first-use")
    other.ctl("login", user)
    other.ctl("device", "enrol", "--label", "second")
    assert "second" in devices(anna)
    other.ctl("device", "enrol", "--label", "third", expect=1)


def test_a_full_device_reads_without_a_password(anna: Person, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    anna.ctl("device", "enrol", "--full")
    type_in(anna, "", "backup", str(tmp_path / "file"))
    assert type_in(anna, "", "cat", f"latest:{tmp_path}/file").text == "content"
    assert anna.ctl("--json", "whoami").json["role"] == "full"


def test_a_revoked_machine_is_refused(
    box: Box, anna: Person, person: MakePerson, user: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    other = person("other")
    other.ctl("pair", box.unix, "--trust-first-use")
    other.ctl("login", user)
    other.ctl("device", "enrol", "--label", "stolen", "--full")
    other.ctl("logout")
    type_in(other, "", "backup", str(tmp_path / "file"))
    anna.ctl("device", "revoke", "stolen")
    type_in(other, "", "backup", str(tmp_path / "file"), expect=4)
    type_in(other, "", "snapshots", expect=4)
    assert devices(anna)["stolen"]["revoked_since"]
    # What it saved stays.
    assert len(anna.snapshots()) == 1
    anna.ctl("device", "revoke", "stolen", expect=1)


def test_a_device_is_named_by_label_id_or_the_beginning_of_an_id(anna: Person) -> None:
    (found,) = devices(anna).values()
    anna.ctl("device", "revoke", "nonsense", expect=1)
    anna.ctl("device", "revoke", found["device"][:6], "--since", "2026-01-01T00:00:00+00:00")
    (found,) = devices(anna).values()
    assert found["revoked_since"] == "2026-01-01T00:00:00+00:00"


def test_a_revoked_machine_can_become_a_new_device(anna: Person) -> None:
    (label,) = devices(anna)
    anna.ctl("device", "revoke", label)
    type_in(anna, "", "backup", "/etc/hostname", expect=4)
    anna.ctl("device", "enrol", "--label", "again")
    type_in(anna, "", "backup", "/etc/hostname")


# A machine that never sees the password.


def ask(machine: Person, user: str, *more: str, expect: int = 0) -> Output:
    command = ("--json", "device", "enrol", "--request", user, "--label", "kiosk", *more)
    return type_in(machine, "", *command, expect=expect)


def events(answer: Output) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def kiosk(box: Box, person: MakePerson) -> Person:
    """A machine that is paired and belongs to nobody yet."""
    found = person("kiosk")
    found.ctl("pair", box.tcp, "--trust-first-use")
    return found


def test_a_machine_asks_and_is_approved_elsewhere(
    anna: Person, kiosk: Person, user: str, tmp_path: Path
) -> None:
    (waiting,) = events(ask(kiosk, user, "--no-wait"))
    approved = anna.ctl("--json", "device", "enrol", "--approve", waiting["code"]).json
    last = events(ask(kiosk, user, "--owner", approved["owner_code"]))[-1]
    assert last["device"] == approved["device"]
    (tmp_path / "file").write_text("content")
    type_in(kiosk, "", "backup", str(tmp_path / "file"))
    assert [each["label"] for each in anna.snapshots()] == ["kiosk"]
    assert anna.ctl("cat", f"latest@kiosk:{tmp_path}/file").text == "content"
    type_in(kiosk, "", "snapshots", expect=4)


def test_the_machine_waits_until_it_is_approved(anna: Person, kiosk: Person, user: str) -> None:
    process = kiosk.popen("--json", "device", "enrol", "--request", user, "--trust-first-use")
    assert process.stdout is not None
    try:
        code = json.loads(process.stdout.readline())["code"]
        anna.ctl("device", "enrol", "--approve", code)
        output, _errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert json.loads(output)["user"] == user


@pytest.mark.usefixtures("anna")
def test_the_same_question_shows_the_same_code(kiosk: Person, user: str) -> None:
    first, second = (events(ask(kiosk, user, "--no-wait"))[0]["code"] for _ in range(2))
    assert first == second


def test_an_unknown_code_approves_nothing(anna: Person, kiosk: Person, user: str) -> None:
    ask(kiosk, user, "--no-wait")
    anna.ctl("device", "enrol", "--approve", "0000-0000-0000", expect=1)


def test_whoever_approved_has_to_be_confirmed(anna: Person, kiosk: Person, user: str) -> None:
    (waiting,) = events(ask(kiosk, user, "--no-wait"))
    anna.ctl("device", "enrol", "--approve", waiting["code"])
    ask(kiosk, user, expect=4)
    ask(kiosk, user, "--owner", "0000-0000-0000-0000-0000", expect=4)
    type_in(kiosk, "", "backup", "/etc/hostname", expect=1)  # still nobody's
    ask(kiosk, user, "--trust-first-use")
    type_in(kiosk, "", "backup", "/etc/hostname")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--approve", "x", "--full"),
        ("--request", "anna", "--full"),
        ("--owner", "x"),
        ("--no-wait",),
        ("--request", "anna", "--approve", "x"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    person: MakePerson, arguments: tuple[str, ...]
) -> None:
    person().ctl("device", "enrol", *arguments, expect=2)
