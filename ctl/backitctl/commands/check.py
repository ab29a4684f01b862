"""`check`: whether everything that was saved is still there, and whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from backit.client.check import Check
from backit.client.history import History
from backitctl import exits, opening, output
from backitctl.options import Command, Settings
from backitctl.progress import ProgressView, Standing

if TYPE_CHECKING:
    from backit.client.check import Finding


class Share(click.ParamType[float]):
    """A part of the whole: "10" or "10%"."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Percent as a share of one."""
        try:
            percent = float(str(value).removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= 100:  # also refuses what is no number
            self.fail(f"{value!r} is not between 0 and 100", param, ctx)
        return percent / 100


@click.command("check", cls=Command)
@click.option(
    "--read-data",
    type=Share(),
    is_flag=False,
    flag_value="100",
    default="0",
    metavar="[=PERCENT]",
    help="Also fetch and open the content: all of it, or a random part (else a small sample).",
)
@click.pass_obj
def command(settings: Settings, read_data: float) -> int:
    """Prove that the backups are whole.

    Opens every snapshot and every folder in them, follows each series from its first snapshot to
    its last, and asks the appliance whether all content is there; a sample shows whether it says
    the truth. What is damaged is named, with the paths that need it. Ends with 1 if anything is.

    Example: backitctl check --read-data=5%
    """
    count = 0
    with opening.person(settings) as person:
        keyring = person.keyring()
        check = Check(person.appliance, keyring, History(person.appliance, keyring))
        with ProgressView(settings.output, lambda: _standing(check)):
            for finding in check.run(read_data):
                count += 1
                _show(settings, finding)
    done = _standing(check)
    settings.output.event({"event": "summary", "findings": count} | done.document)
    settings.output.line(f"{done.line}: {f'findings: {count}' if count else 'all whole'}")
    return exits.FAILED if count else exits.DONE


def _standing(check: Check) -> Standing:
    now = check.progress
    document = {
        "snapshots": now.snapshots,
        "nodes": now.nodes,
        "chunks": now.chunks,
        "opened_bytes": now.opened_bytes,
    }
    line = (
        f"{now.snapshots} snapshots, {now.nodes} nodes, {now.chunks} chunks, "
        f"{output.shown_size(now.opened_bytes)} of content opened"
    )
    return Standing(document, line)


def _show(settings: Settings, finding: Finding) -> None:
    document = {
        "event": "finding",
        "kind": finding.kind,
        "name": finding.name,
        "why": finding.why,
        "paths": [output.path_fields(path) for path in finding.paths],
        "more_paths": finding.more_paths,
    }
    lines = [f"{finding.kind} {finding.name}: {output.printable(finding.why)}"]
    lines += [f"    {output.shown_path(path)}" for path in finding.paths]
    if finding.more_paths:
        lines.append(f"    and {finding.more_paths} more")
    settings.output.item(document, "\n".join(lines))
