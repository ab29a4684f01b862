"""`forget`: move snapshots into the trash."""

from __future__ import annotations

import click

from backit.client import trash
from backit.client.history import History
from backitctl import clock, opening, output
from backitctl.options import Command, Settings


@click.command("forget", cls=Command)
@click.argument("names", metavar="SNAPSHOT...", nargs=-1, required=True)
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...]) -> None:
    """Move snapshots into the trash.

    They stay there for at least 30 days, in which `undelete` takes them out again. Only the person
    can do this: a machine that backs up has no right to.

    Example: backitctl forget 3fa4b2c8
    """
    with opening.person(settings) as person:
        history = History(person.appliance, person.keyring())
        # Every name is looked up before anything is moved: a typing error moves nothing.
        found = {each.id: each for each in map(history.resolve, names)}
        ends = [trash.forget(person, each, now=clock.now()) for each in found]
    moved = [(each.hex, output.iso_time(end)) for each, end in zip(found, ends, strict=True)]
    settings.output.answer(
        {"snapshots": [{"id": name, "trashed": True, "until": end} for name, end in moved]},
        [f"{name[:8]} is in the trash until {end}" for name, end in moved],
    )
