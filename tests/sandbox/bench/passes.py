"""Passes of the worker over jobs that wait unchanged, beside one bare squeue of them and one bare sacct."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.sandbox.bench.programs import Timer
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import TEMPFAIL, Scene, Stage
from tests.sandbox.errors import SandboxError
from tests.sandbox.processes import wait_until

BULK = 1000
WARM_UP_PASSES, MOST_WARM_UP_PASSES = 4, 60
"""So many in a row must have written nothing before one counts; and after so many it is said that there is no end."""
LEAST_PASSES = 20
LEAST_SECONDS, MOST_SECONDS = 2.0, 8.0
PATIENCE = 600.0
IDS_PER_SACCT = 1000
FIELDS = "%A|%T|%j|%u|%V|%S|%M|%r"


def passes(stage: Stage) -> None:
    """Measures passes with more and more jobs: time, memory, what is written, RPCs to slurmctld."""
    with stage.scene("passes") as scene:
        # Nobody's use and no product changes, and Core is asked nothing: what is left is the watching.
        timer, calls = scene.timer(), {}
        written: list[float] = []
        for number in stage.sizes.waiting:
            fill(scene, number)
            calls[number] = _measure(stage, scene, timer, number, written)
        stage.add(row("pass-written", "written by a pass over unchanged jobs", "bytes", written))
        spread = max(calls.values()) - min(calls.values())
        name = f"RPCs of a pass: the most less the fewest, {min(calls)} to {max(calls)} jobs"
        stage.add(row("pass-calls-spread", name, "RPCs", [spread]))


def fill(scene: Scene, number: int) -> None:
    """Creates jobs in bulks until so many wait; a worker helps."""
    begun, before = time.perf_counter(), scene.live()
    worker, http = scene.site.loop(1.0), scene.http()
    for there in range(before, number, BULK):
        http.post(scene.bodies(1, min(BULK, number - there)))
    scene.wait_live(number, PATIENCE)
    rate = (number - before) / (time.perf_counter() - begun)
    scene.site.end(worker)
    if number - before >= BULK:
        name = f"jobs in bulks of {BULK}, from {before} to {number} waiting"
        scene.stage.add(row(f"fill-{number}", name, "/s", [rate]))


def _measure(stage: Stage, scene: Scene, timer: Timer, number: int, written: list[float]) -> int:
    """Measures passes over what is there.

    :param written: takes the bytes of each pass
    :returns: RPCs to slurmctld in one pass
    """
    worker, env = stage.installation.command("worker"), scene.site.environment()
    _warm_up(lambda: timer.run(worker, env, may_end_with=(0, TEMPFAIL)), scene)
    squeue = [stage.command("squeue"), "--noheader", "--states=all", f"--format={FIELDS}"]
    ids = ",".join(str(each) for each in [*scene.numbers().values()][:IDS_PER_SACCT])
    sacct = [stage.command("sacct"), "-X", "-D", "-n", "-P", f"--jobs={ids}", "--format=jobid,state,submit,end"]
    ours: list[float] = []
    bare: list[float] = []
    memory, calls = 0.0, 0
    for _ in range(stage.sizes.passes):
        files, before = _files(scene.site.database), scene.controller_calls()
        timed = timer.run(worker, env)
        calls = scene.controller_calls() - before
        written.append(timed.written if _files(scene.site.database) != files else 0)
        ours += timed.took
        memory = max(memory, timed.peak)
        plain = stage.environment()
        bare.append(timer.run(squeue, plain).took[0] + timer.run(sacct, plain).took[0])
    beside = "squeue and sacct"
    stage.add(row(f"pass-{number}", f"pass with {number} waiting, a process of its own", "ms", ours, bare, beside))
    stage.add(row(f"pass-memory-{number}", "of which the peak of its memory", "MiB", [memory]))
    stage.add(row(f"pass-calls-{number}", "of which RPCs to slurmctld", "RPCs", [calls]))
    took, peak, bytes_ = _loop(scene, max(1, calls))
    written.append(bytes_)
    stage.add(row(f"loop-{number}", f"pass with {number} waiting, in worker --loop", "ms", [took], bare, beside))
    stage.add(row(f"loop-memory-{number}", "of which the peak of its memory", "MiB", [peak]))
    return calls


def _warm_up(run: Callable[[], object], scene: Scene) -> None:
    """Runs passes until nothing is left to write.

    :raises SandboxError: there is no end of it
    """
    quiet = 0
    for _ in range(MOST_WARM_UP_PASSES):
        before = _files(scene.site.database)
        run()
        quiet = 0 if _files(scene.site.database) != before else quiet + 1
        if quiet == WARM_UP_PASSES:
            return
    raise SandboxError(f"{MOST_WARM_UP_PASSES} passes over unchanged jobs have written something again and again.")


def _loop(scene: Scene, calls: int) -> tuple[float, float, float]:
    """Has the worker do pass after pass, and counts them by their RPCs to slurmctld.

    :param calls: RPCs to slurmctld in one pass
    :returns: ms of a pass, MiB that the process had at most, bytes that a pass wrote
    """
    last = scene.controller_calls()
    process = scene.site.loop(0)
    try:
        wait_until("the first pass", lambda: scene.controller_calls() > last + 2 * calls, seconds=60)
        begun, first = time.perf_counter(), scene.controller_calls()
        files, before = _files(scene.site.database), _written(process.pid)
        while True:
            time.sleep(0.2)
            number = (scene.controller_calls() - first) / calls
            elapsed = time.perf_counter() - begun
            if number and ((number >= LEAST_PASSES and elapsed >= LEAST_SECONDS) or elapsed > MOST_SECONDS):
                break
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        changed = _files(scene.site.database) != files
        return elapsed * 1000 / number, peak / 1024, (_written(process.pid) - before) / number if changed else 0
    finally:
        scene.site.end(process)


def _written(pid: int) -> int:
    """Bytes that a process has had written to a disk (proc(5))."""
    text = Path(f"/proc/{pid}/io").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("write_bytes"))


def _files(database: Path) -> Mapping[str, tuple[int, int]]:
    """Size and time of the files of a database: without that of its locks, which is memory that processes share."""
    found = {}
    for path in (database, database.with_name(f"{database.name}-wal")):
        if path.exists():
            state = path.stat()
            found[path.name] = (state.st_size, state.st_mtime_ns)
    return found
