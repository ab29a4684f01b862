"""Patterns leave out what git would ignore, and caches say so themselves."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from backit.client.excludes import TAG_NAME, TAG_SIGNATURE, Excludes, is_cache, read_patterns
from backit.client.scan import Scanner
from backit.errors import Invalid, NotFound

TREE = (
    *("a.o", "a.c", "build/x", "build/keep.o", "src/build", "src/a.o", "src/deep/er/a.o"),
    *("src/tmp/x", "tmp/x", "tmp/y/z", "node_modules/m", "src/node_modules/m", "docs/a b.txt"),
    *("docs/#1", "docs/!x", "logs/1.log", "logs/keep.log", "logs/sub/2.log", "ab/c", "a/b/c"),
    *("x/a/b/c", "foo/bar", "foo/baz/bar", "foo.d/x"),
)


def from_the_root(root: Path, pattern: str) -> str:
    """What git's slash at the start means, as a whole path: the one difference."""
    plain = pattern.removeprefix("!")
    negation = pattern[: len(pattern) - len(plain)]
    return f"{negation}{root}{plain}" if plain.startswith("/") else pattern


def saved(root: Path, patterns: list[str]) -> set[str]:
    """The files that a scan of `root` gives, for git's patterns."""
    scanner = Scanner(
        [os.fsencode(root)],
        excludes=Excludes(from_the_root(root, pattern) for pattern in patterns),
        one_file_system=False,
        report=lambda path, why, _severity: pytest.fail(f"{path!r}: {why}"),
    )
    prefix = os.fsencode(root)[1:].replace(b"/", b"\0") + b"\0"
    return {
        os.fsdecode((batch.directory + name)[len(prefix) :].replace(b"\0", b"/"))
        for batch in scanner.batches()
        if batch.directory.startswith(prefix)
        for name, status in batch.entries
        if status.st_mode & 0o170000 == 0o100000
    }


def not_ignored(root: Path, patterns: list[str]) -> set[str]:
    """The files that git would add."""
    exclude = root / ".git" / "info" / "exclude"
    exclude.write_bytes(b"".join(os.fsencode(pattern) + b"\n" for pattern in patterns))
    done = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--others", "--exclude-from", exclude],
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": os.fspath(root)},
    )
    return {os.fsdecode(path) for path in done.stdout.split(b"\0") if path}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    for path in TREE:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    subprocess.run(["git", "init", "-q", root], check=True, env={"PATH": os.environ["PATH"]})
    return root


@pytest.mark.parametrize(
    "patterns",
    [
        ["*.o"],
        ["*.o", "!keep.o"],
        ["build/", "!keep.o"],
        ["build"],
        ["/build"],
        ["src/build"],
        ["/tmp"],
        ["tmp/"],
        ["**/tmp/"],
        ["src/**/a.o"],
        ["src/*"],
        ["src/**"],
        ["/src/*.o"],
        ["a/b"],
        ["**/a/b"],
        ["node_modules/"],
        ["*", "!*/", "!*.log"],
        ["/*", "!/docs", "!/logs", "/logs/*", "!/logs/keep.log"],
        ["*.log", "!keep.log"],
        ["a b.txt"],
        ["a?c"],
        ["[ab].o"],
        ["[!a].o", "foo.*/"],
        ["\\#1", "\\!x"],
        ["#1", "", "   "],
        ["foo", "!foo/"],
        ["foo/*", "!foo/baz"],
        ["**/bar"],
        ["foo/**/bar"],
        ["logs/[0-9]*"],
        ["trailing   ", "ab/   "],
    ],
    ids=" ".join,
)
def test_a_scan_leaves_out_what_git_ignores(checkout: Path, patterns: list[str]) -> None:
    found = {path for path in saved(checkout, patterns) if not path.startswith(".git/")}
    assert found == not_ignored(checkout, patterns)


PIECES = some.sampled_from(
    ["a", "b", "*", "**", "?", "build", "src", "tmp", "*.o", "[a-c]*", "foo", "bar", "keep.*", "x"]
)
PATTERNS = some.tuples(
    some.sampled_from(["", "!", "/", "!/"]),
    some.lists(PIECES, min_size=1, max_size=3).map("/".join),
    some.sampled_from(["", "/"]),
).map("".join)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(patterns=some.lists(PATTERNS, min_size=1, max_size=4))
def test_any_patterns_mean_what_they_mean_to_git(checkout: Path, patterns: list[str]) -> None:
    found = {path for path in saved(checkout, patterns) if not path.startswith(".git/")}
    assert found == not_ignored(checkout, patterns)


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("/home/anna/x", True),
        ("/home/anna/x/", True),
        ("/home/*/x", True),
        ("/**/x", True),
        ("anna/x", True),
        ("/anna/x", False),
        ("/x", False),
        ("/home", False),
        ("/*", False),
        ("home/anna/x", False),
    ],
)
def test_a_slash_at_the_start_makes_it_a_whole_path(pattern: str, *, left_out: bool) -> None:
    excludes = Excludes([pattern])
    assert excludes.leave_out("anna/x", is_directory=True, source="home/") is left_out


def test_the_later_pattern_wins_whichever_way_it_is_anchored() -> None:
    for patterns, left_out in (["/s/*.o", "!keep.o"], False), (["!keep.o", "/s/*.o"], True):
        excludes = Excludes(patterns)
        assert excludes.leave_out("keep.o", is_directory=False, source="s/") is left_out
        assert excludes.leave_out("a\nb.o", is_directory=False, source="s/")


def test_patterns_come_from_the_command_line_first_and_then_from_files(tmp_path: Path) -> None:
    file = tmp_path / "patterns"
    file.write_bytes(b"\xef\xbb\xbf# a comment\r\n*.tmp\r\n\n!keep.tmp\n\xff*\n")
    excludes = Excludes.of(["keep.*"], [file])
    assert excludes.leave_out("x.tmp", is_directory=False)
    assert not excludes.leave_out("keep.tmp", is_directory=False), "the later pattern wins"
    assert excludes.leave_out(os.fsdecode(b"\xffname"), is_directory=True)
    assert read_patterns(file)[0] == "# a comment"


def test_no_patterns_leave_nothing_out() -> None:
    for nothing in ([], ["# comment", "", "  "]):
        excludes = Excludes(nothing)
        assert not excludes.has_patterns
        assert not excludes.leave_out("anything", is_directory=False)


def test_a_file_of_patterns_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"exclude patterns in .*/missing: No such file"):
        Excludes.of([], [tmp_path / "missing"])


def test_a_pattern_that_is_none_is_named() -> None:
    with pytest.raises(Invalid, match=r"exclude pattern '!'"):
        Excludes(["*.o", "!"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TAG_SIGNATURE, True),
        (TAG_SIGNATURE + b"\nanything", True),
        (TAG_SIGNATURE[:-1], False),
        (b" " + TAG_SIGNATURE, False),
        (b"", False),
    ],
)
def test_a_tag_counts_only_with_its_signature(
    tmp_path: Path, content: bytes, *, expected: bool
) -> None:
    (tmp_path / os.fsdecode(TAG_NAME)).write_bytes(content)
    assert asks(tmp_path) is expected


def asks(directory: Path) -> bool:
    fd = os.open(directory, os.O_RDONLY)
    try:
        return is_cache(fd)
    finally:
        os.close(fd)


def test_what_is_no_file_is_no_tag(tmp_path: Path) -> None:
    assert not asks(tmp_path)
    for number, make in enumerate((os.mkdir, os.mkfifo)):
        (tmp_path / str(number)).mkdir()
        make(tmp_path / str(number) / os.fsdecode(TAG_NAME))
        assert not asks(tmp_path / str(number))
