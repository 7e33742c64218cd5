"""What the numbers should be, by row and backend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.sandbox.bench.rows import Row

Measure = Literal["ratio", "median", "largest"]


@dataclass(frozen=True, slots=True)
class Wanted:
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


COMMANDS: Mapping[str, Wanted] = {
    "create": Wanted("ratio", most=1.4),
    "create-8": Wanted("ratio", least=0.8),
    "create-100": Wanted("largest", most=3000),
    "create-100-errors": Wanted("largest", most=0),
    "bulk-100": Wanted("ratio", most=0.6),
    "pass-10000": Wanted("ratio", most=1.5),
    "loop-10000": Wanted("ratio", most=1.5),
    "pass-memory-10000": Wanted("largest", most=200),
    "loop-memory-10000": Wanted("largest", most=200),
    "pass-memory-20000": Wanted("largest", most=200),
    "loop-memory-20000": Wanted("largest", most=200),
    "pass-written": Wanted("largest", most=0),
    "pass-calls-spread": Wanted("largest", most=0),
}
PYSLURM: Mapping[str, Wanted] = {
    **COMMANDS,
    "create": Wanted("ratio", most=0.6),
    "create-8": Wanted("ratio", least=1),
    "bulk-100": Wanted("ratio", most=0.25),
}


def wanted(row: Row, backend: str) -> Wanted | None:
    """The bound for a row; None where there is none."""
    return (PYSLURM if backend == "pyslurm" else COMMANDS).get(row.key)
