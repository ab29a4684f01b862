"""Promises of the list of problems: all are counted, and memory for them is bounded."""

from __future__ import annotations

import pytest

from backit.client.problems import KEPT, Problems


def test_what_was_not_saved_is_told_from_what_was_left_out() -> None:
    problems = Problems()
    problems.failed(b"/a", "permission denied")
    problems.skipped(b"/b", "it vanished")
    problems.report(b"/c", "input/output error", "failed")
    problems.report(b"/d", "a socket", "skipped")
    assert problems.failures == [(b"/a", "permission denied"), (b"/c", "input/output error")]
    assert problems.skips == [(b"/b", "it vanished"), (b"/d", "a socket")]
    assert (problems.failure_count, problems.skip_count) == (2, 2)


@pytest.mark.parametrize("extra", [0, 1, 500])
def test_all_are_counted_and_the_first_are_kept(extra: int) -> None:
    problems = Problems()
    for number in range(KEPT + extra):
        problems.failed(b"%d" % number, "why")
        problems.skipped(b"%d" % number, "why")
    assert problems.failure_count == problems.skip_count == KEPT + extra
    for kept in (problems.failures, problems.skips):
        assert [path for path, _why in kept] == [b"%d" % number for number in range(KEPT)]


def test_a_path_that_fails_twice_counts_once_and_says_both() -> None:
    problems = Problems()
    for why in ("no attributes", "no flags", "no attributes"):
        problems.failed(b"/a", why)
    problems.failed(b"/b", "no attributes")
    assert problems.failure_count == 2
    assert problems.failures == [
        (b"/a", "no attributes"),
        (b"/a", "no flags"),
        (b"/b", "no attributes"),
    ]


def test_one_path_with_endless_problems_takes_no_more_room_than_many() -> None:
    problems = Problems()
    for number in range(KEPT * 2):
        problems.failed(b"/a", f"attribute {number} does not fit")
    assert problems.failure_count == 1
    assert len(problems.failures) == KEPT


def test_each_run_has_a_list_of_its_own() -> None:
    one, two = Problems(), Problems()
    one.failed(b"/a", "why")
    assert (two.failures, two.failure_count) == ([], 0)
