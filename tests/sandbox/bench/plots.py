"""Plots of what was measured, as SVG. The same numbers give the same file, whenever and wherever it is drawn."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.sandbox.bench.rows import Report, Row, Series
from tests.sandbox.errors import SandboxError

OURS, BARE, OTHER = "#1b6ca8", "#c8553d", "#3c896d"
SIZE = (7.2, 4.2)
NAMES = {"commands": "ucloud-slurm", "pyslurm": "with pyslurm"}
BACKENDS = ("commands", "pyslurm")


def read(folder: Path) -> list[Report]:
    """The reports of a folder, that of the backend ``commands`` first."""
    return [Report.read(folder / f"{name}.json") for name in BACKENDS if (folder / f"{name}.json").exists()]


def digest(folder: Path) -> str:
    """What every plot says of the numbers that it was drawn from."""
    state = hashlib.sha256()
    for name in BACKENDS:
        if (folder / f"{name}.json").exists():
            state.update((folder / f"{name}.json").read_bytes())
    return f"from sha256 {state.hexdigest()}"


def draw(folder: Path) -> list[Path]:
    """Draws all plots whose numbers are in the folder, beside them.

    :returns: what was drawn
    :raises SandboxError: matplotlib is not here
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise SandboxError("Plots need matplotlib; install it with: pip install --editable '.[bench]'.") from None
    reports, drawn = read(folder), []
    mpl.rcParams.update(
        {
            "svg.hashsalt": "ucloud-slurm",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
        }
    )
    for name, plot in PLOTS.items():
        figure = Figure(figsize=SIZE, layout="constrained")
        if plot(figure.subplots(), reports):
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": digest(folder)})
            path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
            drawn.append(path)
    return drawn


def _create(axes: Any, reports: Sequence[Report]) -> bool:
    """How many creates are answered within a time, beside sbatch."""
    curves: list[tuple[str, str, str, Series]] = []
    for report, style in zip(reports, ("-", "--"), strict=False):
        row = report.row("create")
        if row is not None and row.bare is not None:
            bare = f"sbatch of Slurm {report.machine.slurm}"
            curves += [(NAMES[report.backend], style, OURS, row.ours), (bare, style, BARE, row.bare)]
    if not curves:
        return False
    for label, style, colour, series in curves:
        parts = [100 * (number + 1) / len(series.values) for number in range(len(series.values))]
        axes.plot(series.values, parts, style, color=colour, label=label)
    axes.set(xlabel="time in ms", ylabel="answered within that time, in %", title="A single create over HTTP")
    # The slowest one of a hundred would squeeze the rest together.
    axes.set(xlim=(0, 1.2 * max(series.quantile(0.98) for *_, series in curves)), ylim=(0, 101))
    axes.legend(loc="lower right")
    return True


def _passes(axes: Any, reports: Sequence[Report]) -> bool:
    """How long a pass takes with more and more jobs."""
    rows = {row.key: row for report in reports[:1] for row in report.rows}
    sizes = sorted(int(key.split("-")[1]) for key in rows if key.startswith("pass-") and key.split("-")[1].isdigit())
    if not sizes:
        return False
    processes = [rows[f"pass-{size}"] for size in sizes]
    axes.plot(sizes, [row.ours.median for row in processes], "o-", color=OURS, label="pass, a process of its own")
    axes.plot(sizes, [rows[f"loop-{size}"].ours.median for size in sizes], "s--", color=OTHER, label="pass, in worker --loop")
    bare = [row.bare.median for row in processes if row.bare is not None]
    axes.plot(sizes, bare, "^-", color=BARE, label="one squeue and one sacct")
    axes.set(xlabel="unchanged jobs that wait", ylabel="time in ms, median", title="A pass of the worker")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return True


def _throughput(axes: Any, reports: Sequence[Report]) -> bool:
    """Jobs a second, eight at a time."""
    rows = [(NAMES[report.backend], row, 1) for report in reports if (row := report.row("create-8")) is not None]
    axes.set(ylabel="jobs a second, median", title="Eight clients creating, beside eight loops of sbatch")
    return _bars(axes, rows)


def _bulk(axes: Any, reports: Sequence[Report]) -> bool:
    """Bulks until Slurm has all of their jobs, beside sbatch, for each job of them."""
    rows = []
    for report in reports:
        for row in report.rows:
            size = row.key.removeprefix("bulk-")
            if row.key.startswith("bulk-") and size.isdigit():
                rows.append((f"{size} jobs\n{NAMES[report.backend]}", row, int(size)))
    axes.set(ylabel="ms for each job, median", title="A bulk until Slurm has all of it, beside sbatch in a row")
    return _bars(axes, rows)


def _bars(axes: Any, rows: Sequence[tuple[str, Row, int]]) -> bool:
    """Pairs of bars, ours and the bare one, with whiskers from the least to the most.

    :param rows: the label below each pair, its row, and by what its values are divided
    """
    for place, (_, row, divisor) in enumerate(rows):
        for shift, series, colour in ((-0.2, row.ours, OURS), (0.2, row.bare, BARE)):
            if series is None:
                continue
            middle = series.median / divisor
            axes.bar([place + shift], [middle], 0.38, color=colour)
            least, most = series.values[0] / divisor, series.largest / divisor
            axes.vlines([place + shift], [least], [most], color="black", linewidth=1)
            axes.text(place + shift, most, f"{middle:.3g}", ha="center", va="bottom")
    axes.set_xticks(range(len(rows)), [label for label, _, _ in rows])
    axes.margins(y=0.3)
    axes.grid(visible=False, axis="x")
    for colour, label in ((OURS, "ucloud-slurm"), (BARE, "bare sbatch")):
        axes.bar([0], [0], color=colour, label=label)
    axes.legend(loc="upper right", ncols=2)
    return bool(rows)


PLOTS: Mapping[str, Callable[[Any, Sequence[Report]], bool]] = {
    "create": _create,
    "throughput": _throughput,
    "bulk": _bulk,
    "pass": _passes,
}
ABOUT: Mapping[str, str] = {
    "create": "How many creates are answered within a time, beside sbatch",
    "throughput": "Creates a second of eight clients, beside eight loops of sbatch",
    "bulk": "Time until Slurm has a bulk, for each job of it, beside sbatch in a row",
    "pass": "Time of a pass over the number of waiting jobs, beside squeue and sacct",
}
