"""The rows of the comparison and the goals that BackIT has set itself for each.

Values only: how a row is carried out is in `compare.py`, how it is shown in `report.py`.
"""

from dataclasses import dataclass
from typing import Literal

DataSetName = Literal["files", "tar", "random"]
Action = Literal[
    "first", "unchanged", "restore", "mount-walk", "mount-tar", "mount-read", "mount-random"
]


@dataclass(frozen=True, slots=True)
class Row:
    """One action on one data set.

    `goal` and `floor` are speeds as multiples of restic's, `repository_goal` and
    `repository_floor` repository sizes as shares of restic's. A goal is to be reached; what is
    below a floor (slower, larger) is not done.
    """

    data_set: DataSetName
    action: Action
    goal: float
    floor: float | None = None
    repository_goal: float | None = None
    repository_floor: float | None = None

    @property
    def name(self) -> str:
        return f"{self.action}-{self.data_set}"


ROWS = (
    Row("files", "first", 3.0, 2.0, repository_goal=0.85, repository_floor=1.0),
    Row("files", "unchanged", 4.0),
    Row("files", "restore", 1.5),
    Row("files", "mount-walk", 4.0, 2.0),
    Row("files", "mount-tar", 4.0, 2.0),
    Row("tar", "first", 3.0, 2.0, repository_floor=1.0),
    Row("tar", "restore", 1.5),
    Row("random", "first", 2.5, 2.0, repository_floor=1.0),
    Row("random", "restore", 1.5),
    Row("random", "mount-read", 3.0, 2.0),
    Row("random", "mount-random", 2.0),
)
