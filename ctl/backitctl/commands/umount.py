"""`umount`: take a mount away."""

from __future__ import annotations

import os
from pathlib import Path

import click

from backitctl import mounting
from backitctl.interrupts import INTERRUPTS
from backitctl.options import Command, Settings


@click.command("umount", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.pass_obj
def command(settings: Settings, folder: Path) -> None:
    """Unmount what `mount` has mounted.

    Also cleans up after a mount whose program has died.

    Example: backitctl umount /mnt/backups
    """
    arguments = ["--", os.fspath(folder)]
    with mounting.Launch("umount", arguments, takes_login=False) as launch:
        done = launch.finish()
    with INTERRUPTS.at_once():
        done.process.wait()
    settings.output.answer({"unmounted": done.answer["unmounted"]})
