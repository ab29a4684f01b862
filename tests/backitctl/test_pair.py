"""Pairing, with the real programs: which appliance is trusted, and what if it is another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import programs
from tests.backitctl.conftest import MakePerson, type_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs import Box, Person


def fingerprint(person: Person, address: str) -> str:
    found = person.ctl("--json", "pair", address, "--trust-first-use").json["fingerprint"]
    return str(found)


def test_the_right_fingerprint_pairs(box: Box, person: MakePerson) -> None:
    expected = fingerprint(person("first"), box.tcp)
    spaced = " ".join(expected[i : i + 4] for i in range(0, 64, 4)).upper()
    for typed in (expected, spaced):
        person("second").ctl("pair", box.tcp, "--fingerprint", typed)


def test_socket_and_port_show_the_same_appliance(box: Box, person: MakePerson) -> None:
    assert fingerprint(person(), box.tcp) == fingerprint(person(), box.unix)


def test_a_wrong_fingerprint_is_refused_and_pins_nothing(box: Box, person: MakePerson) -> None:
    anna = person()
    for address in (box.tcp, box.unix):
        anna.ctl("pair", address, "--fingerprint", "0" * 64, expect=4)
    anna.ctl("whoami", expect=1)


def test_nobody_who_says_yes_is_a_no(box: Box, person: MakePerson) -> None:
    answer = type_in(person(), "", "pair", box.tcp, expect=4)
    assert "fingerprint" in answer.errors


def test_an_appliance_out_of_reach_is_said(person: MakePerson, tmp_path: Path) -> None:
    person().ctl("pair", f"tcp:127.0.0.1:{programs.free_port()}", "--trust-first-use", expect=5)
    person().ctl("pair", f"unix:{tmp_path}/none", "--trust-first-use", expect=5)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense:1:2", "--trust-first-use"),
        ("tcp:box:99999", "--trust-first-use"),
        ("tcp:box", "--fingerprint", "12"),
        ("tcp:box", "--fingerprint", "0" * 64, "--trust-first-use"),
        (),
    ],
)
def test_wrong_usage_asks_nobody(person: MakePerson, arguments: tuple[str, ...]) -> None:
    person().ctl("pair", *arguments, expect=2)


def test_everything_ends_with_5_while_the_appliance_is_down(
    person: MakePerson, tmp_path: Path
) -> None:
    with programs.running(tmp_path / "box") as box:
        anna = person()
        anna.joins(box.tcp)
        anna.ctl("login", "anna")
        box.stop()
        for command in (["status"], ["snapshots"], ["backup", "/etc/hostname"], ["check"]):
            anna.ctl(*command, expect=5)
        anna.ctl("whoami")
        box.start()
        anna.ctl("snapshots")


def test_another_appliance_at_the_same_address_is_refused_before_any_password(
    person: MakePerson, tmp_path: Path
) -> None:
    """Set up anew, or somebody in between: the client cannot tell, so it stops."""
    with programs.running(tmp_path / "first") as first:
        anna = person()
        anna.joins(first.tcp)
        port = first.port
    second = programs.Box(tmp_path / "second", port=port)
    second.folder.mkdir()
    try:
        second.start()
        # Standard input holds a password that must not be read.
        for command in (["snapshots"], ["login", "anna"], ["backup", "/etc/hostname"]):
            answer = type_in(anna, f"{anna.password}\n", *command, expect=4)
            assert "pinned" in answer.errors
        assert "login of" not in second.log_text()
    finally:
        second.stop()


def test_profiles_are_kept_apart(box: Box, person: MakePerson, user: str) -> None:
    anna = person()
    anna.ctl("pair", box.unix, "--trust-first-use")
    anna.ctl("signup", user)
    anna.ctl("--profile", "work", "pair", box.tcp, "--trust-first-use")
    anna.ctl("signup", "--profile", "work", f"{user}-work")
    assert anna.ctl("--json", "whoami").json["user"] == user
    assert anna.ctl("whoami", "--json", "--profile", "work").json["user"] == f"{user}-work"
    assert "'none'" in anna.ctl("--profile", "none", "status", expect=1).errors
    anna.ctl("--profile", "../x", "status", expect=2)


def test_pairing_again_keeps_the_account(box: Box, person: MakePerson, user: str) -> None:
    anna = person()
    anna.joins(box.unix, user)
    anna.ctl("pair", box.tcp, "--trust-first-use")
    answer = anna.ctl("--json", "whoami").json
    assert (answer["user"], answer["address"]) == (user, box.tcp)
    anna.ctl("status")
