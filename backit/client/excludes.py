"""What a backup leaves out: patterns as in .gitignore, and caches that say so themselves.

Patterns are git's (gitignore(5)), the later one wins, and each is about what lies below a source:

    *.o            anything of that name, at any depth
    node_modules/  directories of that name, at any depth
    a/b            "b" in the "a" directly below the source: a slash in the middle anchors
    **/a/b         "b" in any "a"
    /home/*/tmp    a whole path, from the machine's root; wildcards as everywhere
    !keep.o        is saved after all, unless a directory above it is left out

The one difference is the slash at the start. To git it means its own folder; people who give
/home/anna/tmp to a backup mean just that, as with restic and borg. So what is copied from a
.gitignore leaves out too little at worst, and never what nobody named.

Where one source lies in another, the inner one is what counts for paths below it. A source itself
is always saved.

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
NEVER = r"(?!)"
_NEW_LINE = {ord("\n"): "\0"}


class _Rule(NamedTuple):
    """One pattern. It is about a path itself; matching one of its parents is not enough.

    `is_whole`: about the path from the root, and not from the source.
    """

    search: Callable[[str], re.Match[str] | None]
    excludes: bool
    only_directories: bool
    is_whole: bool


class Excludes:
    """The patterns of one backup. Raises Invalid for a pattern that is none."""

    def __init__(self, patterns: Iterable[str] = (), *, skip_caches: bool = True) -> None:
        self.patterns: Sequence[str] = tuple(patterns)
        self.skip_caches = skip_caches
        rules = [rule for pattern in self.patterns for rule in _compile(pattern)]
        # The last that matches decides.
        self._rules = rules[::-1]
        self._has_whole = any(rule.is_whole for rule in rules)
        self._any, self._any_whole = (
            re.compile("|".join(_sources(self.patterns, whole=whole)) or NEVER).search
            for whole in (False, True)
        )

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

    def leave_out(self, path: str, *, is_directory: bool, source: str = "") -> bool:
        """Whether patterns exclude this path, relative to its source.

        `source` is the source's own path, with a slash at its end and none at its start. All
        directories above the path must have been asked about before, and be saved.
        """
        whole = source + path if self._has_whole else ""
        if "\n" in path or "\n" in whole:
            path, whole = path.translate(_NEW_LINE), whole.translate(_NEW_LINE)
        # Most paths match nothing: that is settled by one search instead of one for each pattern.
        if self._any(path) is None and not (self._has_whole and self._any_whole(whole)):
            return False
        for search, excludes, only_directories, is_whole in self._rules:
            if only_directories and not is_directory:
                continue
            found = search(whole if is_whole else path)
            if found is not None and found.lastindex is None:
                return excludes
        return False


def _compile(pattern: str) -> Iterator[_Rule]:
    """The rule that a line makes: one, or none if it is empty or a comment. Raises Invalid."""
    source, excludes, only_directories = _translate(pattern)
    if source is not None and excludes is not None:
        try:
            yield _Rule(re.compile(source).search, excludes, only_directories, _is_whole(pattern))
        except re.error as error:
            raise Invalid(f"exclude pattern {pattern!r}: {error}") from None


def _translate(pattern: str) -> tuple[str | None, bool | None, bool]:
    """As a regular expression; its group takes part where only a parent of a path matches."""
    # Imported where there is a pattern: it takes as long as all else of a backup of no files.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

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


def _is_whole(pattern: str) -> bool:
    return pattern.removeprefix("!").startswith("/")


def _sources(patterns: Iterable[str], *, whole: bool) -> Iterator[str]:
    """What patterns leave out by themselves, to be searched for all at once."""
    for pattern in patterns:
        if _is_whole(pattern) is not whole:
            continue
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
