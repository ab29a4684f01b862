"""`cat`: a file of a snapshot, on standard output."""

from __future__ import annotations

import click

from backit.errors import Invalid
from backit.format.v1 import tree_pb2 as pb
from backitctl import opening, output, places
from backitctl.options import Command, Settings
from backitctl.places import Place


@click.command("cat", cls=Command)
@click.argument("place", metavar="SNAPSHOT:PATH")
@click.pass_obj
def command(settings: Settings, place: str) -> None:
    """Write a file of a snapshot to standard output.

    Every byte has been checked before it is written; a damaged file ends early, with an error.

    Example: backitctl cat latest:/etc/fstab
    """
    where = Place.parse(place)
    if not where.components:
        raise click.UsageError("which file? SNAPSHOT:PATH")
    with opening.person(settings) as person, places.opened(person, where.snapshot) as (snapshot,):
        found = snapshot.lookup(where.components)
        if found.entry.type != pb.FILE_TYPE_REGULAR:
            kind = places.TYPES[found.entry.type]
            raise Invalid(f"{output.shown_path(found.path)} is a {kind}, not a file")
        for piece in snapshot.reader.content(found):
            settings.output.raw(piece)
