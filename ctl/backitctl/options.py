"""What every command knows: which profile, and whether a program reads the answer.

`--profile`, `--json` and `--debug` may stand before or behind the command's name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from backit.client import surprise
from backitctl.output import Output

if TYPE_CHECKING:
    from backit.client.home import Home

DEFAULT_PROFILE = "default"


@dataclass(slots=True)
class Settings:
    """The choices that all commands share."""

    profile: str = DEFAULT_PROFILE
    output: Output = field(default_factory=Output)
    # The command that runs, in the words that call it.
    doing: str = "backitctl"

    @property
    def home(self) -> Home:
        """Where this person's files lie."""
        from backit.client.home import Home

        return Home.find(os.environ)


def common_options() -> list[click.Parameter]:
    """Those that every command has, for a group or a command."""
    return [
        click.Option(
            ["--profile"],
            metavar="NAME",
            help="Which account on which appliance, if this person has several.",
            expose_value=False,
            is_eager=True,
            callback=_set_profile,
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help="Answer with one JSON document; JSON lines for progress.",
            expose_value=False,
            is_eager=True,
            callback=_set_json,
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            help="Show where in the program an unexpected error happened, for a report.",
            expose_value=False,
            is_eager=True,
            callback=_set_debug,
        ),
    ]


class Command(click.Command):
    """A command with the shared options."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params = [*self.params, *common_options()]
        self.short_help = first_line(self.help)

    def invoke(self, ctx: click.Context) -> Any:
        settings_of(ctx).doing = ctx.command_path
        return super().invoke(ctx)


class Group(click.Group):
    """A command with commands of its own, which have the shared options."""

    command_class = Command

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.short_help = first_line(self.help)


def first_line(text: str | None) -> str:
    """What a help text says in one line."""
    return (text or "").partition("\n")[0].strip()


def settings_of(ctx: click.Context) -> Settings:
    found: Settings = ctx.find_root().ensure_object(Settings)
    return found


def _set_profile(ctx: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        settings_of(ctx).profile = value


def _set_json(ctx: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        settings_of(ctx).output.as_json = True


def _set_debug(_ctx: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        os.environ[surprise.DEBUG] = "1"  # for the processes that we start, too
