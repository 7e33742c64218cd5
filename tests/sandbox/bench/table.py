"""The table that ``make bench`` prints."""

from collections.abc import Iterator

from tests.sandbox.bench.rows import Report, Row, Series
from tests.sandbox.bench.wanted import wanted

PARTS = (0.5, 0.95, 0.99)
WIDE = 52


def head(report: Report) -> str:
    """On what machine it was measured, in one line."""
    machine = report.machine
    pyslurm = f", pyslurm {machine.pyslurm}" if machine.pyslurm else ""
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.memory:g} GiB, {machine.system}; Slurm {machine.slurm}"
        f"{pyslurm}; backend {report.backend}; {report.date}"
    )


def lines(report: Report) -> Iterator[str]:
    """The whole table, and below it what failed."""
    yield head(report)
    if report.quick:
        yield "A quick run: it tries the bench, and its numbers are not to be quoted."
    columns = "".join(f"{name:>9}" for name in ("p50", "p95", "p99") * 2)
    yield f"{'':<{WIDE}} {'unit':<6}{columns} {'ratio':>7}  wanted"
    yield f"{'':<{WIDE}} {'':<6}{'ours':>9}{'':<18}{'bare':>9}"
    for row in report.rows:
        yield line(row, report.backend)
    missed = [row.name for row in report.rows if (bound := wanted(row, report.backend)) and not bound.met(row)]
    yield f"Not as wanted: {'; '.join(missed)}." if missed else "All is as wanted."
    for group, sentence in report.failures.items():
        yield f"FAILED: {group}: {sentence}"


def line(row: Row, backend: str) -> str:
    """One row; beside a bound it says whether it is kept."""
    name = f"{row.name} / {row.beside}" if row.beside else row.name
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    bound = wanted(row, backend)
    verdict = "" if bound is None else f"  {bound.words()}: {'kept' if bound.met(row) else 'MISSED'}"
    return f"{name:<{WIDE}} {row.unit:<6}{_cells(row.ours)}{_cells(row.bare)} {ratio:>7}{verdict}".rstrip()


def _cells(series: Series | None) -> str:
    if series is None:
        return " " * 27
    # One number is no distribution.
    parts = PARTS if len(series.values) > 1 else PARTS[:1]
    return "".join(f"{number(series.quantile(part)):>9}" for part in parts).ljust(27)


def number(value: float) -> str:
    """With as many digits as mean something."""
    if value == round(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
