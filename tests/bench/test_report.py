"""The table says what was measured: medians, ratios the right way round, honest verdicts."""

import json

import pytest

from tests.bench.compare import Results, Sample
from tests.bench.machine import Machine
from tests.bench.measure import Usage
from tests.bench.peers import Facts
from tests.bench.report import Conditions, document, legend, summarise, table


def _sample(
    tool: str, wall: float, *, row: str = "first-files", run: int = 1, repository: int | None = None
) -> Sample:
    usage = Usage(wall, wall / 2, wall / 4, 100 << 20, 50 << 20, 0.5, 0.25, 7 << 20)
    return Sample(row, tool, run, usage, repository)


def test_figures_are_medians_of_the_runs() -> None:
    samples = [_sample("restic", wall, run=run) for run, wall in enumerate((9.0, 2.0, 4.0), 1)]
    (line,) = summarise(samples)
    assert (line.runs, line.wall, line.cpu) == (3, 4.0, 3.0)
    assert (line.client_peak, line.server_peak) == (100 << 20, 50 << 20)


def test_ratios_above_one_are_faster_and_larger_than_restic() -> None:
    samples = [
        _sample("restic", 12.0, repository=1000),
        _sample("backit", 4.0, repository=1200),
        _sample("borg", 24.0, repository=500),
    ]
    restic, backit, borg = summarise(samples)
    assert (restic.speed, restic.repository_ratio) == (1.0, 1.0)
    assert (backit.speed, backit.repository_ratio) == (3.0, 1.2)
    assert (borg.speed, borg.repository_ratio) == (0.5, 0.5)


def test_without_restic_there_is_no_ratio_and_no_verdict() -> None:
    (line,) = summarise([_sample("backit", 4.0, repository=1)])
    assert (line.speed, line.repository_ratio, line.goal) == (None, None, "")


@pytest.mark.parametrize(
    ("row", "wall", "repository", "verdict"),
    [
        ("first-files", 4.0, 850, "reached, repo reached"),
        ("first-files", 4.01, 851, "missed, repo missed"),
        ("first-files", 6.0, 1000, "missed, repo missed"),
        ("first-files", 6.01, 1001, "BELOW FLOOR, repo BELOW FLOOR"),
        ("first-tar", 4.0, 1000, "reached, repo reached"),
        ("first-tar", 4.0, 1001, "reached, repo BELOW FLOOR"),
        ("first-random", 4.8, 1000, "reached, repo reached"),
        ("unchanged-files", 3.0, None, "reached"),
        ("unchanged-files", 3.01, None, "missed"),
        ("restore-tar", 8.0, None, "reached"),
        ("restore-tar", 50.0, None, "missed"),
    ],
)
def test_goals(row: str, wall: float, repository: int | None, verdict: str) -> None:
    reference = None if repository is None else 1000
    _, backit = summarise(
        [
            _sample("restic", 12.0, row=row, repository=reference),
            _sample("backit", wall, row=row, repository=repository),
        ]
    )
    assert backit.goal == verdict


@pytest.mark.parametrize(
    ("wall", "verdict"),
    [(10.0, "0.70x of its restore: reached"), (11.0, "0.64x of its restore: missed")],
)
def test_a_copy_out_of_the_mount_is_held_to_the_restore(wall: float, verdict: str) -> None:
    samples = [_sample(tool, 7.0, row="restore-files") for tool in ("restic", "backit")]
    samples += [_sample("restic", 50.0, row="mount-copy-files")]
    samples += [_sample("backit", wall, row="mount-copy-files")]
    *_restores, restic, backit = summarise(samples)
    assert restic.goal == "BackIT: 0.7x of its own restore"
    assert backit.goal == verdict


@pytest.mark.parametrize(("wall", "verdict"), [(1.0, "1 s reached"), (1.1, "1 s missed")])
def test_a_first_listing_is_held_to_a_second(wall: float, verdict: str) -> None:
    (line,) = summarise([_sample("backit", wall, row="mount-list-files")])
    assert line.goal == verdict


def test_the_table_is_aligned_and_separates_the_rows() -> None:
    samples = [
        _sample("restic", 12.5, repository=300 << 20),
        _sample("borg", 125.25, repository=30 << 20),
        _sample("restic", 1.0, row="unchanged-files"),
    ]
    text = table(summarise(samples)).splitlines()
    assert text[1] == text[4] == ""
    head, restic, borg, unchanged = text[0], text[2], text[3], text[5]
    wall = head.index("wall s") + len("wall s")
    assert [line[:wall].split()[-1] for line in (restic, borg)] == ["12.50", "125.25"]
    assert restic.endswith("BackIT: 3x, repo 0.85x")
    assert "0.10x" in borg
    assert unchanged.startswith("unchanged-files")


def test_the_document_holds_every_run_and_the_legend_every_tool() -> None:
    facts = Facts("restic", "restic 0.0", "by default", "it syncs")
    machine = Machine("a processor", 2, 1 << 30, "6.1", "Debian", "ext4", "3.11")
    conditions = Conditions("2025-01-01T00:00:00Z", small=True, machine=machine, tools=[facts])
    results = Results([], [_sample("restic", wall, run=run) for run, wall in enumerate((1, 2, 3))])
    written = json.loads(json.dumps(document(conditions, results, summarise(results.samples))))
    assert [run["usage"]["wall"] for run in written["runs"]] == [1, 2, 3]
    assert written["medians"][0]["wall"] == 2
    assert written["machine"]["cpu"] == "a processor"
    assert written["tools"][0]["durable"] == "it syncs"
    text = legend(conditions, results)
    assert "restic 0.0" in text
    assert "trial run" in text
