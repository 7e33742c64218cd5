"""One run: the cluster, the groups of measurements one after the other, and the report."""

import datetime
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.sandbox.bench.bulks import bulks, people
from tests.sandbox.bench.changes import changes
from tests.sandbox.bench.creates import creates
from tests.sandbox.bench.files import files
from tests.sandbox.bench.listing import listing
from tests.sandbox.bench.live import live
from tests.sandbox.bench.machine import machine
from tests.sandbox.bench.mapped import crowd, mapped
from tests.sandbox.bench.outbox import outbox
from tests.sandbox.bench.passes import passes
from tests.sandbox.bench.rows import Report, Row
from tests.sandbox.bench.sizes import QUICK, WHOLE
from tests.sandbox.bench.stage import Stage
from tests.sandbox.bench.startup import startup
from tests.sandbox.bench.table import line, lines
from tests.sandbox.cluster import Cluster
from tests.sandbox.core.era import ERAS
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation

FILES = "files"
"""The group that is a run of its own."""
GROUPS: Mapping[str, Callable[[Stage], None]] = {
    "creates": creates,
    "mapped": mapped,
    "crowd": crowd,
    "bulks": bulks,
    "people": people,
    "changes": changes,
    "passes": passes,
    "outbox": outbox,
    "live": live,
    FILES: files,
    "startup": startup,
    "listing": listing,
}
USUAL: Mapping[str, Sequence[str]] = {
    "commands": [name for name in GROUPS if name not in ("listing", FILES)],
    "pyslurm": ["creates", "mapped", "bulks", "changes", "listing"],  # the rest does not depend on it
}


def chosen(only: str | None, backend: str) -> list[str]:
    """The groups that are wanted.

    :param only: their names with commas between them; None: all that say something of the backend
    :raises SandboxError: naming one that does not exist
    """
    if only is None:
        return [*USUAL[backend]]
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in GROUPS:
            raise SandboxError(f"There is no group {name} to measure; there are {', '.join(GROUPS)}.")
    return names


def file_name(groups: Sequence[str], backend: str) -> str:
    """The name of the file for the numbers of a run."""
    return f"{FILES if [*groups] == [FILES] else backend}.json"


class Bench:
    """A run on a cluster. What it starts itself it removes."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None], *, backend: str, era: str = "today") -> None:
        self._cluster = cluster
        self._say = say
        self._backend = backend
        self._era = ERAS[era]

    def run(self, groups: Sequence[str], *, quick: bool = False) -> Report:
        """Measures, and prints rows as they come and the table at the end.

        A group that fails is named in the report; the others go on.
        """
        cluster = self._cluster
        up, there = cluster.running(), cluster.folder.exists()
        try:
            cluster.start()
            report = self._measured(groups, quick=quick, ours=not up)
        finally:
            if not up:
                cluster.stop()
            if not there:
                cluster.remove()
        for text in lines(report):
            self._say(text)
        return report

    def _measured(self, groups: Sequence[str], *, quick: bool, ours: bool) -> Report:
        cluster = self._cluster
        installation = Installation(cluster.folder / "product")
        installation.make()
        rows: list[Row] = []

        def add(row: Row) -> None:
            rows.append(row)
            self._say(line(row, self._backend))

        stage = Stage(cluster, installation, self._era, self._backend, QUICK if quick else WHOLE, ours, add)
        failures: dict[str, str] = {}
        for name in groups:
            try:
                GROUPS[name](stage)
            except Exception as error:  # noqa: BLE001  the other groups are measured all the same
                failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
                self._trace(cluster.folder / "bench.log")
                self._say(f"FAILED: {name}: {failures[name]}")
        slurm = cluster.run("sbatch", "--version").split()[-1]
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        return Report(today, machine(slurm), self._backend, quick, tuple(rows), failures)

    @staticmethod
    def _trace(log: Path) -> None:
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
