"""Output of commands: tables for people, JSON for programs, the findings of ``check``; and times that are typed."""

import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import click

from ucloud_slurm.config.types import UNIT_SECONDS
from ucloud_slurm.errors import one_line

Level = Literal["ok", "warning", "failed", "skipped"]
Line = tuple[Level, str]
LARGEST = 2**53  # of a number that is typed: SQLite and JSON have it, and one more, exactly
MOST = click.IntRange(1, LARGEST)
most_option = click.option("--most", type=MOST, default=1000, show_default=True, metavar="NUMBER", help="How many.")


class Finding(NamedTuple):
    """The result of one check."""

    what: str
    level: Level
    text: str

    @property
    def failed(self) -> bool:
        """Whether the provider does not work like this."""
        return self.level == "failed"

    def line(self) -> str:
        """For people."""
        return f"{self.level:<8} {self.what:<10} {self.text}"

    def as_dict(self) -> dict[str, str]:
        """For programs."""
        return {"what": self.what, "level": self.level, "text": self.text}


class Since(click.ParamType[float]):
    """A span before now, such as ``7d``, or a date in UTC, in seconds since the epoch."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See :class:`click.ParamType`."""
        if isinstance(value, float):
            return value
        if match := re.fullmatch(r"([0-9]{1,6})([mhdw])", value):
            return max(0.0, time.time() - int(match[1]) * UNIT_SECONDS[match[2]])
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a span such as 90m, 12h, 7d or 4w, nor a date such as 2026-11-29", param, ctx)
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        if seconds >= time.time():
            self.fail(f"{value!r} is not in the past", param, ctx)
        return max(0.0, seconds)


class Seconds(click.FloatRange):
    """A time that a command waits: a number in a range, which "nan" is not."""

    def __init__(self, least: float) -> None:
        super().__init__(least, 86400)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See :class:`click.ParamType`."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


def as_json(data: Any) -> None:
    """Prints one JSON document."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table. Control characters in its cells are replaced, so that foreign text cannot move the cursor."""
    text = [[one_line(_cell(value), 80) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *text]) for column in range(len(head))]
    for row in [list(head), *text]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def columns(rows: Iterable[Mapping[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """These columns of rows, as rows of a table."""
    return [tuple(row[name] for name in names) for row in rows]


def moment(seconds: float | None) -> str | None:
    """A time in UTC, to the second."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)
