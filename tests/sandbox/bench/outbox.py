"""An outbox that has become long, drained to the simulated Core."""

from tests.sandbox.bench import file
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import TEMPFAIL, Scene, Stage
from tests.sandbox.errors import SandboxError

MOST_PASSES = 10


def outbox(stage: Stage) -> None:
    """Measures how fast it goes. The simulated Core, a Python program, has its share in that.

    :raises SandboxError: when it is not empty after many passes
    """
    with stage.scene("outbox") as scene:
        sizes, timer = stage.sizes, scene.timer()
        scene.http().post(scene.bodies(1))  # makes the tables
        jobs = [job["id"] for job in scene.have(sizes.outbox_jobs)]
        file.messages(scene.site.database, jobs, sizes.messages)
        scene.give(*scene.site.folder.glob(f"{scene.site.database.name}*"))
        worker = stage.installation.command("worker")
        seconds, peak = 0.0, 0.0
        for _ in range(MOST_PASSES):
            # A pass ends after a minute of sending; the next one goes on.
            timed = timer.run(worker, scene.site.environment(), may_end_with=(0, TEMPFAIL))
            seconds, peak = seconds + timed.seconds, max(peak, timed.peak)
            if not _waiting(scene):
                break
        else:
            raise SandboxError(f"{_waiting(scene)} messages wait after {MOST_PASSES} passes")
        number = sizes.outbox_jobs * sizes.messages
        stage.add(row("outbox", f"outbox of {number} messages, drained", "/s", [number / seconds]))
        stage.add(row("outbox-memory", "of which the peak of the worker's memory", "MiB", [peak]))


def _waiting(scene: Scene) -> int:
    return int(scene.site.rows("select count(*) as number from outbox where outcome is null")[0]["number"])
