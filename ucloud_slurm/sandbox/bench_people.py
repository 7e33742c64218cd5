"""Measuring jobs of many people: a bulk of 100 as 10 users beside 100 bare sbatch, one after the other, as one."""

import json
import time
from collections.abc import Callable
from typing import Any

from ucloud_slurm.sandbox.cluster import Cluster
from ucloud_slurm.sandbox.core import SimulatedCore
from ucloud_slurm.sandbox.processes import wait_until
from ucloud_slurm.sandbox.site import Site

PEOPLE = 10
JOBS = 100
ROUNDS = 3
READERS = tuple(f"reader{number}" for number in range(PEOPLE - 2))


def owners() -> dict[str, str]:
    """Local accounts by users of UCloud: those that every sandbox has, and more."""
    return {f"Reader#{number}": name for number, name in enumerate(("alice", "bob", *READERS))}


class PeopleBench:
    """Bulks whose jobs are those of ten people."""

    def __init__(
        self, site: Site, core: SimulatedCore, cluster: Cluster, job: Callable[[str], dict[str, Any]],
        bare: Callable[[], object],
    ) -> None:  # fmt: skip
        """Takes what it needs.

        :param job: makes a job with an id
        :param bare: one bare sbatch of the same job
        """
        self._site = site
        self._core = core
        self._cluster = cluster
        self._job = job
        self._bare = bare

    def run(self) -> tuple[list[float], list[float]]:
        """The times of each round in milliseconds: the bulk until Slurm has all of it, and the bare commands."""
        ours, theirs = [], []
        for number in range(ROUNDS):
            ours.append(self._bulk(40_000 + 1000 * number))
            begun = time.perf_counter()
            for _ in range(JOBS):
                self._bare()
            theirs.append((time.perf_counter() - begun) * 1000)
            self._clear()
        return ours, theirs

    def _bulk(self, first: int) -> float:
        names = list(owners())
        jobs = [self._job(str(first + number)) for number in range(JOBS)]
        for number, job in enumerate(jobs):
            job["owner"]["createdBy"] = names[number % PEOPLE]
        begun = time.perf_counter()
        status, answer = self._core.call("POST", "/ucloud/example/jobs", {"items": jobs})
        if status != 200:
            raise RuntimeError(f"the bulk was refused: {answer}")
        answered = (time.perf_counter() - begun) * 1000
        if self._settled():
            return answered
        wait_until("all are submitted", self._submitted, seconds=60)
        return (time.perf_counter() - begun) * 1000

    def _submitted(self) -> bool:
        self._site.cli("worker", check=False)
        return self._settled()

    def _settled(self) -> bool:
        return all(job["phase"] == "live" for job in json.loads(self._site.cli("jobs", "--json").stdout))

    def _clear(self) -> None:
        for name in owners().values():
            self._cluster.run("scancel", f"--user={name}")
        wait_until("nothing is left", self._empty, seconds=60)

    def _empty(self) -> bool:
        self._site.cli("worker", check=False)
        return not json.loads(self._site.cli("jobs", "--json").stdout)
