"""`restore`: bring files back."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backit import process
from backit.client.outcome import RestoreOptions
from backit.client.restore import Restore
from backit.engine.plan import Action, Overwrite
from backitctl import exits, opening, output, places
from backitctl.interrupts import INTERRUPTS
from backitctl.options import Command, Settings
from backitctl.places import Place
from backitctl.progress import ProgressView, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backit.client.outcome import Note, RestoreResult
    from backitctl.output import Output

SHOWN_NOTES = 100
WORDS = {
    Action.MAKE: "made",
    Action.REPLACE: "replaced",
    Action.METADATA: "set right",
    Action.LINK: "linked",
    Action.KEEP: "kept",
    Action.NOTHING: "as they were",
}


@click.command("restore", cls=Command)
@click.argument("place", metavar="SNAPSHOT[:PATH]")
@click.option(
    "--to",
    "target",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to; made if it is not there.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--overwrite",
    type=click.Choice([each.value for each in Overwrite]),
    default=Overwrite.OLDER.value,
    show_default=True,
    help="Which files that are there and differ are replaced.",
)
@click.option("--numeric-ids", is_flag=True, help="Owners by number, not by name.")
@click.option("--verify", is_flag=True, help="Read files that look unchanged, to be sure.")
@click.pass_obj
def command(  # noqa: PLR0913 - one for each option
    settings: Settings,
    place: str,
    target: Path,
    *,
    dry_run: bool,
    overwrite: str,
    numeric_ids: bool,
    verify: bool,
) -> int:
    """Bring files back from a snapshot.

    Fills DIR with what PATH holds, or with the whole snapshot; a single file goes into DIR under
    its own name. What is there already and equal is left alone, so a restore that was interrupted
    goes on. Nothing is deleted. Files that are newer than the snapshot's are kept unless
    --overwrite says "always".

    Ends with 3 if a file could not be restored whole, or was kept. No file is ever left half
    written.

    Example: backitctl restore latest:/home/anna --to /tmp/anna
    """
    process.tune_memory()
    where = Place.parse(place)
    options = RestoreOptions(
        dry_run=dry_run,
        overwrite=Overwrite(overwrite),
        numeric_ids=numeric_ids,
        verify=verify,
    )
    tale = Tale()
    with (
        opening.person(settings) as person,
        places.opened(person, where.snapshot) as (found,),
    ):
        restore = Restore(
            found.snapshot.root,
            found.reader.load,
            found.reader,
            person.keyring().domain(found.snapshot.domain),
            subtree=where.components,
            target=target.absolute(),
            options=options,
            progress=tale,
            stop=INTERRUPTS.stop,
        )
        with ProgressView(settings.output, tale.standing):
            result = restore.run()
    _report(settings.output, result)
    settings.output.event(_document(result, dry_run=dry_run))
    for line in _lines(result, dry_run=dry_run):
        settings.output.line(line)
    return exits.DONE if result.is_whole else exits.PARTLY


@dataclass(slots=True)
class Tale:
    """What a restore has told so far; told from several threads, read from another."""

    actions: Counter[Action] = field(default_factory=Counter[Action])
    written: int = 0
    problems: int = 0
    path: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, path: bytes, action: Action, size: int) -> None:
        with self.lock:
            self.actions[action] += 1
            self.written += size
            self.path = path

    def failed(self, path: bytes, why: str) -> None:  # noqa: ARG002 - the result has the reasons
        with self.lock:
            self.problems += 1
            self.path = path

    kept = warned = failed

    def standing(self) -> Standing:
        with self.lock:
            entries, written, problems = self.actions.total(), self.written, self.problems
            path = self.path
        document = {"entries": entries, "written_bytes": written, "problems": problems}
        line = f"{entries} entries, {output.shown_size(written)} written"
        return Standing(document, f"{line}  {output.shown_path(path)}")


def _report(out: Output, result: RestoreResult) -> None:
    groups: list[tuple[str, Sequence[Note], int]] = [
        ("failed", result.failures, result.failed),
        ("kept", result.keeps, result.kept),
        ("warned", result.warnings, result.warned),
    ]
    for event, notes, count in groups:
        for note in notes[:SHOWN_NOTES]:
            out.warning(
                f"{output.shown_path(note.path)}: {output.printable(note.why)}",
                {"event": event, "why": note.why} | output.path_fields(note.path),
            )
        if count > SHOWN_NOTES:
            out.note(f"warning: and {count - SHOWN_NOTES} more")


def _document(result: RestoreResult, *, dry_run: bool) -> dict[str, Any]:
    return {
        "event": "summary",
        "dry_run": dry_run,
        "actions": {action.value: count for action, count in result.actions.items()},
        "written_bytes": result.written,
        "failed": result.failed,
        "kept": result.kept,
        "warned": result.warned,
    }


def _lines(result: RestoreResult, *, dry_run: bool) -> list[str]:
    done = ", ".join(f"{count} {WORDS[action]}" for action, count in result.actions.items())
    lines = [f"entries   {done or 'none'}", f"written   {output.shown_size(result.written)}"]
    if result.failed:
        lines.append(f"failed    {result.failed}")
    if result.kept:
        lines.append(f"kept      {result.kept}")
    if dry_run:
        lines.append("nothing was written: this was a dry run")
    return lines
