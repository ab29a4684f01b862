"""`diff`: what changed between two snapshots."""

from __future__ import annotations

from collections import Counter

import click

from backit.engine.diff import ChangeKind, changes
from backitctl import opening, output, places
from backitctl.options import Command, Settings

SIGNS = {
    ChangeKind.ADDED: "+",
    ChangeKind.REMOVED: "-",
    ChangeKind.MODIFIED: "M",
    ChangeKind.METADATA: "m",
}


@click.command("diff", cls=Command)
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option(
    "--content-only", is_flag=True, help="Leave out changes of owner, mode, time and the like."
)
@click.pass_obj
def command(settings: Settings, old: str, new: str, *, content_only: bool) -> None:
    """Show what changed between two snapshots.

    A and B are snapshots. Marks: + is only in B, - is only in A, M has other content, m only
    another owner, mode, time or attribute. With --json, one JSON line for each change and one at
    the end.

    Snapshots of two machines share no hashes: there M is what has another size or time.

    Example: backitctl diff 3fa4 latest
    """
    counts: Counter[ChangeKind] = Counter()
    with opening.person(settings) as person, places.opened(person, old, new) as (a, b):
        one_domain = a.snapshot.domain == b.snapshot.domain
        roots, loads = (a.snapshot.root, b.snapshot.root), (a.reader.load, b.reader.load)
        for each in changes(*roots, *loads, one_domain=one_domain):
            if content_only and each.kind is ChangeKind.METADATA:
                continue
            counts[each.kind] += 1
            document = {"event": "change", "change": each.kind.value} | output.path_fields(
                each.path
            )
            settings.output.item(document, f"{SIGNS[each.kind]} {output.shown_path(each.path)}")
    summary = {kind.value: counts[kind] for kind in ChangeKind}
    settings.output.event({"event": "summary"} | summary)
    settings.output.note(", ".join(f"{count} {kind}" for kind, count in summary.items()))
