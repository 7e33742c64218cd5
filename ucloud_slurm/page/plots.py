"""Stacked bars, as numbers for a drawing in SVG. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 860, 220  # of the drawing, in its own units
LEFT, BOTTOM, TOP = 56, 24, 10  # margins, for the labels
GAP = 0.22  # of the width of a day, between two bars
TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    """A text beside an axis, at its place on that axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing."""

    bars: Sequence[Bar]
    ticks: Sequence[Label]
    columns: Sequence[Label]
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
    pitch = (WIDTH - LEFT) / max(len(columns), 1)
    bars, heights = [], [0.0] * len(columns)
    for number, (name, values) in enumerate(series.items()):
        for column, value in enumerate(values):
            if value <= 0:
                continue
            heights[column] += value
            x, y = round(LEFT + pitch * (column + GAP / 2), 2), round(base - heights[column] * scale, 2)
            title = f"{columns[column]}, {name}: {value:,.1f}"
            bars.append(Bar(x, y, round(pitch * (1 - GAP), 2), round(value * scale, 2), number, title))
    ticks = [Label(round(base - tick * step * scale, 2), f"{tick * step:,.6g}") for tick in range(round(top / step) + 1)]
    shown = range(len(columns) - 1, -1, -every)
    return Plot(bars, ticks, [Label(round(LEFT + pitch * (number + 0.5), 2), columns[number]) for number in shown])


def nice(least: float) -> float:
    """The next number of 1, 2 or 5 times a power of ten."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999999)
