"""What the two processes of a backup tell each other at its beginning and at its end.

Apart from reading.py, which runs as a program: what is pickled must have one home.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from backit.client.growth import Counts
    from backit.client.problems import Problems
    from backit.engine.levels import ChildInfo
    from backit.ids import DomainId, SeriesId, SnapshotId


@dataclass(frozen=True, slots=True)
class Job:
    """What to read, and what may be relied on."""

    paths: tuple[bytes, ...]
    patterns: tuple[str, ...]
    skip_caches: bool
    one_file_system: bool
    domain: DomainId
    domain_secret: bytes = field(repr=False)
    cache_key: bytes = field(repr=False)
    cache_folder: Path
    series: SeriesId


class Trust(Enum):
    """What of the things remembered may be relied on."""

    # The last tree as it stands, and every chunk that the appliance says it has.
    ALL = "all"
    # As much of the last tree as the appliance says it still has.
    ASKING = "asking"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Start:
    """The head of the series, if there is one, and what may be relied on."""

    head: SnapshotId | None
    trust: Trust


@dataclass(frozen=True, slots=True)
class Grown:
    """A tree whose chunks have all been handed over."""

    root: ChildInfo
    counts: Counts
    problems: Problems
