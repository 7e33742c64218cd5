"""What was measured, as facts: rows of two series, and the machine they were measured on."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

MOST_KEPT = 200
"""Values of a series that are kept, evenly spread over all that were measured."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one thing, smallest first."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Sorts the values; of very many some are kept, the smallest and the largest among them.

        :raises ValueError: when there is none
        """
        ordered = sorted(values)
        if not ordered:
            raise ValueError("a series without a value")
        if len(ordered) > MOST_KEPT:
            step = (len(ordered) - 1) / (MOST_KEPT - 1)
            ordered = [ordered[round(number * step)] for number in range(MOST_KEPT)]
        return cls(tuple(round(value, 3) for value in ordered))

    def quantile(self, part: float) -> float:
        """The value that this part of all is below, on a straight line between the two next to it.

        :param part: 0 for the smallest, 1 for the largest
        """
        place = part * (len(self.values) - 1)
        below = int(place)
        above = min(below + 1, len(self.values) - 1)
        return self.values[below] + (place - below) * (self.values[above] - self.values[below])

    @property
    def median(self) -> float:
        """The middle one."""
        return self.quantile(0.5)

    @property
    def largest(self) -> float:
        """The last one."""
        return self.values[-1]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured.

    :ivar key: what the documentation and the plots know it by
    :ivar unit: of all values, such as ``ms`` or ``/s``
    :ivar bare: the same without us, measured alternately in the same run; None where there is no such thing
    :ivar beside: what that is, such as ``sbatch``
    """

    key: str
    name: str
    unit: str
    ours: Series
    bare: Series | None = None
    beside: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the bare one, by the middle ones; None where there is nothing to compare with."""
        if self.bare is None or self.bare.median == 0:
            return None
        return self.ours.median / self.bare.median


def row(key: str, name: str, unit: str, ours: Sequence[float], bare: Sequence[float] = (), beside: str = "") -> Row:
    """A row of plain values; see :class:`Row`."""
    return Row(key, name, unit, Series.of(ours), Series.of(bare) if bare else None, beside)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured.

    :ivar memory: GiB
    :ivar pyslurm: its release, None where it is not installed
    """

    processor: str
    cores: int
    memory: float
    system: str
    slurm: str
    pyslurm: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """One run.

    :ivar date: day of the run, such as 2026-03-01
    :ivar backend: ``slurm.backend`` of the sites
    :ivar quick: whether this only tried the bench; its numbers are not to be quoted
    :ivar failures: a sentence for each group of measurements that failed
    """

    date: str
    machine: Machine
    backend: str
    quick: bool
    rows: tuple[Row, ...]
    failures: dict[str, str] = field(default_factory=dict)

    def row(self, key: str) -> Row | None:
        """The row with this key, or None."""
        return next((each for each in self.rows if each.key == key), None)

    def write(self, path: Path) -> None:
        """Writes it as JSON, one row a line."""
        data = dataclasses.asdict(self)
        rows = [json.dumps(_row_json(each)) for each in self.rows]
        data["rows"] = []
        text = json.dumps(data, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        joined = ",\n  ".join(rows)
        path.write_text(text.replace('"rows": []', f'"rows": [\n  {joined}\n ]') + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what :meth:`write` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(_row(each) for each in data.pop("rows"))
        return cls(machine=Machine(**data.pop("machine")), rows=rows, **data)


def _row_json(each: Row) -> dict[str, Any]:
    data: dict[str, Any] = {"key": each.key, "name": each.name, "unit": each.unit, "ours": each.ours.values}
    return data if each.bare is None else data | {"bare": each.bare.values, "beside": each.beside}


def _row(data: dict[str, Any]) -> Row:
    bare = Series(tuple(data["bare"])) if "bare" in data else None
    return Row(data["key"], data["name"], data["unit"], Series(tuple(data["ours"])), bare, data.get("beside", ""))
