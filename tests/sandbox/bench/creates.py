"""Single creates: one after the other, eight clients at once, a hundred clients at once."""

from collections.abc import Callable, Sequence

from tests.sandbox.bench.programs import Http, Timed
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import LOOPS, Scene, Stage
from tests.sandbox.errors import SandboxError

CROWD = 100
Bare = Callable[[int, int], Timed]
"""Runs sbatch so many times in each of so many loops."""


def creates(stage: Stage) -> None:
    """Measures them beside bare sbatch, in alternating blocks."""
    with stage.scene("creates") as scene:
        timer, http = scene.timer(LOOPS), scene.http()
        argv, env, script = scene.sbatch()

        def bare(times: int, loops: int) -> Timed:
            return timer.run(argv, env, stdin=script, times=times, loops=loops)

        _one(scene, http, bare)
        _eight(scene, http, bare)
        _crowd(scene, http)


def _one(scene: Scene, http: Http, bare: Bare) -> None:
    sizes = scene.stage.sizes
    http.post(scene.bodies(sizes.block))  # the first ones fill caches
    bare(sizes.block, 1)
    ours: list[float] = []
    theirs: list[float] = []
    spent = 0.0
    for _ in range(sizes.creates // sizes.block):
        answered = http.post(scene.bodies(sizes.block))
        ours += answered.took
        spent += answered.spent
        theirs += bare(sizes.block, 1).took
        scene.all_live()
    scene.stage.add(row("create", "create over HTTP", "ms", ours, theirs, "sbatch"))
    scene.stage.add(row("create-client", "of which the client itself", "ms", [spent * 1000 / len(ours)]))


def _eight(scene: Scene, http: Http, bare: Bare) -> None:
    sizes = scene.stage.sizes
    number = LOOPS * sizes.at_once
    http.post(scene.bodies(number), LOOPS)  # every thread of the service has its connections now
    ours: list[float] = []
    theirs: list[float] = []
    spent: list[float] = []
    bare_spent: list[float] = []
    for _ in range(sizes.rounds):
        bodies, before = scene.bodies(number), scene.spent()
        ours.append(number / http.post(bodies, LOOPS).seconds)
        spent.append((scene.spent() - before) * 1000 / number)
        scene.all_live()
        timed = bare(sizes.at_once, LOOPS)
        theirs.append(number / timed.seconds)
        bare_spent.append(timed.spent * 1000 / number)
    scene.stage.add(row("create-8", f"{LOOPS} clients creating", "/s", ours, theirs, f"{LOOPS} loops of sbatch"))
    name = "of which a processor works for each, sbatch and the controller not counted"
    scene.stage.add(row("create-8-processor", name, "ms", spent, bare_spent, "sbatch itself"))


def _crowd(scene: Scene, http: Http) -> None:
    took: list[float] = []
    wrong: Sequence[str] = []
    for _ in range(scene.stage.sizes.rounds):
        answered = http.post(scene.bodies(CROWD), CROWD, strict=False)
        took += answered.took
        wrong = [*wrong, *answered.wrong]
    scene.stage.add(row("create-100", f"{CROWD} clients creating at once, each once", "ms", took))
    scene.stage.add(row("create-100-largest", "of which the slowest answer", "ms", [max(took)]))
    scene.stage.add(row("create-100-errors", "of which not accepted", "jobs", [len(wrong)]))
    if wrong:
        raise SandboxError(f"{len(wrong)} creates of a crowd were not accepted; the first: {wrong[0]}")
