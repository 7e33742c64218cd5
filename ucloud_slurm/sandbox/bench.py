"""Measuring on the private cluster: a create beside a bare sbatch, a pass beside a bare squeue, and what is live.

Both sides of a ratio are measured in turn in one run, so that a machine whose speed drifts bends them alike.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from ucloud_slurm.sandbox.bench_live import LiveBench
from ucloud_slurm.sandbox.bench_people import READERS, PeopleBench, owners
from ucloud_slurm.sandbox.cluster import Cluster
from ucloud_slurm.sandbox.core import SimulatedCore
from ucloud_slurm.sandbox.installation import Installation
from ucloud_slurm.sandbox.processes import wait_until
from ucloud_slurm.sandbox.site import Site, SiteSettings

SCRIPT = "#!/bin/bash\n:\nsleep 3000\n"
# More nodes than are left over: the jobs wait, and the cluster stays quiet.
PRODUCT = {"id": "example-compute-1", "category": "example-compute", "partition": "gpu", "cpus": 16,
           "memory_gb": 1, "gpus": 0, "unit": "CREDITS_PER_MINUTE"}  # fmt: skip
# For what is live: jobs that run.
RUNNING = {"id": "example-compute-4", "category": "example-compute", "partition": "cpu", "cpus": 1,
           "memory_gb": 0.125, "gpus": 0, "unit": "CREDITS_PER_MINUTE"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """Times of one thing, in milliseconds."""

    name: str
    times: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.times)

    @property
    def p95(self) -> float:
        """The one that 19 of 20 are below."""
        return statistics.quantiles(self.times, n=20)[-1]

    def line(self, other: "Series") -> str:
        """A row of the table, beside the bare command."""
        return (
            f"{self.name:<34} {self.median:8.1f} {self.p95:8.1f}   {other.median:8.1f} {other.p95:8.1f}   "
            f"{self.median / other.median:6.2f}   {self.p95 - other.p95:+7.1f}"
        )


HEAD = f"{'milliseconds':<34} {'median':>8} {'p95':>8}   {'bare':>8} {'p95':>8}   {'ratio':>6}   {'p95 more':>7}"


class Bench:
    """One run of all measurements."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._say = say

    def run(self, creates: int = 100, jobs: int = 500) -> None:
        """Measures and prints the table."""
        cluster = self._cluster
        cluster.start()
        installation = Installation(cluster.folder / "product")
        installation.make()
        core = SimulatedCore(provider="example")
        core.start()
        folder = cluster.folder / "sites" / f"bench-{os.getpid()}"
        site = Site(cluster, core, installation, SiteSettings(folder=folder, workers=2, products=(PRODUCT, RUNNING)))
        try:
            site.install()
            site.start()
            self._say(f"{_processor()}, {os.cpu_count()} cores; {cluster.run('sbatch', '--version').strip()}\n{HEAD}")
            self._passes(site, core, 1)
            self._creates(site, core, creates)
            self._passes(site, core, jobs)
            cluster.run("scancel", f"--user={cluster.service_user}")
            LiveBench(site, core, cluster, self._say).run()
        finally:
            site.stop()
            core.stop()
            cluster.run("scancel", f"--user={cluster.service_user}")
        if cluster.users:
            self._people(installation)

    def _people(self, installation: Installation) -> None:
        """Bulks of many people's jobs; needs accounts, and so root."""
        cluster, core = self._cluster, SimulatedCore(provider="example")
        cluster.invite(READERS)
        core.start()
        folder = cluster.folder / "sites" / f"bench-people-{os.getpid()}"
        settings = SiteSettings(folder=folder, workers=2, products=(PRODUCT, RUNNING), links=owners())
        site = Site(cluster, core, installation, settings)
        try:
            site.install()
            site.start()
            ours, theirs = PeopleBench(site, core, cluster, _job, self._sbatch).run()
            self._say(Series("100 jobs of 10 people / 100 sbatch", ours).line(Series("sbatch", theirs)))
        finally:
            site.stop()
            core.stop()

    def _creates(self, site: Site, core: SimulatedCore, number: int) -> None:
        made, bare = [], []
        with requests.Session() as http:
            http.headers["Authorization"] = f"Bearer {core.tokens.core_token()}"
            for count in range(number + 5):
                body = json.dumps({"items": [_job(str(10_000 + count))]})
                ours = _timed(lambda body=body: _ok(http.post(f"{site.url}/ucloud/example/jobs", body, timeout=10)))  # type: ignore[misc]
                theirs = _timed(self._sbatch)
                if count >= 5:  # the first ones fill caches
                    made.append(ours)
                    bare.append(theirs)
        self._say(Series("create over HTTP / sbatch", made).line(Series("sbatch", bare)))
        self._say(f"{'create over HTTP, 99 of 100':<34} {statistics.quantiles(made, n=100)[-1]:8.1f}")

    def _sbatch(self) -> None:
        self._cluster.run("sbatch", "--parsable", "--partition=gpu", "--cpus-per-task=16", "--output=/dev/null",
                          "--time=60", user=self._cluster.service_user, stdin=SCRIPT)  # fmt: skip

    def _passes(self, site: Site, core: SimulatedCore, size: int) -> None:
        jobs = len(json.loads(site.cli("jobs", "--json").stdout))
        while jobs < size:
            some = [_job(str(20_000 + jobs + number)) for number in range(min(50, size - jobs))]
            core.call("POST", "/ucloud/example/jobs", {"items": some})
            jobs += len(some)
        wait_until("all are submitted", lambda: self._settled(site), seconds=120)
        ours, theirs = [], []
        for _ in range(8):
            ours.append(_timed(lambda: site.cli("worker", check=False)))
            theirs.append(_timed(lambda: self._cluster.run("squeue", "--noheader", "--states=all")))
        self._say(Series(f"pass, jobs waiting: {jobs:<4} / squeue", ours).line(Series("squeue", theirs)))

    @staticmethod
    def _settled(site: Site) -> bool:
        site.cli("worker", check=False)
        return all(job["phase"] == "live" for job in json.loads(site.cli("jobs", "--json").stdout))


def _job(job_id: str) -> dict[str, Any]:
    words = [{"type": "word", "word": "sleep"}, {"type": "word", "word": "3000"}]
    return {
        "id": job_id,
        "owner": {"createdBy": "user", "project": None},
        "specification": {
            "application": {"name": "bench", "version": "1"},
            "product": {"id": PRODUCT["id"], "category": PRODUCT["category"], "provider": "example"},
            "timeAllocation": {"hours": 1, "minutes": 0, "seconds": 0},
        },
        "status": {
            "state": "IN_QUEUE",
            "resolvedApplication": {
                "metadata": {"name": "bench", "version": "1"},
                "invocation": {"tool": {"name": "bench", "version": "1"}, "invocation": words},
            },
        },
    }


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1000


def _ok(response: requests.Response) -> None:
    response.raise_for_status()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
