"""The rows of the comparison and the goals that BackIT has set itself for each.

Values only: how a row is carried out is in `compare.py`, how it is shown in `report.py`.
"""

from dataclasses import dataclass
from typing import Literal

DataSetName = Literal["files", "tar", "random"]
Action = Literal[
    "first",
    "unchanged",
    "restore",
    "mount-walk",
    "mount-tar",
    "mount-copy",
    "mount-read",
    "mount-random",
    "mount-list",
]
# Snapshots that there are when "mount-list" is measured.
MANY_SNAPSHOTS = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One action on one data set.

    `goal` and `floor` are speeds as multiples of restic's, `repository_goal` and
    `repository_floor` repository sizes as shares of restic's. A goal is to be reached; what is
    below a floor (slower, larger) is not done. Goals that are not about restic: `restore_share`, a
    speed as a share of BackIT's own restore of the same data, and `seconds`, for BackIT alone.
    """

    data_set: DataSetName
    action: Action
    goal: float | None = None
    floor: float | None = None
    repository_goal: float | None = None
    repository_floor: float | None = None
    restore_share: float | None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        return f"{self.action}-{self.data_set}"


ROWS = (
    Row("files", "first", 3.0, 2.0, repository_goal=0.85, repository_floor=1.0),
    Row("files", "unchanged", 4.0),
    Row("files", "restore", 1.5),
    Row("files", "mount-walk", 4.0, 2.0),
    Row("files", "mount-tar", 4.0, 2.0),
    Row("files", "mount-copy", restore_share=0.7),
    Row("files", "mount-list", seconds=1.0),
    Row("tar", "first", 3.0, 2.0, repository_floor=1.0),
    Row("tar", "restore", 1.5),
    Row("random", "first", 2.5, 2.0, repository_floor=1.0),
    Row("random", "restore", 1.5),
    Row("random", "mount-read", 3.0, 2.0),
    Row("random", "mount-random", 2.0),
)
