"""`undelete`: take snapshots out of the trash."""

from __future__ import annotations

import click

from backit.client import trash
from backit.client.history import History
from backit.errors import Invalid
from backitctl import clock, opening
from backitctl.options import Command, Settings


@click.command("undelete", cls=Command)
@click.argument("names", metavar="SNAPSHOT...", nargs=-1, required=True)
@click.pass_obj
def command(settings: Settings, names: tuple[str, ...]) -> None:
    """Take snapshots out of the trash.

    `backitctl snapshots --trashed` lists what is in it.

    Example: backitctl undelete 3fa4b2c8
    """
    with opening.person(settings) as person:
        history = History(person.appliance, person.keyring())
        found = {each.id: each for each in (history.resolve(name, trashed=True) for name in names)}
        for each in found.values():
            if not each.trashed:
                raise Invalid(f"snapshot {each.id.hex[:8]} is not in the trash")
        for snapshot in found:
            trash.undelete(person, snapshot, now=clock.now())
    settings.output.answer(
        {"snapshots": [{"id": each.hex, "trashed": False} for each in found]},
        [f"{each.hex[:8]} is out of the trash" for each in found],
    )
