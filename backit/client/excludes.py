"""What a backup leaves out: patterns as in .gitignore, and caches that say so themselves.

Patterns are git's (gitignore(5)), the later one wins, and each is about what lies below a source:

    *.o            anything of that name, at any depth
    node_modules/  directories of that name, at any depth
    /tmp           "tmp" directly below the source: a slash at the start, or in the middle, anchors
    a/b            the same as /a/b
    **/a/b         "b" in any "a"
    !keep.o        is saved after all, unless a directory above it is left out

So with the source /home, `/anna/tmp` is /home/anna/tmp, and `/home/anna/tmp` is nothing. Where one
source lies in another, the inner one is what counts for paths below it. A source itself is always
saved.

A directory is a cache if it holds a file CACHEDIR.TAG that begins as https://bford.info/cachedir/
asks. It and its tag are saved, what else is in it is not; a cache that is itself a source is saved
whole.

The walk asks about one name after another, from the top, and never goes into a directory that is
left out. That is what git does, and why pathspec translates each pattern here but does not decide:
its GitIgnoreSpec is made for files alone, and takes `a/**` to be about "a" when asked about it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from backit.client.handles import open_for_reading
from backit.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

TAG_NAME = b"CACHEDIR.TAG"
TAG_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"

# pathspec's regular expressions stop at a new line, which names may contain. Zero bytes they
# cannot.
_NAMED_GROUP = re.compile(r"\(\?P<\w+>")
_NEW_LINE = {ord("\n"): "\0"}


class _Rule(NamedTuple):
    """One pattern. It is about a path itself; matching one of its parents is not enough."""

    search: Callable[[str], re.Match[str] | None]
    excludes: bool
    only_directories: bool


class Excludes:
    """The patterns of one backup. Raises Invalid for a pattern that is none."""

    def __init__(self, patterns: Iterable[str] = (), *, skip_caches: bool = True) -> None:
        self.patterns: Sequence[str] = tuple(patterns)
        self.skip_caches = skip_caches
        rules = [rule for pattern in self.patterns for rule in _compile(pattern)]
        # The last that matches decides.
        self._rules = rules[::-1]
        self._any = re.compile("").search
        if any(rule.excludes for rule in rules):
            self._any = re.compile("|".join(_sources(self.patterns))).search

    @classmethod
    def of(cls, patterns: Iterable[str], files: Iterable[Path]) -> Excludes:
        """Patterns given one by one, then those that stand in files, a line each.

        Raises NotFound for a file that cannot be read, Invalid for a pattern that is none.
        """
        lines = list(patterns)
        for file in files:
            lines += read_patterns(file)
        return cls(lines)

    @property
    def has_patterns(self) -> bool:
        return bool(self._rules)

    def leave_out(self, path: str, *, is_directory: bool) -> bool:
        """Whether patterns exclude this path, relative to its source.

        All directories above it must have been asked about before, and be saved.
        """
        if "\n" in path:
            path = path.translate(_NEW_LINE)
        # Most paths match nothing: that is settled by one search instead of one for each pattern.
        if self._any(path) is None:
            return False
        for search, excludes, only_directories in self._rules:
            if only_directories and not is_directory:
                continue
            found = search(path)
            if found is not None and found.lastindex is None:
                return excludes
        return False


def _compile(pattern: str) -> Iterator[_Rule]:
    """The rule that a line makes: one, or none if it is empty or a comment. Raises Invalid."""
    source, excludes, only_directories = _translate(pattern)
    if source is not None and excludes is not None:
        try:
            yield _Rule(re.compile(source).search, excludes, only_directories)
        except re.error as error:
            raise Invalid(f"exclude pattern {pattern!r}: {error}") from None


def _translate(pattern: str) -> tuple[str | None, bool | None, bool]:
    """As a regular expression; its group takes part where only a parent of a path matches."""
    line = pattern.translate(_NEW_LINE)
    stripped = line if line.endswith("\\ ") else line.rstrip()
    only_directories = stripped.endswith("/")
    try:
        # A path is asked about without a slash at its end, whatever it is.
        source, excludes = GitIgnoreSpecPattern.pattern_to_regex(
            stripped[:-1] if only_directories else line
        )
    except ValueError as error:
        raise Invalid(f"exclude pattern {pattern!r}: {error}") from None
    return source, excludes, only_directories


def _sources(patterns: Iterable[str]) -> Iterator[str]:
    """What patterns leave out by themselves, to be searched for all at once."""
    for pattern in patterns:
        source, excludes, _only_directories = _translate(pattern)
        if source is not None and excludes:
            yield f"(?:{_NAMED_GROUP.sub('(?:', source)})"


def read_patterns(file: Path) -> list[str]:
    """The lines of a file of patterns. Raises NotFound if it cannot be read."""
    try:
        text = file.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    except OSError as error:
        raise NotFound(f"exclude patterns in {file}: {error.strerror}") from None
    return [line.removesuffix("\r") for line in text.split("\n")]


def is_cache(directory: int) -> bool:
    """Whether an open directory holds a cache directory tag."""
    try:
        fd = open_for_reading(directory, TAG_NAME)
    except OSError:
        return False  # none, or one that says nothing to us
    try:
        return os.pread(fd, len(TAG_SIGNATURE), 0) == TAG_SIGNATURE
    except OSError:
        return False  # a directory or a pipe of that name
    finally:
        os.close(fd)
