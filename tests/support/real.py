"""A site on the real cluster whose jobs run as the service's own account, and a UCloud for an installed service."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import ERAS, SimulatedCore
from tests.sandbox.processes import wait_until
from tests.sandbox.site import Site

PATIENCE = 60.0


@contextmanager
def started_core(application: dict[str, Any], person: str, *, first_id: int) -> Iterator[SimulatedCore]:
    """A Core of today with an application and somebody who has funds; nothing may break its rules.

    :param first_id: of its jobs: on the cluster a job is known by its id
    """
    core = SimulatedCore(provider="example", era=ERAS["today"], first_id=first_id)
    core.start()
    core.catalogue.add_application(application)
    core.accounts.set_quota(10**9, person)
    yield core
    core.stop()
    assert core.protocol_errors == []
    assert core.ended is None


@dataclass
class Real:
    """A running site on the real cluster."""

    site: Site
    core: SimulatedCore
    cluster: Cluster

    def create(self, *jobs: dict[str, Any]) -> tuple[int, Any]:
        return self.core.call("POST", "/ucloud/example/jobs", {"items": list(jobs)})

    def shown(self, job_id: str) -> dict[str, Any]:
        """What ``show --json`` says."""
        found: dict[str, Any] = json.loads(self.site.cli("show", job_id, "--json").stdout)
        return found

    def wait_for_end(self, job_id: str) -> None:
        ended = [{"phase": "ended"}]
        which = "select phase from jobs where id = ?"
        wait_until(f"job {job_id} has ended", lambda: self.site.rows(which, job_id) == ended, seconds=PATIENCE)

    def output(self, job_id: str, name: str = "stdout-0.log") -> str:
        return (self.site.folder / "jobs" / job_id / name).read_text()

    def slurm_jobs(self, job_id: str) -> list[str]:
        """Ids of all Slurm jobs that were ever made for it, from both sources."""
        queued = self.cluster.run("squeue", "--noheader", "--states=all", "--format=%A|%j").splitlines()
        ended = self.cluster.run("sacct", "-X", "-n", "-P", "-a", "-S", "now-1days", "-o", "jobidraw,jobname").splitlines()
        pairs = [line.partition("|") for line in (*queued, *ended) if line.strip()]
        return sorted({id_ for id_, _, name in pairs if re.fullmatch(rf"ucloud-{job_id}(-.*)?", name)})
