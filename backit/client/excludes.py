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
left out.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from backit.client.handles import open_for_reading
from backit.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

TAG_NAME = b"CACHEDIR.TAG"
TAG_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"

# pathspec's regular expressions stop at a new line, which names may contain. Zero bytes they
# cannot.
_NAMED_GROUP = re.compile(r"\(\?P<\w+>")
_NEW_LINE = {ord("\n"): "\0"}


class Excludes:
    """The patterns of one backup. Raises Invalid for a pattern that is none."""

    def __init__(self, patterns: Iterable[str] = (), *, skip_caches: bool = True) -> None:
        self.patterns: Sequence[str] = tuple(patterns)
        self.skip_caches = skip_caches
        self._spec = _compile(self.patterns)
        # Most paths match nothing: that is settled by one search instead of one a pattern.
        self._any = _any_of(self.patterns).search

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
        return self._spec is not None

    def leave_out(self, path: str, *, is_directory: bool) -> bool:
        """Whether patterns exclude this path, relative to its source, all directories above being
        saved.
        """
        if self._spec is None:
            return False
        asked = path + "/" if is_directory else path
        if "\n" in asked:
            asked = asked.translate(_NEW_LINE)
        return self._any(asked) is not None and self._spec.match_file(asked, separators=())


def _compile(patterns: Sequence[str]) -> GitIgnoreSpec | None:
    for pattern in patterns:
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:
            raise Invalid(f"exclude pattern {pattern!r}: {error}") from None
    # One engine whatever is installed beside: the compiled ones do not take names that are not
    # UTF-8.
    spec = GitIgnoreSpec.from_lines(
        [pattern.translate(_NEW_LINE) for pattern in patterns], backend="simple"
    )
    return spec if any(pattern.include is not None for pattern in spec.patterns) else None


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """Finds what at least one pattern leaves out by itself."""
    sources: list[str] = []
    for pattern in patterns:
        regex, excludes = GitIgnoreSpecPattern.pattern_to_regex(pattern.translate(_NEW_LINE))
        if regex is not None and excludes:
            sources.append(f"(?:{_NAMED_GROUP.sub('(?:', regex)})")
    return re.compile("|".join(sources))


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
