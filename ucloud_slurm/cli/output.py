"""Printing for people and for programs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from ucloud_slurm.errors import one_line


def as_json(data: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table with columns as wide as they must be. Text from elsewhere cannot move the cursor."""
    text = [[one_line(_cell(value), 80) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *text]) for column in range(len(head))]
    for row in [list(head), *text]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def moment(seconds: float | None) -> str | None:
    """A time in UTC, to the second."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)
