"""Bulks: until Slurm has all of their jobs, beside as many bare sbatch one after the other."""

import shutil
import time
from collections.abc import Sequence

from tests.sandbox.bench.programs import Http
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import OWNER, Scene, Stage
from tests.sandbox.errors import SandboxError

PATIENCE = 300.0
EVERY = 1.0
"""Seconds from pass to pass: the worker submits what the request had no time for."""
WARM_UP = 4
"""Bulks before the first that counts."""
PEOPLE = 10
JOBS = 100
READERS = tuple(f"reader{number}" for number in range(PEOPLE - 2))


def bulks(stage: Stage) -> None:
    """Measures bulks of one person."""
    with stage.scene("bulks") as scene:
        scene.site.loop(EVERY)
        argv, env, script = scene.sbatch()
        timer, http = scene.timer(), scene.http()
        there = 1
        for _ in range(WARM_UP):  # the worker starts, and each process of the service has what it keeps
            there += stage.sizes.bulks[0]
            _bulk(scene, http, stage.sizes.bulks[0], there)
        for size in stage.sizes.bulks:
            answers: list[float] = []
            ours: list[float] = []
            bare: list[float] = []
            for _ in range(stage.sizes.rounds if size <= JOBS else max(1, stage.sizes.rounds - 1)):
                there += size
                answered, whole = _bulk(scene, http, size, there)
                answers.append(answered)
                ours.append(whole)
                bare.append(timer.run(argv, env, stdin=script, times=size).seconds * 1000)
            name = f"bulk of {size} until Slurm has all"
            stage.add(row(f"bulk-{size}", name, "ms", ours, bare, f"{size} sbatch in a row"))
            stage.add(row(f"bulk-{size}-answer", "of which until the answer", "ms", answers))


def people(stage: Stage) -> None:
    """Measures bulks of ten people, whose jobs run as themselves.

    :raises SandboxError: without root there are no accounts for them
    """
    if not stage.cluster.users:
        raise SandboxError("jobs of several people need root")
    stage.cluster.invite(READERS)
    jobs = stage.cluster.folder / "bench-jobs"
    jobs.mkdir(exist_ok=True)
    jobs.chmod(0o1777)  # everybody's own folder is in here, and none in their homes
    tables = {"jobs": {"folder": f"{jobs}/{{user}}"}}
    with stage.scene("people", links=owners(), tables=tables) as scene:
        scene.site.loop(EVERY)
        timer, http = scene.timer(), scene.http()
        names = list(owners())
        argv, env, script = scene.sbatch(names[0], jobs / owners()[names[0]])
        ours: list[float] = []
        bare: list[float] = []
        for number in range(stage.sizes.rounds):
            ours.append(_bulk(scene, http, JOBS, 1 + (number + 1) * JOBS, names)[1])
            bare.append(timer.run(argv, env, stdin=script, times=JOBS).seconds * 1000)
        name = f"bulk of {JOBS} jobs of {PEOPLE} people until Slurm has all"
        stage.add(row("bulk-people", name, "ms", ours, bare, f"{JOBS} sbatch of one"))
    shutil.rmtree(jobs)


def owners() -> dict[str, str]:
    """Local accounts by users of UCloud: those that every sandbox has, and more."""
    return {f"Reader#{number}": name for number, name in enumerate(("alice", "bob", *READERS))}


def _bulk(scene: Scene, http: Http, size: int, there: int, people: Sequence[str] = (OWNER,)) -> tuple[float, float]:
    """Sends a bulk.

    :param there: how many jobs of the site Slurm has afterwards
    :returns: ms until it is answered, and until Slurm has all
    """
    answered = http.post(scene.bodies(1, size, people))
    scene.wait_live(there, PATIENCE)
    return answered.took[0], (time.perf_counter() - answered.begun) * 1000
