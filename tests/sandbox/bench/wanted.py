"""What the numbers should be, by row and backend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.sandbox.bench.rows import Row

Measure = Literal["ratio", "median", "largest"]


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on one number of a row.

    :ivar measure: which number; ``ratio`` is that to the bare command
    """

    measure: Measure
    most: float | None = None
    least: float | None = None

    def met(self, row: Row) -> bool:
        """Whether the row keeps to it; one that has no such number does not."""
        value = {"ratio": row.ratio, "median": row.ours.median, "largest": row.ours.largest}[self.measure]
        if value is None:
            return False
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def words(self) -> str:
        """Such as ``ratio <= 1.4``."""
        bound, sign = (self.most, "<=") if self.most is not None else (self.least, ">=")
        return f"{self.measure} {sign} {bound:g}"


COMMANDS: Mapping[str, Bound] = {
    "create": Bound("ratio", most=1.5),
    "create-8": Bound("ratio", least=0.8),
    "create-100": Bound("largest", most=3000),
    "create-100-errors": Bound("largest", most=0),
    "create-mapped": Bound("ratio", most=1.7),
    "create-mapped-8": Bound("ratio", least=0.5),
    "create-mapped-first": Bound("median", most=35),
    "create-mapped-after-a-form": Bound("ratio", most=1.7),
    "crowd-largest": Bound("largest", most=3000),
    "crowd-errors": Bound("largest", most=0),
    "bulk-100": Bound("ratio", most=0.7),
    "terminate-20": Bound("ratio", most=2),
    "terminate-3000": Bound("ratio", most=2),
    "extend": Bound("ratio", most=2),
    "suspend": Bound("ratio", most=2),
    "pass-10": Bound("median", most=100),
    "pass-10000": Bound("ratio", most=1.5),
    "loop-10000": Bound("ratio", most=1.5),
    "pass-memory-10000": Bound("largest", most=200),
    "loop-memory-10000": Bound("largest", most=200),
    "pass-memory-20000": Bound("largest", most=200),
    "loop-memory-20000": Bound("largest", most=200),
    "pass-written": Bound("largest", most=0),
    "pass-calls-spread": Bound("largest", most=0),
    "files-page": Bound("ratio", most=3),
    "files-page-late": Bound("largest", most=150),
    "files-download": Bound("ratio", least=0.7),
    "files-upload": Bound("ratio", least=0.5),
    "files-memory": Bound("largest", most=80),
}
PYSLURM: Mapping[str, Bound] = {
    **COMMANDS,
    "create": Bound("ratio", most=0.75),
    "create-8": Bound("ratio", least=1),
    "create-mapped": Bound("ratio", most=1.2),
    "create-mapped-8": Bound("ratio", least=0.8),
    "bulk-100": Bound("ratio", most=0.3),
}


def wanted(row: Row, backend: str) -> Bound | None:
    """The bound for a row; None where there is none."""
    return (PYSLURM if backend == "pyslurm" else COMMANDS).get(row.key)
