"""Fixtures for the command line: a box that runs while a module's tests do, and people at their
machines.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests import programs
from tests.programs import Box, Output, Person

if TYPE_CHECKING:
    from pathlib import Path

MakePerson = Callable[..., Person]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A running appliance where everybody may sign up."""
    with programs.running(tmp_path_factory.mktemp("box")) as found:
        yield found


@pytest.fixture
def person(tmp_path: Path) -> MakePerson:
    """Make people, each with a machine of their own: person("laptop")."""

    def make(machine: str = "home", password: str = "correct horse battery staple") -> Person:
        return Person(tmp_path / machine, password)

    return make


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user name that no other test has."""
    return str(request.node.name)[:50].replace("[", "-").rstrip("]")


@pytest.fixture
def anna(box: Box, person: MakePerson, user: str) -> Person:
    """Somebody who has signed up on the box."""
    found = person()
    found.joins(box.unix, user)
    return found


def type_in(person: Person, typed: str, *arguments: str, expect: int = 0) -> Output:
    """Run backitctl with something on standard input, and without a password in the environment."""
    variables = {k: v for k, v in person.variables.items() if not k.startswith("BACKIT_PASSWORD")}
    done = subprocess.run(
        (str(programs.BACKITCTL), *arguments),
        env=variables,
        input=typed,
        capture_output=True,
        text=True,
        timeout=programs.COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
    return Output(done.returncode, done.stdout, done.stderr)
