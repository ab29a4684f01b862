"""`stats`: how much is saved, and what it takes."""

from __future__ import annotations

import click

from backit.client.history import History
from backit.v1 import accounts_pb2
from backitctl import opening, output
from backitctl.options import Command, Settings


@click.command("stats", cls=Command)
@click.pass_obj
def command(settings: Settings) -> None:
    """Show how much is saved and stored.

    "Saved" counts every snapshot in full, "stored" is what they take together on the appliance.

    Example: backitctl stats
    """
    with opening.person(settings) as person:
        found = History(person.appliance, person.keyring()).all(trashed=True)
        account = person.appliance.accounts.GetAccount(accounts_pb2.GetAccountRequest())
    kept = [each for each in found if not each.trashed]
    saved = sum(each.body.totals.bytes for each in kept)
    sent = sum(each.body.totals.stored_bytes for each in kept)
    new = sum(each.body.totals.new_bytes for each in kept)
    document = {
        "snapshots": len(kept),
        "trashed": len(found) - len(kept),
        "devices": len({each.device for each in kept}),
        "saved_bytes": saved,
        "saved_files": sum(each.body.totals.files for each in kept),
        "new_bytes": new,
        "sent_bytes": sent,
        "stored_bytes": account.stored_bytes,
    }
    settings.output.answer(
        document,
        [
            f"snapshots  {len(kept)}, and {len(found) - len(kept)} in the trash",
            f"saved      {output.shown_size(saved)} in {document['saved_files']} files",
            f"new        {output.shown_size(new)} before compression",
            f"sent       {output.shown_size(sent)}",
            f"stored     {output.shown_size(account.stored_bytes)}",
        ],
    )
