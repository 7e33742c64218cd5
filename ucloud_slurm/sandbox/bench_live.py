"""Measuring what is live: logs that are followed by many, a shell's echo, load, and more time."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from ucloud_slurm.sandbox.cluster import Cluster
from ucloud_slurm.sandbox.core import SimulatedCore
from ucloud_slurm.sandbox.core.applications import application, word
from ucloud_slurm.sandbox.site import Site

FOLLOWERS, JOBS, LINES = 200, 10, 8
PATIENCE = 120.0
TALK = f"until [ -e go ]; do sleep 0.05; done; for i in $(seq {LINES}); do date +%s.%N; sleep 0.5; done; sleep 600"


class LiveBench:
    """The rows of the table that are about running jobs."""

    def __init__(self, site: Site, core: SimulatedCore, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._site = site
        self._core = core
        self._cluster = cluster
        self._say = say

    def run(self) -> None:
        """Measures and prints the rows. Each is what a user waits for, in milliseconds."""
        self._site.loop(1.0)
        self._core.catalogue.add_application(application("talker", "1", [word("bash"), word("-c"), word(TALK)]))
        jobs = [self._core.submit(application=("talker", "1"), product="example-compute-4") for _ in range(JOBS)]
        for job in jobs:
            self._core.wait(job, "RUNNING", PATIENCE)
        self._follow(jobs)
        self._shell(jobs[0])
        self._beside("retrieveUtilization, kept / sinfo", self._utilization, self._sinfo)
        self._beside("extend / scontrol update", lambda: self._extend(jobs[0]), lambda: self._update(jobs[1]))

    def _follow(self, jobs: Sequence[str]) -> None:
        late: list[float] = []
        lock = threading.Lock()

        def heard(_at: float, payload: dict[str, Any]) -> None:
            now = time.time()
            with lock:
                late.extend((now - float(line)) * 1000 for line in (payload["stdout"] or "").split())

        with ExitStack() as stack:
            for number in range(FOLLOWERS):
                followed = self._core.follow(jobs[number % JOBS], f"user{number}", on_message=heard)
                stack.enter_context(followed)
                followed.wait_for(lambda followed=followed: followed.session is not None, PATIENCE)  # type: ignore[misc]
            for job in jobs:
                (self._site.folder / "jobs" / job / "go").touch()
            self._core.wait_until(lambda: len(late) >= FOLLOWERS * LINES, PATIENCE, "all lines")
        self._row(f"follow, {FOLLOWERS} people: line to client", late)

    def _shell(self, job: str) -> None:
        opened = self._core.open_session(job)
        times = []
        with self._core.shell(opened or {}) as shell:
            shell.send("stty -echo; PS1=; echo rea''dy\r")
            shell.wait_for("ready", PATIENCE)
            for number in range(100):
                begun = time.perf_counter()
                shell.send(f"echo -{number}-\r")
                shell.wait_for(f"-{number}-", PATIENCE)
                times.append((time.perf_counter() - begun) * 1000)
        self._row("shell: typed to echoed", times)

    def _beside(self, name: str, ours: Callable[[], object], bare: Callable[[], object]) -> None:
        made: list[float] = []
        plain: list[float] = []
        for _ in range(40):
            for action, times in ((ours, made), (bare, plain)):
                begun = time.perf_counter()
                action()
                times.append((time.perf_counter() - begun) * 1000)
        self._row(name, made, plain)

    def _row(self, name: str, times: Sequence[float], bare: Sequence[float] = ()) -> None:
        row = f"{name:<34} {statistics.median(times):8.1f} {_p95(times):8.1f}"
        if bare:
            ratio = statistics.median(times) / statistics.median(bare)
            more = _p95(times) - _p95(bare)
            row += f"   {statistics.median(bare):8.1f} {_p95(bare):8.1f}   {ratio:6.2f}   {more:+7.1f}"
        self._say(row)

    def _utilization(self) -> None:
        self._core.call("GET", "/ucloud/example/jobs/retrieveUtilization")

    def _sinfo(self) -> None:
        self._cluster.run("sinfo", "--noheader", "--Node")

    def _extend(self, job: str) -> None:
        self._core.extend(job, 1)

    def _update(self, job: str) -> None:
        slurm_id = self._cluster.run("squeue", "--noheader", "--format=%A %j").split(f" ucloud-{job}")[0].split()[-1]
        self._cluster.run("scontrol", "update", f"JobId={slurm_id}", "TimeLimit=60")


def _p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
