"""`snapshots`: list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from backit.client.history import History
from backitctl import clock, exits, opening, output
from backitctl.options import Command, Settings

if TYPE_CHECKING:
    from backit.client.history import Snapshot


@click.command("snapshots", cls=Command)
@click.option("--trashed", is_flag=True, help="Also those in the trash.")
@click.option("--device", metavar="NAME", help="Only those of this machine.")
@click.option("--tag", metavar="TAG", help="Only those with this tag.")
@click.pass_obj
def command(settings: Settings, *, trashed: bool, device: str | None, tag: str | None) -> int:
    """List the snapshots.

    Newest last. A snapshot is named by the beginning of its id, by `latest`, or by `latest@DEVICE`.

    Example: backitctl snapshots --device laptop
    """
    with opening.person(settings) as person:
        found, broken = History(person.appliance, person.keyring()).readable(trashed=trashed)
        chosen = person.ledger.find_device(device) if device else None
    if chosen is not None:
        found = [each for each in found if each.device == chosen]
    if tag is not None:
        found = [each for each in found if tag in each.body.tags]
    head = ("ID", "TIME", "DEVICE", "FILES", "SIZE", "NEW", "STATE", "PATHS", "TAGS")
    rows = [head, *(_row(each) for each in found)]
    settings.output.answer(
        {"snapshots": [document_of(each) for each in found]}, output.columns(rows, right=(3, 4, 5))
    )
    for name, error in broken:
        settings.output.note(f"warning: {name}: {output.printable(str(error))}")
    return exits.FAILED if broken else exits.DONE


def _row(each: Snapshot) -> tuple[str, ...]:
    totals = each.body.totals
    state = "trashed" if each.trashed else "whole" if each.complete else "partial"
    return (
        each.id.hex[:8],
        output.shown_time(each.body.started / clock.NANO),
        output.printable(each.label),
        str(totals.files),
        output.shown_size(totals.bytes),
        output.shown_size(totals.stored_bytes),
        state,
        " ".join(output.shown_path(path) for path in each.body.sources),
        " ".join(output.printable(tag) for tag in each.body.tags),
    )


def document_of(each: Snapshot) -> dict[str, Any]:
    """A snapshot for programs."""
    totals = each.body.totals
    return {
        "id": each.id.hex,
        "device": each.device.hex,
        "label": each.label,
        "series": each.series.hex,
        "number": each.counter,
        "previous": each.previous.hex if each.previous else None,
        "started": output.iso_time(each.body.started / clock.NANO),
        "ended": output.iso_time(each.body.ended / clock.NANO),
        "received": output.iso_time(each.received),
        "complete": each.complete,
        "trashed": each.trashed,
        "sources": [output.path_fields(path) for path in each.body.sources],
        "tags": list(each.body.tags),
        "host": each.body.host,
        "program": each.body.program,
        "entries": totals.entries,
        "files": totals.files,
        "bytes": totals.bytes,
        "changed_files": totals.changed_files,
        "new_bytes": totals.new_bytes,
        "stored_bytes": totals.stored_bytes,
        "failed_files": totals.failed_files,
    }
