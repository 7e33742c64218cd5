"""Plots of what was measured, as SVG. The same numbers give the same file, whenever and wherever it is drawn."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ucloud_slurm.sandbox.bench.rows import Report, Row, Series
from ucloud_slurm.sandbox.errors import SandboxError

OURS, BARE, OTHER = "#1b6ca8", "#c8553d", "#3c896d"
SIZE = (7.2, 4.2)
NAMES = {"commands": "ucloud-slurm", "pyslurm": "ucloud-slurm with pyslurm"}
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
        import matplotlib as mpl  # noqa: PLC0415  only this needs it
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise SandboxError("Plots need matplotlib; install it with: pip install 'ucloud-slurm[bench]'.") from None
    reports, drawn = read(folder), []
    mpl.rcParams.update({
        "svg.hashsalt": "ucloud-slurm", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
        "legend.frameon": False,
    })  # fmt: skip
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
    found = [(report, row) for report in reports if (row := report.row("create")) is not None and row.bare is not None]
    for (report, row), style in zip(found, ("-", "--"), strict=False):
        for series, name, colour in ((row.ours, NAMES[report.backend], OURS), (row.bare, "sbatch", BARE)):
            if series is not None:
                label = name if name != "sbatch" else f"sbatch of Slurm {report.machine.slurm}"
                parts = [100 * (number + 1) / len(series.values) for number in range(len(series.values))]
                axes.plot(series.values, parts, style, color=colour, label=label)
    # The slowest one of a hundred would squeeze the rest together.
    if found:
        axes.set_xlim(
            0, 1.2 * max(series.quantile(0.98) for _, row in found for series in (row.ours, row.bare) if series)
        )
    axes.set(
        xlabel="time in ms", ylabel="answered within that time, in %", title="A single create over HTTP", ylim=(0, 101)
    )
    axes.legend(loc="lower right")
    return bool(found)


def _passes(axes: Any, reports: Sequence[Report]) -> bool:
    """How long a pass takes with more and more jobs."""
    rows = {row.key: row for report in reports[:1] for row in report.rows}
    sizes = sorted(int(key.split("-")[1]) for key in rows if key.startswith("pass-") and key.split("-")[1].isdigit())
    if not sizes:
        return False
    processes = [rows[f"pass-{size}"] for size in sizes]
    axes.plot(sizes, [row.ours.median for row in processes], "o-", color=OURS, label="pass, a process of its own")
    axes.plot(sizes, [rows[f"loop-{size}"].ours.median for size in sizes], "s--", color=OTHER,
              label="pass, in worker --loop")  # fmt: skip
    bare = [row.bare.median for row in processes if row.bare is not None]
    axes.plot(sizes, bare, "^-", color=BARE, label="one squeue and one sacct")
    axes.set(xlabel="unchanged jobs that wait", ylabel="time in ms, median", title="A pass of the worker")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left")
    return True


def _throughput(axes: Any, reports: Sequence[Report]) -> bool:
    """Jobs a second, eight at a time."""
    return _bars(axes, reports, ("create-8",), "jobs a second, median", "Eight clients, beside eight loops of sbatch")


def _bulk(axes: Any, reports: Sequence[Report]) -> bool:
    """Bulks until Slurm has all of their jobs, beside sbatch."""
    keys = [row.key for row in reports[0].rows if _is_bulk(row)] if reports else []
    return _bars(axes, reports, keys, "time in s, median", "A bulk until Slurm has all, beside sbatch in a row", 1000)


def _is_bulk(row: Row) -> bool:
    return row.key.startswith("bulk-") and row.key.split("-", 1)[1].isdigit()


def _bars(
    axes: Any, reports: Sequence[Report], keys: Sequence[str], ylabel: str, title: str, divisor: float = 1
) -> bool:  # fmt: skip
    """Pairs of bars, ours and the bare one, a pair for each row of each report; whiskers to the least and the most."""
    pairs = [(report, row) for report in reports for key in keys if (row := report.row(key)) is not None]
    for place, (_, row) in enumerate(pairs):
        for shift, series, colour in ((-0.2, row.ours, OURS), (0.2, row.bare, BARE)):
            if series is not None:
                _bar(axes, place + shift, series, colour, divisor)
    labels = [f"{row.name}\n{NAMES[report.backend]}" for report, row in pairs]
    axes.set_xticks(range(len(pairs)), labels)
    axes.set(ylabel=ylabel, title=title)
    axes.margins(y=0.15)
    axes.grid(visible=False, axis="x")
    for colour, label in ((OURS, "ucloud-slurm"), (BARE, "bare sbatch")):
        axes.bar([0], [0], color=colour, label=label)
    axes.legend(loc="best")
    return bool(pairs)


def _bar(axes: Any, place: float, series: Series, colour: str, divisor: float) -> None:
    middle = series.median / divisor
    axes.bar([place], [middle], 0.38, color=colour)
    if len(series.values) > 1:
        axes.vlines([place], [series.values[0] / divisor], [series.largest / divisor], color="black", linewidth=1)
    axes.text(place, 0, f"{middle:.3g}", ha="center", va="bottom", color="white")


PLOTS: Mapping[str, Callable[[Any, Sequence[Report]], bool]] = {
    "create": _create,
    "throughput": _throughput,
    "bulk": _bulk,
    "pass": _passes,
}
ABOUT: Mapping[str, str] = {
    "create": "How many creates are answered within a time, beside sbatch",
    "throughput": "Creates a second of eight clients, beside eight loops of sbatch",
    "bulk": "Time until Slurm has all jobs of a bulk, beside sbatch in a row",
    "pass": "Time of a pass over the number of waiting jobs, beside squeue and sacct",
}
