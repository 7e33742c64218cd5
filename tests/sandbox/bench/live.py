"""What is live: logs that are followed by many, a shell's echo, and load."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from tests.sandbox.bench.programs import Timer
from tests.sandbox.bench.rows import row
from tests.sandbox.bench.stage import PLENTY, RUNNING, Scene, Stage
from tests.sandbox.core.applications import application, word
from tests.sandbox.processes import wait_until

FOLLOWERS, JOBS, LINES = 200, 10, 8
KEYS, TIMES = 60, 40
PACE = 0.1
"""Seconds between two lines that are typed. Who types much faster waits for the 40 ms in which srun gathers them."""
PATIENCE = 120.0
TALKER = ("talker", "1")
READY = "ready"
TALK = (
    f"echo {READY}; until [ -e go ]; do sleep 0.05; done; for i in $(seq {LINES}); do date +%s.%N; sleep 0.5; done; sleep 600"
)


def live(stage: Stage) -> None:
    """Measures what a user waits for while jobs run."""
    with stage.scene("live") as scene:
        core = scene.core
        scene.site.loop(1.0)
        core.catalogue.add_application(application(*TALKER, [word("bash"), word("-c"), word(TALK)]))
        core.accounts.set_quota(PLENTY, "user")
        jobs = [core.submit(application=TALKER, product=str(RUNNING["id"])) for _ in range(JOBS)]
        for job in jobs:
            core.wait(job, "RUNNING", PATIENCE)
        name = f"{FOLLOWERS} people follow logs: line written to line shown"
        stage.add(row("follow", name, "ms", _follow(scene, jobs)))
        stage.add(row("shell", "shell: typed to echoed", "ms", _shell(scene, jobs[0])))
        _utilization(scene, scene.timer())


def _follow(scene: Scene, jobs: Sequence[str]) -> list[float]:
    late: list[float] = []
    lock = threading.Lock()

    def heard(_at: float, payload: dict[str, Any]) -> None:
        now = time.time()
        with lock:
            lines = (payload.get("stdout") or "").split()
            late.extend((now - float(each)) * 1000 for each in lines if each != READY)

    with ExitStack() as stack:
        for number in range(FOLLOWERS):
            followed = scene.core.follow(jobs[number % JOBS], f"user{number}", on_message=heard)
            stack.enter_context(followed)
            followed.wait_for(lambda followed=followed: READY in followed.text(), PATIENCE)  # type: ignore[misc]
        for job in jobs:
            (scene.site.folder / "jobs" / job / "go").touch()
        wait_until("all lines", lambda: len(late) >= FOLLOWERS * LINES, seconds=PATIENCE)
    return late


def _shell(scene: Scene, job: str) -> list[float]:
    opened = scene.core.open_session(job)
    times = []
    with scene.core.shell(opened or {}) as shell:
        shell.send("stty -echo; PS1=; echo rea''dy\r")
        shell.wait_for("ready", PATIENCE)
        for number in range(KEYS):
            begun = time.perf_counter()
            shell.send(f"echo -{number}-\r")
            shell.wait_for(f"-{number}-", PATIENCE)
            times.append((time.perf_counter() - begun) * 1000)
            time.sleep(PACE)
    return times


def _utilization(scene: Scene, timer: Timer) -> None:
    stage, core = scene.stage, scene.core
    sinfo = [stage.command("sinfo"), "--noheader", "--Node"]
    load: list[float] = []
    bare: list[float] = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        core.call("GET", f"/ucloud/{core.provider}/jobs/retrieveUtilization")
        load.append((time.perf_counter() - begun) * 1000)
        bare += timer.run(sinfo, stage.environment()).took
    stage.add(row("utilization", "retrieveUtilization, kept", "ms", load, bare, "sinfo"))
