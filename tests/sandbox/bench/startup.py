"""Starting with a file that holds a million finished jobs, beside an empty one."""

import time
from contextlib import ExitStack

from tests.sandbox.bench import file
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import Scene, Stage

ROUNDS = 3
BESIDE = "with an empty file"


def startup(stage: Stage) -> None:
    """Measures how long it takes until a site answers, its first create, and a pass."""
    with ExitStack() as stack:
        empty = stack.enter_context(stage.scene("empty"))
        full = stack.enter_context(stage.scene("full"))
        full.site.stop()
        file.finished(full.site.database, stage.sizes.finished, time.time())
        full.give(*full.site.folder.glob(f"{full.site.database.name}*"))
        empty.site.stop()
        both = {True: full, False: empty}
        took: dict[bool, list[list[float]]] = {True: [], False: []}
        for _ in range(ROUNDS):
            for which, scene in both.items():
                took[which].append(_once(stage, scene))
        names = ("until it answers", "its first create", "a pass, a process of its own")
        for number, key in enumerate(("start", "first", "pass")):
            ours, bare = ([each[number] for each in took[which]] for which in (True, False))
            name = f"{stage.sizes.finished} finished jobs in the file: {names[number]}"
            stage.add(row(f"file-{key}", name, "ms", ours, bare, BESIDE))
        size = full.site.database.stat().st_size / 2**20
        stage.add(row("file-size", "of which the file's size", "MiB", [size]))


def _once(stage: Stage, scene: Scene) -> list[float]:
    """Starts a site, and ends it.

    :returns: ms until it answers, of its first create, and of a pass
    """
    begun = time.perf_counter()
    scene.site.start()
    started = (time.perf_counter() - begun) * 1000
    created = scene.http().post(scene.bodies(1)).took[0]
    worker = stage.installation.command("worker")
    passed = scene.timer().run(worker, scene.site.environment()).took[0]
    scene.site.stop()
    return [started, created, passed]
