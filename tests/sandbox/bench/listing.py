"""Listing a thousand jobs: pyslurm beside squeue."""

import sys

from tests.sandbox.bench.programs import running
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import Stage

JOBS = 1000
TIMES = 20


def listing(stage: Stage) -> None:
    """Measures both alternately, as the account that runs this: its Python is the one that has pyslurm."""
    with stage.scene("listing") as scene:
        timer = scene.timer()
        argv, env, script = scene.sbatch()
        number = min(JOBS, 5 * stage.sizes.creates)
        timer.run(argv, env, stdin=script, times=number)
        squeue = [stage.command("squeue"), "--noheader", "--states=all", "--format=%A|%T|%j|%u|%V|%S|%M|%r"]
        with running(stage.installation, None, "lister", scene.log, python=sys.executable) as lister:
            ours: list[float] = []
            bare: list[float] = []
            for _ in range(TIMES):
                ours.append(lister.ask({"conf": str(stage.cluster.conf)})["took"])
                bare += timer.run(squeue, env).took
        stage.add(row("list-1000", f"pyslurm's Jobs.load, {number} jobs", "ms", ours, bare, "squeue"))
