"""The command tree, and the way out of the program.

A command is imported when it is run, so `--help` and `backup` start fast: the table below has each
one's first line of help, and the file in `commands` has the rest. Nothing is decided here.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, MutableMapping

import click
from click.shell_completion import CompletionItem

from backit import process
from backitctl import exits
from backitctl.interrupts import INTERRUPTS
from backitctl.options import Group, common_options

# Name -> first line of its help, as it stands in commands/NAME.py.
COMMANDS = {
    "admin": "Manage an appliance, on the appliance itself.",
    "backup": "Save files and folders.",
    "cat": "Write a file of a snapshot to standard output.",
    "check": "Prove that the backups are whole.",
    "completion": "Print what makes a shell complete commands.",
    "device": "Manage the machines of an account.",
    "diff": "Show what changed between two snapshots.",
    "find": "Search snapshots for file names.",
    "forget": "Move snapshots into the trash.",
    "keys": "Manage the keys of an account.",
    "login": "Keep an account open on this machine.",
    "logout": "Close the account that login opened.",
    "ls": "List a folder of a snapshot.",
    "mount": "Show snapshots as a folder.",
    "pair": "Meet an appliance and pin its certificate.",
    "password": "Change the password.",
    "recovery-kit": "Print a recovery kit, or get back in with one.",
    "restore": "Bring files back from a snapshot.",
    "signup": "Make an account on the paired appliance.",
    "snapshots": "List the snapshots.",
    "stats": "Show how much is saved and stored.",
    "status": "Show how the appliance stands.",
    "umount": "Unmount what `mount` has mounted.",
    "undelete": "Take snapshots out of the trash.",
    "whoami": "Show who this machine is to the appliance.",
}


class Commands(MutableMapping[str, click.Command]):
    """The commands by name, imported when they are looked up."""

    def __init__(self) -> None:
        self._added: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name in COMMANDS and name not in self._added:
            module = importlib.import_module(f"backitctl.commands.{name.replace('-', '_')}")
            self._added[name] = module.command
        return self._added[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._added[name] = command

    def __delitem__(self, name: str) -> None:
        del self._added[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(COMMANDS))

    def __len__(self) -> int:
        return len(COMMANDS)


class Tree(Group):
    """A group whose help and completion need none of its commands."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text)
            for name, text in sorted(COMMANDS.items())
            if name.startswith(incomplete)
        ]


@click.group(
    cls=Tree,
    commands=Commands(),
    params=common_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="backit", message="backitctl %(version)s")
def tree() -> None:
    """Backups that only you can read.

    A new person: pair with the appliance, sign up, back up. See `backitctl COMMAND --help`.

    BACKIT_HOME names a folder for everything this program keeps. BACKIT_PASSWORD_FILE or
    BACKIT_PASSWORD_COMMAND answers when the password is asked for, BACKIT_NEW_PASSWORD_FILE or
    BACKIT_NEW_PASSWORD_COMMAND when a new one is. BACKIT_DEBUG=1 is the same as --debug.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some files were not saved or restored
    whole, 4 refused, 5 appliance out of reach, 130 interrupted.

    Example: backitctl backup /home
    """


def main() -> None:
    """Run one command and end with its exit code."""
    for failure in process.harden():
        print(f"warning: {failure}", file=sys.stderr)
    # gRPC writes of handshakes that fail; people get our own words for that.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    INTERRUPTS.listen()
    sys.exit(exits.run(tree))


if __name__ == "__main__":
    main()
