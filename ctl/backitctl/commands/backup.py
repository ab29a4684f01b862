"""`backup`: save files and folders."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backit import process
from backit.client.excludes import Excludes
from backit.client.reading_host import ReadingHost
from backitctl import exits, output
from backitctl.options import Command, Settings
from backitctl.progress import ProgressView, Standing

if TYPE_CHECKING:
    from backit.client.backup import Backup, Result

SHOWN_PROBLEMS = 100


@click.command("backup", cls=Command)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True))
@click.option(
    "--exclude",
    "patterns",
    metavar="P",
    multiple=True,
    help="Leave out: a name or pattern as in .gitignore, or a whole path.",
)
@click.option(
    "--exclude-from",
    "files",
    metavar="F",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Leave out what the patterns in this file say.",
)
@click.option("--one-file-system", is_flag=True, help="Do not cross into other file systems.")
@click.option("--tag", "tags", metavar="T", multiple=True, help="A word to find the snapshot by.")
@click.option("--dry-run", is_flag=True, help="Only say what would be saved.")
@click.pass_obj
def command(  # noqa: PLR0913 - one for each option
    settings: Settings,
    paths: tuple[str, ...],
    patterns: tuple[str, ...],
    files: tuple[Path, ...],
    tags: tuple[str, ...],
    *,
    one_file_system: bool,
    dry_run: bool,
) -> int:
    """Save files and folders.

    Needs no password: this machine must be a device of the account. What was saved before is not
    sent again, and a run that was interrupted goes on with what is missing. Caches that say so
    (CACHEDIR.TAG) are left out.

    What --exclude leaves out is written as in .gitignore: *.o is of that name anywhere, build/ a
    folder of that name anywhere, a/b is relative to PATH, !keep.o is saved after all. But with a
    slash at the start it is a whole path: /home/*/.cache. The last one that fits counts.

    Ends with 3 if a file could not be saved, or not whole; everything else is saved then.

    Example: backitctl backup /home /etc --exclude '*.o' --tag weekly
    """
    process.tune_memory()
    with contextlib.ExitStack() as stack:
        # It starts while this process imports what takes longest, and logs in.
        reading = None if dry_run else stack.enter_context(ReadingHost())
        from backit.client.backup import Backup, Label, Source
        from backitctl import opening

        source = Source(
            tuple(os.fsencode(Path(path).absolute()) for path in paths),
            Excludes.of(patterns, files),
            one_file_system=one_file_system,
        )
        appliance, keys, book = stack.enter_context(opening.device(settings))
        folder = settings.home.cache_folder(settings.profile)
        workers = os.cpu_count() or 2
        backup = Backup(appliance, keys, book, source, folder, workers=workers)
        with ProgressView(settings.output, lambda: _standing(backup)):
            if dry_run:
                result = backup.dry_run()
            else:
                result = backup.run(Label(socket.gethostname(), _program(), tags), reading)
    _report_problems(settings, result)
    settings.output.event(_document(result, dry_run=dry_run))
    for line in _lines(result, dry_run=dry_run):
        settings.output.line(line)
    return exits.PARTLY if result.problems.failure_count else exits.DONE


def _program() -> str:
    from importlib import metadata

    return f"backitctl {metadata.version('backit')}"


def _standing(backup: Backup) -> Standing:
    counts, sent = backup.progress.counts, backup.progress.sent
    document = {
        "files": counts.files,
        "bytes": counts.content_bytes,
        "changed_files": counts.changed_files,
        "stored_bytes": sent.stored_bytes,
    }
    line = (
        f"{counts.files} files, {output.shown_size(counts.content_bytes)}, "
        f"{counts.changed_files} new or changed, {output.shown_size(sent.stored_bytes)} sent"
    )
    if counts.path:
        line += "  " + output.shown_path(b"/" + counts.path.replace(b"\0", b"/"))
    return Standing(document, line)


def _report_problems(settings: Settings, result: Result) -> None:
    problems = result.problems
    for path, why in problems.failures[:SHOWN_PROBLEMS]:
        settings.output.warning(
            f"{output.shown_path(path)}: {output.printable(why)}",
            {"event": "failed", "why": why} | output.path_fields(path),
        )
    if problems.failure_count > SHOWN_PROBLEMS:
        settings.output.note(f"warning: and {problems.failure_count - SHOWN_PROBLEMS} more")
    for path, why in problems.skips[:SHOWN_PROBLEMS]:
        settings.output.note(f"{output.shown_path(path)}: {output.printable(why)}")
    for text in result.turned_back:
        settings.output.warning(text, {"event": "turned_back"})


def _document(result: Result, *, dry_run: bool) -> dict[str, Any]:
    totals = result.totals
    return {
        "event": "summary",
        "dry_run": dry_run,
        "snapshot": result.snapshot.hex if result.snapshot else None,
        "entries": totals.entries,
        "files": totals.files,
        "bytes": totals.bytes,
        "changed_files": totals.changed_files,
        "new_bytes": totals.new_bytes,
        "stored_bytes": totals.stored_bytes,
        "failed": result.problems.failure_count,
        "skipped": result.problems.skip_count,
    }


def _lines(result: Result, *, dry_run: bool) -> list[str]:
    totals = result.totals
    lines = [
        f"files     {totals.files}, {output.shown_size(totals.bytes)}",
        f"changed   {totals.changed_files}, {output.shown_size(totals.new_bytes)} new",
    ]
    if dry_run:
        return [*lines, "nothing was saved: this was a dry run"]
    lines.append(f"sent      {output.shown_size(totals.stored_bytes)}")
    if result.problems.failure_count:
        lines.append(f"failed    {result.problems.failure_count}")
    name = result.snapshot.hex if result.snapshot else "none"
    return [*lines, f"snapshot  {name[:8]}"]
