"""An earlier commit beside this checkout: each measures itself by its own bench, in turn, beside bare commands.

Each has the virtual environment that its own Makefile makes, so that its packages have the bytecode that it expects.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.bench.rows import Report, Row, Series
from tests.sandbox.bench.run import file_name
from tests.sandbox.bench.table import number
from tests.sandbox.errors import SandboxError

CHECKOUT = Path(__file__).resolve().parents[3]
GROUPS = ("creates", "bulks", "passes")
"""What an earlier bench measures too."""
HEAD = ("Measured", "Then", "Now", "Then, of bare", "Now, of bare")
WIDTHS = "40 15 15 15 15"


@dataclass(frozen=True, slots=True)
class Compared:
    """A thing that both have measured; each ratio is to the bare command beside it."""

    then: Row
    now: Row

    def cells(self) -> Sequence[str]:
        """As :data:`HEAD` says."""
        medians = [f"{number(each.ours.median)} {each.unit}" for each in (self.then, self.now)]
        ratios = ["" if each.ratio is None else f"{each.ratio:.2f}" for each in (self.then, self.now)]
        name = self.now.name if self.now.bare is None else f"{self.now.name}, beside {self.now.beside}"
        return [name, *medians, *ratios]


def run(commit: str, out: Path, rounds: int, say: Callable[[str], None]) -> tuple[Report, Report]:
    """Measures both, one after the other, in so many rounds.

    :param commit: as git names it
    :param out: a folder for the two reports, ``then.json`` and ``now.json``
    :returns: the reports of all rounds together
    :raises SandboxError: one of them cannot be measured
    """
    with tempfile.TemporaryDirectory(prefix="ucloud-slurm-older-") as temporary:
        older = Path(temporary) / "checkout"
        _git("worktree", "add", "--quiet", "--detach", str(older), commit)
        try:
            _make_venv(older)
            sides: dict[str, list[Report]] = {"then": [], "now": []}
            for each in range(rounds):
                for side, checkout in (("then", older), ("now", CHECKOUT)):
                    say(f"round {each + 1} of {rounds}: {side}")
                    sides[side].append(_measured(checkout, Path(temporary) / f"{side}-{each}"))
        finally:
            _git("worktree", "remove", "--force", str(older))
    pooled = {side: together(reports) for side, reports in sides.items()}
    for side, report in pooled.items():
        report.write(out / f"{side}.json")
    return pooled["then"], pooled["now"]


def together(reports: Sequence[Report]) -> Report:
    """The rows that all of them have, each with the values of all."""
    first = reports[0]
    rows = []
    for each in first.rows:
        same = [found for report in reports if (found := report.row(each.key)) is not None]
        if len(same) == len(reports):
            rows.append(_pooled(same))
    return Report(reports[-1].date, first.machine, first.backend, first.quick, tuple(rows))


def compared(then: Report, now: Report) -> Iterator[Compared]:
    """What both have, in the order of now."""
    for row in now.rows:
        if (before := then.row(row.key)) is not None and before.unit == row.unit:
            yield Compared(before, row)


def _pooled(rows: Sequence[Row]) -> Row:
    first = rows[0]
    bare = [value for row in rows for value in (row.bare.values if row.bare else ())]
    ours = Series.of(value for row in rows for value in row.ours.values)
    return Row(first.key, first.name, first.unit, ours, Series.of(bare) if bare else None, first.beside)


def _measured(checkout: Path, out: Path) -> Report:
    python = str(checkout / ".venv" / "bin" / "python")
    command = [python, "-m", "tests.sandbox", "bench", "--only", ",".join(GROUPS), "--out", str(out)]
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.DEVNULL, check=False)
    written = out / file_name(GROUPS, "commands")
    if done.returncode != 0 or not written.exists():
        raise SandboxError(f"the bench of {checkout} ended with {done.returncode}, and has measured nothing.")
    report = Report.read(written)
    if report.failures:
        raise SandboxError(f"the bench of {checkout} failed: {report.failures}")
    return report


def _make_venv(checkout: Path) -> None:
    done = subprocess.run(["make", "venv"], cwd=checkout, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise SandboxError(f"make venv failed in {checkout}.")


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"git {arguments[0]} failed: {' '.join(done.stderr.split())}")
