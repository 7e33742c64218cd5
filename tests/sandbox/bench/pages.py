"""What was measured, in words and tables for the documentation."""

from collections.abc import Iterable, Iterator, Sequence

from tests.sandbox.bench.rows import Report, Row, Series
from tests.sandbox.bench.table import number
from tests.sandbox.bench.wanted import wanted

HEAD = ("Measured", "Ours", "Bare", "Ratio", "Wanted")
WIDTHS = "38 22 22 8 10"
NOTHING = "Nothing has been measured yet: ``make bench`` does."
MORE = "More, and how it was measured: ``docs/explanation/speed.rst``."


def where(report: Report) -> str:
    """A sentence on the machine and the releases."""
    machine = report.machine
    pyslurm = f", pyslurm {machine.pyslurm}" if machine.pyslurm else ""
    text = (
        f"Measured on {report.date}: {machine.processor}, {machine.cores} cores, {machine.memory:g} GiB of memory, "
        f"{machine.system}, Slurm {machine.slurm}{pyslurm}."
    )
    return f"{text} This run only tried the bench; its numbers mean little." if report.quick else text


def cells(report: Report) -> Iterator[Sequence[str]]:
    """The rows of a table, as :data:`HEAD` says."""
    for row in report.rows:
        bound = wanted(row, report.backend)
        verdict = "" if bound is None else f"{bound.words()}: {'kept' if bound.met(row) else '**missed**'}"
        bare = "" if row.bare is None else f"{row.beside}: {_series(row.bare, row.unit)}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        yield row.name, _series(row.ours, row.unit), bare, ratio, verdict


# What says how much one host carries: each row, and what it means there.
CAPACITY = (
    ("create-8", "jobs accepted and submitted, one by one, eight at a time"),
    ("create-mapped-8", "the same as one researcher, through the runner and that researcher's program"),
    ("fill-10000", "jobs accepted and submitted in bulks of 1000"),
    ("crowd-largest", "until the last of 100 people who start at once, each for the first time, has an answer"),
    ("crowd-memory", "the memory of the runner and of 100 people's programs afterwards"),
    ("pass-10000", "a pass of the worker over 10 000 jobs that wait or run; the timer starts one every 15 s"),
    ("pass-20000", "the same over 20 000"),
    ("pass-memory-20000", "its memory"),
    ("outbox", "messages to UCloud that a pass delivers after an outage"),
    ("follow", "from a line written to a line shown, while 200 people follow logs"),
    ("file-size", "of a database with a million ended jobs (``database.keep``)"),
    ("files-memory", "the memory of the file unit with 100 transfers at a time"),
    ("files-download", "one download through nginx and the file unit"),
)


def capacity(reports: Iterable[Report]) -> Iterator[Sequence[str]]:
    """What one host carries: the measured number, and what it is."""
    rows = [row for report in reports if not report.quick for row in report.rows]
    for key, meaning in CAPACITY:
        if (row := next((each for each in rows if each.key == key), None)) is not None:
            yield f"{number(row.ours.median)} {row.unit}", meaning


def failures(report: Report) -> Iterator[str]:
    """A sentence for each group that could not be measured."""
    for group, sentence in report.failures.items():
        yield f"Not measured: {group} ({sentence})"


def _series(series: Series, unit: str) -> str:
    text = f"{number(series.median)} {unit}"
    if len(series.values) < 2:
        return text
    if len(series.values) < 20:
        return f"{text} (at most {number(series.largest)})"
    return f"{text} (p95 {number(series.quantile(0.95))}, p99 {number(series.quantile(0.99))})"


def quotes(reports: Iterable[Report]) -> list[str]:
    """The few numbers that the README names, a sentence each; none of a run that only tried the bench."""
    said: list[str] = []
    for report in (each for each in reports if not each.quick):
        if report.backend == "commands":
            said += _of_commands(report)
        elif (create := report.row("create")) is not None and create.bare is not None:
            pair = f"pyslurm {report.machine.pyslurm} on Slurm {report.machine.slurm}"
            said.append(f"With {pair} a create takes {_beside(create, 'a bare sbatch')}.")
    return [*said, MORE] if said else []


def _of_commands(report: Report) -> Iterator[str]:
    if (create := report.row("create")) is not None and create.bare is not None:
        machine = report.machine
        yield (f"On {machine.cores} cores of {machine.processor} a create over HTTP takes {_beside(create, 'a bare sbatch')}.")
    if (bulk := report.row("bulk-100")) is not None and bulk.bare is not None:
        yield f"A bulk of 100 jobs is with Slurm after {_beside(bulk, '100 sbatch in a row')}."
    passed, calls = report.row("pass-10000"), report.row("pass-calls-10000")
    if passed is not None and passed.bare is not None and calls is not None:
        yield (
            f"A pass over 10 000 waiting jobs takes {_beside(passed, 'one squeue and one sacct')}, and costs the "
            f"controller {number(calls.ours.median)} RPCs, those of one squeue."
        )


def _beside(row: Row, what: str) -> str:
    if row.bare is None or row.ratio is None:
        return f"{number(row.ours.median)} {row.unit}"
    ours, bare = number(row.ours.median), number(row.bare.median)
    return f"{ours} {row.unit}, {row.ratio:.2f} times {what} ({bare} {row.unit})"
