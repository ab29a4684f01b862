"""`completion`: what a shell has to run so that it completes our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from backitctl.options import Command, Settings

VARIABLE = "_BACKITCTL_COMPLETE"


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands.

    Example: backitctl completion bash > ~/.local/share/bash-completion/completions/backitctl
    """
    settings: Settings = ctx.obj
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not supported")
    source = kind(ctx.find_root().command, {}, "backitctl", VARIABLE).source()
    settings.output.answer({"shell": shell, "source": source}, source.splitlines())
