"""Where the paths to be saved really lie: a tree of names that leads from the root to each of them.

A symbolic link on the way, or at the end, is saved as the link that it is, and so is what it leads
to, at its own place: whoever asks for a path gets everything needed to reach what is behind it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backit.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

LINKS_MAX = 40


@dataclass(slots=True)
class Place:
    """A name on the way to a source, or a source."""

    is_source: bool = False
    below: dict[bytes, Place] = field(default_factory=dict[bytes, "Place"])

    def add(self, components: Iterable[bytes]) -> Place:
        """The place that these names lead to from here, made if need be."""
        place = self
        for name in components:
            place = place.below.setdefault(name, Place())
        return place


def find_places(sources: Iterable[bytes]) -> Place:
    """The places of absolute paths. Raises Invalid for a relative one and for links that go round
    in circles.
    """
    root = Place()
    for source in sources:
        _find(root, source)
    return root


def _find(root: Place, source: bytes) -> None:
    if not source.startswith(b"/") or b"\0" in source:
        raise Invalid(f"source {os.fsdecode(source)!r}: not an absolute path")
    ahead = source.split(b"/")[::-1]
    at: list[bytes] = []
    links = 0
    while ahead:
        name = ahead.pop()
        if name == b"..":
            del at[-1:]
        elif name not in (b"", b"."):
            target = _link_target(b"/".join((b"", *at, name)))
            if target is None:
                at.append(name)
                continue
            root.add((*at, name))
            links += 1
            if links > LINKS_MAX:
                raise Invalid(f"source {os.fsdecode(source)!r}: too many symbolic links on the way")
            if target.startswith(b"/"):
                at.clear()
            ahead += target.split(b"/")[::-1]
    root.add(at).is_source = True


def _link_target(path: bytes) -> bytes | None:
    try:
        return os.readlink(path)  # noqa: PTH115  # bytes
    except OSError:
        return None  # no link, or not there: whoever opens it will hear of it
