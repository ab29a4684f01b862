"""`ls`: what is in a folder of a snapshot."""

from __future__ import annotations

import click

from backit.engine import walk
from backit.format.v1 import tree_pb2 as pb
from backitctl import opening, output, places
from backitctl.options import Command, Settings
from backitctl.places import Place


@click.command("ls", cls=Command)
@click.argument("place", metavar="SNAPSHOT[:PATH]")
@click.option("-r", "--recursive", is_flag=True, help="Also everything below.")
@click.pass_obj
def command(settings: Settings, place: str, *, recursive: bool) -> None:
    """List a folder of a snapshot.

    Without PATH, the root.

    Example: backitctl ls latest:/home/anna
    """
    where = Place.parse(place)
    with opening.person(settings) as person, places.opened(person, where.snapshot) as (snapshot,):
        root, load = snapshot.snapshot.root, snapshot.reader.load
        directory = places.inside(where.components)
        one = snapshot.lookup(where.components) if where.components else None
        if one is not None and one.entry.type != pb.FILE_TYPE_DIRECTORY:
            found = iter((one,))
        elif recursive:
            found = walk.walk(root, load, directory)
        else:
            found = walk.listing(root, load, directory)
        if settings.output.as_json:
            settings.output.answer({"entries": [places.document_of(each) for each in found]})
        elif recursive:
            # Of any length, so it is not held back to align the columns.
            for each in found:
                settings.output.line("  ".join(places.row_of(each, each.path)))
        else:
            rows = [places.row_of(each, each.entry.name) for each in found]
            settings.output.answer({}, output.columns(rows, right=(3,)))
