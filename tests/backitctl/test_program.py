"""The program as such: help, wrong usage, JSON, completion, manual pages, and what it does to
itself.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import click
import pytest
from click_man.core import write_man_pages  # type: ignore[import-untyped]

from backit import errors
from backitctl import exits
from backitctl.__main__ import COMMANDS, tree
from tests import programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backitctl.conftest import MakePerson
    from tests.programs import Person

CONTRACT = {
    "pair": ["--fingerprint", "--trust-first-use"],
    "signup": ["--invite"],
    "login": [],
    "logout": [],
    "whoami": [],
    "password": [],
    "recovery-kit": [],
    "device enrol": [],
    "device list": [],
    "device revoke": [],
    "keys rotate": [],
    "backup": ["--exclude", "--exclude-from", "--one-file-system", "--tag", "--dry-run"],
    "snapshots": [],
    "ls": [],
    "find": [],
    "diff": [],
    "cat": [],
    "stats": [],
    "restore": ["--to", "--dry-run", "--overwrite"],
    "forget": [],
    "undelete": [],
    "check": ["--read-data"],
    "status": [],
    "admin invite": [],
}


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Each command with the words that call it."""
    for name in COMMANDS:
        command = tree.commands[name]
        yield name, command
        if isinstance(command, click.Group):
            for inner, below in command.commands.items():
                yield f"{name} {inner}", below


def options_of(command: click.Command) -> set[str]:
    return {option for each in command.params for option in each.opts}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_is_kept(name: str) -> None:
    command = dict(every_command())[name]
    assert {*CONTRACT[name], "--json", "--profile"} <= options_of(command)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    help_text = tree.commands[name].help or ""
    assert help_text.splitlines()[0] == COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_file_of_its_own(name: str) -> None:
    module = importlib.import_module(f"backitctl.commands.{name.replace('-', '_')}")
    assert module.command.name == name


@pytest.mark.parametrize(
    ("name", "command"), list(every_command()), ids=lambda each: str(each)[:20]
)
def test_each_help_has_one_example(name: str, command: click.Command) -> None:
    lines = [line.strip() for line in (command.help or "").splitlines()]
    examples = [line for line in lines if line.startswith("Example: ")]
    assert len(examples) == 1, name
    first_word, *_rest = name.split(maxsplit=1)
    assert examples[0].startswith(f"Example: backitctl {first_word}")


def run(person: Person, *arguments: str, expect: int = 0) -> str:
    return person.ctl(*arguments, expect=expect).text


def test_help_is_there_at_every_level(person: MakePerson) -> None:
    anna = person()
    assert "backup" in run(anna, "--help")
    assert "--exclude" in run(anna, "backup", "--help")
    assert "rotate" in run(anna, "keys", "-h")
    assert run(anna, "--version").startswith("backitctl ")


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("status", "--nonsense"), ("device",), ("ls",), ("diff", "a")]
)
def test_wrong_usage_ends_with_2(person: MakePerson, arguments: tuple[str, ...]) -> None:
    answer = person().ctl(*arguments, expect=2)
    assert "Traceback" not in answer.errors


def test_an_error_is_json_where_a_program_listens(person: MakePerson) -> None:
    answer = person().ctl("--json", "status", expect=1)
    assert answer.text == ""
    found = json.loads(answer.errors)["error"]
    assert found["reason"] == "NOT_FOUND"
    assert "pair" in found["hint"]


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, backitctl.__main__; print(*sys.modules)"
    answer = subprocess.run(
        [programs.BIN / "python", "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"grpc", "google.protobuf", "rich", "nacl", "blake3", "cryptography", "asyncio"}
    assert heavy.isdisjoint(answer.stdout.split())


def test_a_backup_imports_nothing_that_only_others_need() -> None:
    code = "import sys, backitctl.commands.backup; print(*sys.modules)"
    answer = subprocess.run(
        [programs.BIN / "python", "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"rich", "cryptography", "segno", "mnemonic", "importlib.metadata", "sqlite3"}
    assert heavy.isdisjoint(answer.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(person: MakePerson, shell: str) -> None:
    source = run(person(), "completion", shell)
    assert "_BACKITCTL_COMPLETE" in source
    assert "backitctl" in source


def complete(*words: str) -> list[str]:
    variables = {
        **os.environ,
        "_BACKITCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("backitctl", *words)),
        "COMP_CWORD": str(len(words)),
    }
    answer = subprocess.run(
        [programs.BACKITCTL], env=variables, capture_output=True, text=True, check=False
    )
    return [line.partition(",")[2] for line in answer.stdout.splitlines()]


def test_words_are_completed() -> None:
    assert complete("sn") == ["snapshots"]
    assert complete("device", "r") == ["revoke"]
    assert "--exclude-from" in complete("backup", "--excl")
    assert "--profile" in complete("--pro")


def test_every_command_has_a_manual_page(tmp_path: Path) -> None:
    write_man_pages("backitctl", tree, target_dir=str(tmp_path))
    names = {f"backitctl-{name.replace(' ', '-')}.1" for name, _command in every_command()}
    assert {each.name for each in tmp_path.iterdir()} == names | {"backitctl.1"}
    page = (tmp_path / "backitctl-backup.1").read_text()
    assert "CACHEDIR.TAG" in page
    assert "Example: backitctl backup" in page


def all_errors(
    kind: type[errors.BackitError] = errors.BackitError,
) -> list[type[errors.BackitError]]:
    below = [each for child in kind.__subclasses__() for each in all_errors(child)]
    return [kind, *below] if kind.__module__ == errors.__name__ else below


EXPECTED = {
    errors.Unavailable: exits.UNREACHABLE,
    errors.Refused: exits.REFUSED,
    errors.WrongKey: exits.REFUSED,
    errors.Invalid: exits.USAGE,
    errors.StatementInvalid: exits.FAILED,
    errors.RecordInvalid: exits.FAILED,
    errors.BackitError: exits.FAILED,
}


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_exit_code(kind: type[errors.BackitError]) -> None:
    nearest = next(each for each in kind.__mro__ if each in EXPECTED)
    found = exits.meaning_of(kind("why"))
    assert found.code == EXPECTED[nearest]
    assert found.hint == found.hint.strip().removesuffix(".")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_program_ends_with_130(
    tmp_path: Path, person: MakePerson, number: signal.Signals
) -> None:
    with programs.running(tmp_path / "box") as box:
        kiosk = person("kiosk")
        kiosk.ctl("pair", box.unix, "--trust-first-use")
        process = kiosk.popen("--json", "device", "enrol", "--request", "anna")
        assert process.stdout is not None
        process.stdout.readline()  # it waits now
        process.send_signal(number)
        _output, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(said)["error"]["reason"] == "INTERRUPTED"


SURPRISE = """
import threading
from backitctl import __main__, opening
def stumble(settings):
    password = "hunter2"
    raise KeyError(password)
def account_profile(settings):
    thread = threading.Thread(target=stumble, args=(settings,))
    thread.start()
    thread.join()
    stumble(settings)
opening.account_profile = account_profile
__main__.main()
"""


def surprised(
    person: Person, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command that meets what nobody expected, in its own thread and in another."""
    return subprocess.run(
        [str(programs.BIN / "python"), "-c", SURPRISE, *arguments],
        env={**person.variables, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unexpected_error_is_one_line_without_values(person: MakePerson) -> None:
    answer = surprised(person(), "device", "list")
    assert (answer.returncode, answer.stdout) == (1, "")
    warning, line, hint = answer.stderr.splitlines()
    assert warning == "warning: in the background: unexpected KeyError at __main__:6"
    assert line == "backitctl: backitctl device list: unexpected KeyError at __main__:6"
    assert "report" in hint
    assert "--debug" in hint
    found = json.loads(surprised(person(), "--json", "device", "list").stderr.splitlines()[-1])
    assert found["error"]["reason"] == "INTERNAL"


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_traceback_is_shown_to_whoever_asks(person: MakePerson, way: str) -> None:
    if way == "option":
        answer = surprised(person(), "device", "list", "--debug")
    else:
        answer = surprised(person(), "device", "list", BACKIT_DEBUG="1")
    assert answer.returncode == 1
    assert answer.stderr.count("Traceback (most recent call last)") == 2


def test_a_reader_that_leaves_early_is_no_disaster(person: MakePerson) -> None:
    anna = person()
    process = anna.popen("completion", "bash")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(60) in (0, 1)
