"""`find`: where in the snapshots a name occurs."""

from __future__ import annotations

import os
import re
from fnmatch import translate
from typing import TYPE_CHECKING

import click

from backit.client.history import History
from backit.engine import walk
from backitctl import exits, opening, places
from backitctl.options import Command, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command("find", cls=Command)
@click.argument("pattern")
@click.option("--snapshot", "names", metavar="SNAPSHOT", multiple=True, help="Where to search.")
@click.option("--all", "everywhere", is_flag=True, help="Search every snapshot.")
@click.pass_obj
def command(settings: Settings, pattern: str, names: tuple[str, ...], *, everywhere: bool) -> int:
    """Search snapshots for file names.

    PATTERN is a name with *, ? and [...]; with a slash in it, a whole path. Searches the latest
    snapshot unless told otherwise. With --json, one JSON line for each match. Ends with 1 if
    nothing matches.

    Example: backitctl find '*.ods' --all
    """
    if everywhere and names:
        raise click.UsageError("--all and --snapshot exclude each other")
    matches = _matcher(pattern)
    count = 0
    with opening.person(settings) as person:
        if everywhere:
            names = tuple(s.id.hex for s in History(person.appliance, person.keyring()).all())
        with places.opened(person, *(names or ("latest",))) as opened:
            for each in opened:
                name = each.snapshot.id.hex
                for found in walk.walk(each.snapshot.root, each.reader.load):
                    if matches(found):
                        count += 1
                        line = "  ".join((name[:8], *places.row_of(found, found.path)))
                        document = {"snapshot": name} | places.document_of(found)
                        settings.output.item(document, line)
    return exits.DONE if count else exits.FAILED


def _matcher(pattern: str) -> Callable[[walk.Found], bool]:
    """Bytes against bytes: names need not be text."""
    # Latin-1 maps each byte to one character, so any byte can be matched.
    text = os.fsencode(pattern).decode("latin-1")
    expression = re.compile(translate(text))
    if "/" in pattern:
        return lambda found: expression.match(found.path.decode("latin-1")) is not None
    return lambda found: expression.match(found.entry.name.decode("latin-1")) is not None
