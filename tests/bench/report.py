"""What came out: medians, ratios to restic, the goals; as a table and as a document.

Values in, text and plain values out; nothing is measured, read or printed here.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from tests.bench.compare import Results, Sample
from tests.bench.machine import Machine
from tests.bench.peers import Facts
from tests.bench.rows import ROWS, Row

REFERENCE = "restic"
CONTENDER = "backit"
_MIB = 1 << 20
_TRIAL = "A trial run on a twentieth of the data: starting up weighs most, goals mean nothing."
_NOTES = """\
Medians. CPU: client and server together. Others: CPU that all else on the machine burnt meanwhile;
stolen: time for which the host of this virtual machine kept cores waiting; disk: what was read from
disks although data and repository had been read just before the run, to be in the page cache. A row
where one of them is much was disturbed. Memory: the peak of each process. Repo: blocks on disk. The
two ratios: against restic. The disk was synced before each run. Restores end when they are on disk:
for restic and borg, which do not see to that, `sync --file-system` is a part of the run. They were
compared with their source in the first run."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was compared on what; `started` is a date in UTC."""

    started: str
    small: bool
    machine: Machine
    tools: Sequence[Facts]


@dataclass(frozen=True, slots=True)
class Line:
    """Medians of the runs of one tool in one row: seconds, bytes.

    `speed` is restic's wall time divided by this tool's, `repository_ratio` this tool's repository
    divided by restic's; None where restic, or that figure, was not measured.
    """

    row: str
    tool: str
    runs: int
    wall: float
    cpu: float
    client_peak: float
    server_peak: float | None
    repository: float | None
    other_cpu: float
    stolen: float
    disk_read: float
    speed: float | None
    repository_ratio: float | None
    goal: str


def summarise(samples: Sequence[Sample]) -> list[Line]:
    """One line for each row and tool that was measured at least once."""
    return [
        _line(row, tool, samples)
        for row in ROWS
        for tool in dict.fromkeys(sample.tool for sample in samples if sample.row == row.name)
    ]


def table(lines: Sequence[Line]) -> str:
    """The lines as aligned text, a blank line between the rows."""
    head = (
        *("row", "tool", "runs", "wall s", "CPU s", "others s", "stolen s"),
        *("disk MiB", "client MiB", "server MiB", "repo MiB", "speed", "repo", "goal"),
    )
    cells = [
        (
            line.row,
            line.tool,
            str(line.runs),
            f"{line.wall:.2f}",
            f"{line.cpu:.2f}",
            f"{line.other_cpu:.2f}",
            f"{line.stolen:.2f}",
            _mib(line.disk_read),
            _mib(line.client_peak),
            _mib(line.server_peak),
            _mib(line.repository),
            _ratio(line.speed),
            _ratio(line.repository_ratio),
            line.goal,
        )
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    text: list[str] = []
    previous = head[0]
    for row in (head, *cells):
        if row[0] != previous:
            text.append("")
        previous = row[0]
        text.append("  ".join(_aligned(row, widths)).rstrip())
    return "\n".join(text)


def legend(conditions: Conditions, results: Results) -> str:
    """What one must know to read the table."""
    machine = conditions.machine
    text = [_TRIAL] if conditions.small else []
    text += [
        _NOTES,
        f"Machine: {machine.cpu}, {machine.cores} cores, {machine.memory / (1 << 30):.1f} GiB",
        f"  {machine.system}, Linux {machine.kernel}, {machine.file_system}",
    ]
    for tool in conditions.tools:
        text += [f"{tool.name}: {tool.version}", f"  {tool.settings}", f"  {tool.durable}"]
    text += [
        f"Data {made.name}: {made.files} files, {made.size / 1e6:.0f} MB; {made.origin}"
        for made in results.data_sets
    ]
    return "\n".join(text)


def document(conditions: Conditions, results: Results, lines: Sequence[Line]) -> dict[str, object]:
    """Everything, every single run included, as plain values for JSON."""
    return {
        **asdict(conditions),
        "data_sets": [
            {"name": made.name, "files": made.files, "bytes": made.size, "origin": made.origin}
            for made in results.data_sets
        ],
        "runs": [asdict(sample) for sample in results.samples],
        "medians": [asdict(line) for line in lines],
    }


def _line(row: Row, tool: str, samples: Sequence[Sample]) -> Line:
    mine = _of(samples, row, tool)
    reference = _of(samples, row, REFERENCE)
    wall = _median(mine, lambda sample: sample.usage.wall)
    repository = _median(mine, lambda sample: sample.repository)
    assert wall is not None
    reference_wall = _median(reference, lambda sample: sample.usage.wall)
    reference_repository = _median(reference, lambda sample: sample.repository)
    speed = reference_wall and reference_wall / wall
    repository_ratio = reference_repository and repository and repository / reference_repository
    return Line(
        row=row.name,
        tool=tool,
        runs=len(mine),
        wall=wall,
        cpu=statistics.median(s.usage.client_cpu + s.usage.server_cpu for s in mine),
        client_peak=statistics.median(s.usage.client_peak for s in mine),
        server_peak=_median(mine, lambda sample: sample.usage.server_peak),
        repository=repository,
        other_cpu=statistics.median(s.usage.other_cpu for s in mine),
        stolen=statistics.median(s.usage.stolen for s in mine),
        disk_read=statistics.median(s.usage.disk_read for s in mine),
        speed=speed,
        repository_ratio=repository_ratio,
        goal=_goal(row, tool, wall, speed, repository_ratio, _own_restore(row, samples)),
    )


def _of(samples: Sequence[Sample], row: Row, tool: str) -> list[Sample]:
    return [sample for sample in samples if (sample.row, sample.tool) == (row.name, tool)]


def _median(samples: Sequence[Sample], figure: Callable[[Sample], float | None]) -> float | None:
    known = [value for value in map(figure, samples) if value is not None]
    return statistics.median(known) if known else None


def _own_restore(row: Row, samples: Sequence[Sample]) -> float | None:
    """How long BackIT took to restore the same data."""
    mine = [
        sample
        for sample in samples
        if (sample.row, sample.tool) == (f"restore-{row.data_set}", CONTENDER)
    ]
    return _median(mine, lambda sample: sample.usage.wall)


def _goal(
    row: Row,
    tool: str,
    wall: float,
    speed: float | None,
    repository_ratio: float | None,
    restored: float | None,
) -> str:
    """For the contender whether it has reached its goals, for restic what they are."""
    if tool == REFERENCE:
        return _wanted(row)
    if tool != CONTENDER:
        return ""
    verdicts: list[str] = []
    if row.seconds is not None:
        verdicts.append(f"{row.seconds:g} s {_verdict(row.seconds / wall, 1, None)}")
    if row.restore_share is not None and restored is not None:
        share = restored / wall
        verdicts.append(f"{share:.2f}x of its restore: {_verdict(share, row.restore_share, None)}")
    if row.goal is not None and speed is not None:
        verdicts.append(_verdict(speed, row.goal, row.floor))
    if repository_ratio is not None:
        # A smaller repository is the better one: compare what restic needs for each byte of it.
        goal = row.repository_goal or row.repository_floor
        floor = row.repository_floor
        assert goal is not None
        verdict = _verdict(1 / repository_ratio, 1 / goal, floor and 1 / floor)
        verdicts.append(f"repo {verdict}")
    return ", ".join(verdicts)


def _wanted(row: Row) -> str:
    if row.restore_share is not None:
        return f"BackIT: {row.restore_share:g}x of its own restore"
    wanted = f"BackIT: {row.goal:g}x"
    if row.repository_goal is not None:
        wanted += f", repo {row.repository_goal:g}x"
    return wanted


def _verdict(figure: float, goal: float, floor: float | None) -> str:
    if figure >= goal:
        return "reached"
    return "BELOW FLOOR" if floor is not None and figure < floor else "missed"


def _mib(size: float | None) -> str:
    return "-" if size is None else f"{size / _MIB:.0f}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    # Words to the left, figures to the right; the goal, last, is words again.
    words = {0, 1, len(row) - 1}
    return [
        cell.ljust(width) if place in words else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
