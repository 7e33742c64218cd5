"""Stacked bars, as numbers for a drawing in SVG. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 860, 220  # of the drawing, in its own units
LEFT, RIGHT, BOTTOM, TOP = 56, 14, 24, 10  # margins, for the labels
GAP = 0.22  # of the width of a day, between two bars
TICKS = 4


class Column(NamedTuple):
    """The place of one column, and what it says to who points at it."""

    x: float
    width: float
    title: str


class Label(NamedTuple):
    """A text beside an axis, at its place on that axis."""

    at: float
    text: str


class Plot(NamedTuple):
    """A drawing.

    :ivar paths: of each series all of its bars (SVG: the attribute d); empty for one without a bar
    :ivar names: below the columns, some of them
    """

    paths: Sequence[str]
    columns: Sequence[Column]
    ticks: Sequence[Label]
    names: Sequence[Label]
    top: int = TOP
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    base: int = HEIGHT - BOTTOM


def stacked(columns: Sequence[str], series: Mapping[str, Sequence[float]], every: int = 7) -> Plot:
    """Bars above each other, one column for each name.

    :param series: a value for each column; the first series is at the bottom
    :param every: label each column of that number, counted from the last one
    """
    sums = [sum(values) for values in zip(*series.values(), strict=True)] or [0.0]
    step = nice(max(sums) / TICKS)
    top = step * max(math.ceil(max(sums) / step), 1)
    base, scale = HEIGHT - BOTTOM, (HEIGHT - BOTTOM - TOP) / top
    pitch = (WIDTH - LEFT - RIGHT) / max(len(columns), 1)
    width, paths, heights = pitch * (1 - GAP), [], [0.0] * len(columns)
    for values in series.values():
        path = []
        for column, value in enumerate(values):
            if value > 0:
                x, y = LEFT + pitch * (column + GAP / 2), base - heights[column] * scale
                path.append(f"M{x:.1f} {y:.1f}h{width:.1f}v{-value * scale:.2f}h{-width:.1f}z")
                heights[column] += value
        paths.append("".join(path))
    ticks = [Label(round(base - tick * step * scale, 1), f"{tick * step:,.6g}") for tick in range(round(top / step) + 1)]
    shown = range(len(columns) - 1, -1, -every)
    names = [Label(round(LEFT + pitch * (number + 0.5), 1), columns[number]) for number in shown]
    said = [
        "\n".join(
            [
                f"{column}: {heights[number]:,.1f}",
                *(f"{name}: {of[number]:,.1f}" for name, of in series.items() if of[number] > 0),
            ]
        )
        for number, column in enumerate(columns)
    ]
    places = [Column(round(LEFT + pitch * number, 1), round(pitch, 1), text) for number, text in enumerate(said)]
    return Plot(paths, places, ticks, names)


def nice(least: float) -> float:
    """The next number of 1, 2 or 5 times a power of ten."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999999)
