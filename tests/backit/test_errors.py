"""The exception tree is as its picture shows it."""

from __future__ import annotations

import re
from collections import Counter

from backit import errors
from backit.errors import BackitError, ReferencesMissing
from backit.ids import ChunkId


def everything_below(kind: type[BackitError]) -> list[type[BackitError]]:
    found = [below for child in kind.__subclasses__() for below in everything_below(child)]
    return [kind, *found]


def test_the_picture_shows_every_error_below_its_parent() -> None:
    drawn = re.findall(r"(?m)^    ([ │├└─]*)([A-Z]\w+)", errors.__doc__ or "")
    parents: list[str] = []
    shown: dict[str, str] = {}
    for indent, name in drawn:
        depth = len(indent) // 4
        parents[depth:] = [name]
        shown[name] = parents[depth - 1] if depth else ""
    real = {
        kind.__name__: kind.__bases__[0].__name__ if kind is not BackitError else ""
        for kind in everything_below(BackitError)
        if kind.__module__ == errors.__name__
    }
    assert shown == real


def test_no_two_errors_share_a_reason() -> None:
    kinds = [kind for kind in everything_below(BackitError) if kind is not BackitError]
    reasons = Counter(kind.reason for kind in kinds if kind.__module__ == errors.__name__)
    assert [reason for reason, count in reasons.items() if count > 1] == []


def test_missing_references_are_carried_along() -> None:
    chunk = ChunkId(bytes(32))
    assert ReferencesMissing("gone", [chunk]).missing == (chunk,)
    assert str(ReferencesMissing("gone", [chunk])) == "gone"
