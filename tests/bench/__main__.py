"""`make bench`: compares BackIT with restic (+ rest-server) and borg, and prints a table.

Arguments, signals, the work folder and printing; nothing else. Progress goes to standard error,
the table to standard output. Exit status: 0 compared (whatever the goals), 1 failed, 2 wrong
usage, 130 interrupted; what was measured before a failure is shown and written all the same.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench import datasets, report
from tests.bench.compare import Plan, Results, compare
from tests.bench.machine import Machine
from tests.bench.peers import PEERS, BackIT, binaries_of, install_peers
from tests.bench.processes import INTERRUPTIONS, BenchError
from tests.bench.rows import ROWS

_CHECKOUT = Path(__file__).resolve().parents[2]
# One data set, its repositories, and what was restored and copied of the small files in all runs.
_DISK_NEEDED = 28 * datasets.GIB
_DISK_NEEDED_SMALL = datasets.GIB


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    # Set here because a shell starts background jobs with SIGINT ignored.
    for number in INTERRUPTIONS:
        signal.signal(number, signal.default_int_handler)
    results = Results([], [])
    conditions: report.Conditions | None = None
    status = 0
    try:
        with _work_folder(options.work_dir) as work:
            plan = _plan(options, work)
            conditions = _conditions(plan)
            compare(plan, results, _say)
    except BenchError as error:
        _say(str(error))
        status = 1
    except KeyboardInterrupt:
        _say("interrupted")
        status = 130
    if conditions is not None and results.samples:
        _publish(conditions, results, options.json)
    return status


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    rows = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows, metavar="ROW",
                        help=f"rows to measure (default: all of {' '.join(rows)})")  # fmt: skip
    parser.add_argument("--tools", nargs="+", choices=list(PEERS), default=list(PEERS),
                        metavar="TOOL", help=f"of {' '.join(PEERS)} (default: all)")  # fmt: skip
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each row (default: 3)")
    parser.add_argument("--small", action="store_true", help="a twentieth of the data: a trial run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single run here")
    parser.add_argument("--peers-dir", type=Path, default=Path.home() / ".cache/backup-peers",
                        metavar="DIR", help="where restic and borg are or will be installed "
                        "(default: ~/.cache/backup-peers)")  # fmt: skip
    parser.add_argument("--work-dir", type=Path, default=_CHECKOUT / "build", metavar="DIR",
                        help="data and repositories go to a new folder in here, removed at the end "
                        "(default: build in the checkout)")  # fmt: skip
    options = parser.parse_args(argv)
    if options.runs < 1:
        parser.error("--runs: at least one")
    return options


@contextmanager
def _work_folder(parent: Path) -> Generator[Path]:
    new = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=parent)).resolve()
    try:
        yield work
    finally:
        # From here on nothing may keep us from leaving the disk as it was.
        for number in INTERRUPTIONS:
            signal.signal(number, signal.SIG_IGN)
        datasets.remove(work)
        for folder in new:
            if not any(folder.iterdir()):
                folder.rmdir()


def _plan(options: argparse.Namespace, work: Path) -> Plan:
    if missing := [name for name in ("rsync", "tar", "cp") if not shutil.which(name)]:
        raise BenchError(f"not installed: {', '.join(missing)}")
    needed = _DISK_NEEDED_SMALL if options.small else _DISK_NEEDED
    if (free := shutil.disk_usage(work).free) < needed:
        raise BenchError(f"{work}: {free >> 30} GiB free, {needed >> 30} GiB needed")
    # In the order of the tables, whatever the order on the command line.
    tools = [name for name in PEERS if name in options.tools]
    if tools != [BackIT.name]:
        _say(f"looking for the peers in {options.peers_dir}")
        install_peers(options.peers_dir.absolute())
    return Plan(
        rows=[row for row in ROWS if row.name in options.rows],
        tools=tools,
        runs=options.runs,
        small=options.small,
        work=work,
        peers_folder=options.peers_dir.absolute(),
    )


def _conditions(plan: Plan) -> report.Conditions:
    return report.Conditions(
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        small=plan.small,
        machine=Machine.look(plan.work),
        tools=[PEERS[name].facts(binaries_of(name, plan.peers_folder)) for name in plan.tools],
    )


def _publish(conditions: report.Conditions, results: Results, file: Path | None) -> None:
    lines = report.summarise(results.samples)
    print(report.table(lines))
    print()
    print(report.legend(conditions, results))
    if file is not None:
        document = report.document(conditions, results, lines)
        file.write_text(json.dumps(document, indent=2) + "\n")
        _say(f"wrote {file}")


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
