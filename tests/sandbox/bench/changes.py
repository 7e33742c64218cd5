"""Changes of jobs that Slurm has: terminate beside few and beside many, extend, suspend; and Slurm's bare commands."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.sandbox.bench.passes import fill
from tests.sandbox.bench.programs import Timer
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import MINUTES, PRODUCT, RUNNING, Scene, Stage
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import wait_until

BULK = 20
PATIENCE = 120.0
Job = Mapping[str, Any]
"""As Core sends it."""


def changes(stage: Stage) -> None:
    """Measures what a user changes, beside the command that would change as much, in alternating blocks."""
    with stage.scene("changes") as scene:
        timer = scene.timer()
        _extend(scene, timer)
        _suspend(scene, timer)
        _terminate_bulk(scene, timer)
    for number in stage.sizes.beside:
        with stage.scene("terminate") as scene:
            fill(scene, number)
            _terminate(scene, scene.timer(), number)


def _extend(scene: Scene, timer: Timer) -> None:
    stage, post = scene.stage, _caller(scene, "extend")
    mine, bare = _created(scene, 2)
    (number,) = _numbers(scene, [bare])
    ours: list[float] = []
    theirs: list[float] = []
    for more in range(1, stage.sizes.changes + 1):
        ours.append(post([{"job": mine, "requestedTime": {"hours": more // 60, "minutes": more % 60, "seconds": 0}}]))
        scontrol = [stage.command("scontrol"), "update", f"JobId={number}", f"TimeLimit={MINUTES + more}"]
        theirs += timer.run(scontrol, stage.environment()).took
    stage.add(row("extend", "extend", "ms", ours, theirs, "scontrol update"))


def _suspend(scene: Scene, timer: Timer) -> None:
    stage, calls = scene.stage, [("suspend", "suspend"), ("unsuspend", "resume")]
    mine, bare = _created(scene, 2, RUNNING)
    number, own = _numbers(scene, [bare, mine])
    wait_until("both run", lambda: _states(stage, [number, own]) == ["RUNNING"] * 2, seconds=PATIENCE)
    ours: list[float] = []
    theirs: list[float] = []
    posts = {path: _caller(scene, path) for path, _ in calls}
    for path, name in calls * (stage.sizes.changes // 2):
        ours.append(posts[path]([{"job": mine}]))
        theirs += timer.run([stage.command("scontrol"), name, str(number)], stage.environment()).took
    stage.add(row("suspend", "suspend, and resume", "ms", ours, theirs, "scontrol suspend"))


def _terminate(scene: Scene, timer: Timer, number: int) -> None:
    """Terminates job after job beside so many that wait."""
    stage, post, block = scene.stage, _caller(scene, "terminate"), scene.stage.sizes.block
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(stage.sizes.changes // block):
        mine, bare = _created(scene, block), _created(scene, block)
        numbers = _numbers(scene, bare)
        ours += [post([job]) for job in mine]
        for each in numbers:
            theirs += timer.run([stage.command("scancel"), str(each)], stage.environment()).took
        _are_cancelled(scene, [*mine, *bare])
    stage.add(row(f"terminate-{number}", f"terminate, beside {number} jobs", "ms", ours, theirs, "scancel"))


def _terminate_bulk(scene: Scene, timer: Timer) -> None:
    stage, post = scene.stage, _caller(scene, "terminate")
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(stage.sizes.changes // BULK):
        mine, bare = _created(scene, BULK), _created(scene, BULK)
        scancel = [stage.command("scancel"), *(str(each) for each in _numbers(scene, bare))]
        ours.append(post(mine))
        theirs += timer.run(scancel, stage.environment()).took
        _are_cancelled(scene, [*mine, *bare])
    stage.add(row("terminate-bulk", f"terminate, {BULK} jobs in a call", "ms", ours, theirs, f"scancel of {BULK}"))


def _caller(scene: Scene, call: str) -> Callable[[Sequence[Mapping[str, Any]]], float]:
    """Makes a call of Core's with some items, and says what it took in ms."""
    http = scene.http(path=f"/ucloud/{scene.core.provider}/jobs/{call}")
    return lambda items: http.post([json.dumps({"items": [*items]})]).took[0]


def _created(scene: Scene, number: int, product: Mapping[str, Any] = PRODUCT) -> list[Job]:
    """New jobs that Slurm has."""
    jobs, before = scene.have(number, product), scene.live()
    scene.http().post([json.dumps({"items": jobs})])
    scene.wait_live(before + number, PATIENCE)
    return [*jobs]


def _numbers(scene: Scene, jobs: Sequence[Job]) -> list[int]:
    """Slurm's numbers of jobs."""
    numbers = scene.numbers()
    return [numbers[job["id"]] for job in jobs]


def _states(stage: Stage, numbers: Sequence[int]) -> list[str]:
    listed = ",".join(str(number) for number in numbers)
    return stage.cluster.run("squeue", "--noheader", "--states=all", f"--jobs={listed}", "--format=%T").split()


def _are_cancelled(scene: Scene, jobs: Sequence[Job]) -> None:
    """Sees that all have ended: a call that leaves its jobs to the worker costs too little."""
    states = _states(scene.stage, _numbers(scene, jobs))
    if states != ["CANCELLED"] * len(jobs):
        raise SandboxError(f"Jobs were not cancelled when the answer came: {states}")
