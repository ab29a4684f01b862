"""People and their accounts, with the real programs: in, out, lost passwords, new keys."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

import pytest

from tests import programs
from tests.backitctl.conftest import MakePerson, type_in
from tests.programs import Box, Person

if TYPE_CHECKING:
    from pathlib import Path


def test_whoever_signed_up_can_log_in_on_another_machine(
    box: Box, anna: Person, person: MakePerson, user: str
) -> None:
    other = person("other")
    other.ctl("pair", box.tcp, "--trust-first-use")
    other.ctl("login", user)
    assert (
        other.ctl("whoami", "--json").json["account"]
        == anna.ctl("whoami", "--json").json["account"]
    )


def test_a_wrong_password_is_refused(anna: Person, user: str) -> None:
    anna.write_password("wrong")
    answer = anna.ctl("login", user, expect=4)
    assert "LOGIN_REFUSED" in anna.ctl("--json", "login", user, expect=4).errors
    assert answer.text == ""
    anna.ctl("snapshots", expect=4)


@pytest.mark.usefixtures("anna")
def test_an_unknown_user_fails_like_a_wrong_password(
    box: Box, person: MakePerson, user: str
) -> None:
    stranger = person("stranger")
    stranger.ctl("pair", box.unix, "--trust-first-use")
    unknown = stranger.ctl("login", "nobody", expect=4).errors
    stranger.write_password("wrong")
    assert unknown == stranger.ctl("login", user, expect=4).errors


@pytest.mark.usefixtures("anna")
def test_a_user_name_is_given_once(box: Box, person: MakePerson, user: str) -> None:
    second = person("second")
    second.ctl("pair", box.unix, "--trust-first-use")
    assert "taken" in second.ctl("signup", user, expect=1).errors


def test_a_profile_is_for_one_account(anna: Person) -> None:
    anna.ctl("signup", "somebody", expect=1)
    anna.ctl("login", "somebody", expect=1)


def test_signing_up_needs_an_invite_where_it_is_not_open(
    tmp_path: Path, person: MakePerson
) -> None:
    closed = Box(tmp_path / "closed", ())
    closed.folder.mkdir()
    closed.start()
    try:
        anna, bert = person("anna"), person("bert")
        for each in (anna, bert):
            each.ctl("pair", closed.unix, "--trust-first-use")
        anna.ctl("signup", "anna", expect=4)
        code = anna.ctl("admin", "invite", "--state", closed.state).text.strip()
        anna.ctl("signup", "anna", "--invite", code)
        bert.ctl("signup", "bert", "--invite", code, expect=4)
        socket = closed.state / "admin.sock"
        answer = anna.ctl("--json", "admin", "invite", "--socket", socket, "--days", "1").json
        bert.ctl("signup", "bert", "--invite", answer["code"].lower().replace("-", " "))
    finally:
        closed.stop()


def test_after_a_change_only_the_new_password_opens(anna: Person, user: str) -> None:
    old = anna.password
    type_in(anna, f"{old}\nanother\n", "password")
    anna.ctl("login", user, expect=4)
    anna.write_password("another")
    anna.ctl("login", user)


def test_changing_the_password_needs_the_old_one(anna: Person, user: str) -> None:
    anna.ctl("login", user)
    type_in(anna, "wrong\nanother\n", "password", expect=4)
    anna.ctl("login", user)


def test_a_script_can_change_the_password(anna: Person, user: str, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_text("another\n")
    anna.environment["BACKIT_NEW_PASSWORD_FILE"] = str(new)
    anna.ctl("password")
    anna.write_password("another")
    anna.ctl("login", user)


def test_a_password_command_answers_the_question(anna: Person, user: str) -> None:
    anna.environment |= {
        "BACKIT_PASSWORD_FILE": "",
        "BACKIT_PASSWORD_COMMAND": f"printf '%s' '{anna.password}'",
    }
    anna.ctl("login", user)
    anna.environment["BACKIT_PASSWORD_COMMAND"] = "false"
    anna.ctl("login", user, expect=4)
    anna.environment["BACKIT_PASSWORD_COMMAND"] = "printf 'secret\\377'"
    refused = anna.ctl("login", user, expect=4).errors
    assert "not text" in refused
    assert "ff" not in refused


def test_nobody_is_asked_where_nobody_is(anna: Person) -> None:
    assert "no terminal" in type_in(anna, "", "snapshots", expect=4).errors


def words_of(sheet: str) -> str:
    return " ".join(re.findall(r"\d\. ([a-z]+)", sheet))


def test_a_recovery_kit_gets_back_in(box: Box, anna: Person, person: MakePerson, user: str) -> None:
    sheet = anna.ctl("recovery-kit").text
    assert user in sheet
    other = person("other", "regained")
    other.ctl("pair", box.tcp, "--trust-first-use")
    # As they stand on the sheet, on several lines.
    rows = re.findall(r"(?m)^( ?[0-9]+\. .*)$", sheet)
    assert len(rows) == 6
    typed = "\n".join([*rows, "regained", ""])
    answer = type_in(other, typed, "recovery-kit", "--use", "--json")
    assert answer.json["user"] == user
    other.ctl("login", user)
    anna.ctl("login", user, expect=4)


def test_a_kit_in_a_file_is_private_and_never_overwrites(anna: Person, tmp_path: Path) -> None:
    file = tmp_path / "kit.txt"
    anna.ctl("recovery-kit", "--output", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(words_of(file.read_text()).split()) == 24
    anna.ctl("recovery-kit", "--output", file, expect=1)


def test_replaced_kits_open_nothing(anna: Person) -> None:
    first = anna.ctl("recovery-kit", "--json").json["words"]
    second = anna.ctl("recovery-kit", "--json", "--replace").json["words"]
    type_in(anna, f"{' '.join(first)}\nx\n", "recovery-kit", "--use", expect=4)
    type_in(anna, f"{' '.join(second)}\nx\n", "recovery-kit", "--use")


@pytest.mark.parametrize("words", ["", "abandon " * 24, "zoo " * 23])
def test_words_that_are_no_kit_are_refused(anna: Person, words: str) -> None:
    type_in(anna, f"{words}\nx\n", "recovery-kit", "--use", expect=2)


def test_login_asks_once_until_logout(anna: Person, user: str) -> None:
    anna.ctl("login", user)
    assert type_in(anna, "", "--json", "snapshots").json == {"snapshots": []}
    assert anna.ctl("--json", "whoami").json["login_ends"]
    assert anna.ctl("--json", "logout").json == {"logged_out": True}
    type_in(anna, "", "snapshots", expect=4)
    assert anna.ctl("--json", "whoami").json["login_ends"] is None


def test_a_login_survives_the_daemon_s_forgetting(tmp_path: Path, person: MakePerson) -> None:
    with programs.running(tmp_path / "box") as box:
        anna = person()
        anna.joins(box.unix)
        anna.ctl("login", "anna")
        box.stop()
        box.start()
        type_in(anna, "", "snapshots")


def test_a_login_ends_with_its_password(
    anna: Person, user: str, box: Box, person: MakePerson
) -> None:
    anna.ctl("login", user)
    other = person("other")
    other.ctl("pair", box.unix, "--trust-first-use")
    other.ctl("login", user)
    type_in(other, f"{other.password}\nanother\n", "password")
    type_in(anna, "", "snapshots", expect=4)
    # Whoever changed it stays logged in.
    type_in(other, "", "snapshots")


def test_new_keys_end_kits_and_leave_devices(anna: Person, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    words = anna.ctl("recovery-kit", "--json").json["words"]
    anna.ctl("backup", tmp_path / "file")
    answer = anna.ctl("--json", "keys", "rotate").json
    assert answer == {"epoch": 3, "new_root_key": True}
    type_in(anna, f"{' '.join(words)}\nx\n", "recovery-kit", "--use", expect=4)
    anna.ctl("backup", tmp_path / "file")
    assert len(anna.snapshots()) == 2
    assert anna.ctl("cat", f"latest:{tmp_path}/file").text == "content"
    anna.ctl("check", "--read-data")


def test_new_keys_can_come_with_a_new_password(anna: Person, user: str, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_text("another\n")
    anna.environment["BACKIT_NEW_PASSWORD_FILE"] = str(new)
    anna.ctl("keys", "rotate", "--new-password")
    anna.ctl("login", user, expect=4)
    anna.write_password("another")
    anna.ctl("login", user)


def test_a_new_epoch_alone_keeps_the_kits(anna: Person) -> None:
    words = anna.ctl("recovery-kit", "--json").json["words"]
    assert anna.ctl("--json", "keys", "rotate", "--epoch-only").json["epoch"] == 2
    type_in(anna, f"{' '.join(words)}\nx\n", "recovery-kit", "--use")


def test_no_secret_of_the_account_is_readable_by_others(anna: Person, user: str) -> None:
    anna.ctl("login", user)
    files = [each for each in anna.home.rglob("*") if each.is_file()]
    assert files
    for each in files:
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    folders = [each for each in anna.home.rglob("*") if each.is_dir()]
    for each in folders:
        assert stat.S_IMODE(each.stat().st_mode) == 0o700, each
