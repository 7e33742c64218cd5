"""A site whose jobs go through real pyslurm, whose process is killed and frozen: one Slurm job per job all the same.

Run only where pyslurm is demanded (``--backend=pyslurm``); then whatever keeps it from being used is a failure.
"""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlite_utils

from tests.conftest import site_opener
from tests.sandbox import processes
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.processes import Process, wait_until
from tests.sandbox.site import Site
from tests.support.factories import application, job_data, word

UCLOUD_WAITS = 3.0
LIMIT = 4.0
PATIENCE = 120.0
BULK = 100
APP = application(word("sleep"), word("600"))
CHILD = "slurm.pyslurm.child"
TABLES = {"slurm": {"backend": "pyslurm", "timeout": f"{LIMIT:.0f}s"}, "jobs": {"quiet": "11s", "grace": "5s"}}


@dataclass
class Real:
    """A site that runs with pyslurm, on a cluster on which jobs wait."""

    site: Site
    core: SimulatedCore
    cluster: Cluster
    calls: Path

    def create(self, *job_ids: str) -> float:
        """Seconds that a create took."""
        begun = time.monotonic()
        status, body = self.core.call(
            "POST", "/ucloud/example/jobs", {"items": [job_data(job_id, app=APP) for job_id in job_ids]}
        )
        assert status == 200, body
        return time.monotonic() - begun

    def commands(self, name: str) -> int:
        """How often one of Slurm's commands was run to act on jobs."""
        return self.calls.read_text().split().count(name)

    def phases(self, *job_ids: str) -> set[str]:
        """What the database says of the jobs; nothing of one that is not there."""
        marks = ",".join("?" * len(job_ids))
        database = sqlite_utils.Database(self.site.database)
        try:
            rows = list(database.query(f"select id, phase from jobs where id in ({marks})", job_ids))
        finally:
            database.close()
        assert len(rows) == len(job_ids)
        return {str(row["phase"]) for row in rows}

    def live(self) -> int:
        """How many jobs Slurm has, as the database knows."""
        database = sqlite_utils.Database(self.site.database)
        try:
            return int(next(iter(database.query("select count(*) as n from jobs where phase = 'live'")))["n"])
        finally:
            database.close()

    def slurm_jobs(self) -> dict[str, set[str]]:
        """Every Slurm job that was ever made, by the id of its UCloud job, from both sources."""
        queued = self.cluster.run("squeue", "--noheader", "--states=all", "--format=%A|%j").splitlines()
        past = self.cluster.run("sacct", "-X", "-D", "-n", "-P", "-a", "-S", "now-1days", "-o", "jobidraw,jobname")
        found: dict[str, set[str]] = {}
        for line in (*queued, *past.splitlines()):
            slurm_id, _, name = line.partition("|")
            if match := re.fullmatch(r"ucloud-(\d+)(?:-.*)?", name):
                found.setdefault(match[1], set()).add(slurm_id)
        return found

    def hosts(self) -> list[Process]:
        """The processes in which the service has pyslurm."""
        roots = [found for one in self.site.processes[:1] if (found := processes.find(one.pid))]
        hosts = []
        for process in processes.with_descendants(roots):
            with suppress(OSError):
                if CHILD in Path(f"/proc/{process.pid}/cmdline").read_text() and process.alive():
                    hosts.append(process)
        return hosts

    def use_pyslurm(self, job_id: Callable[[], str]) -> None:
        """Creates jobs until one of them went through a process of pyslurm."""

        def went() -> bool:
            created, before = job_id(), self.commands("sbatch")
            self.create(created)
            at_once = self.phases(created) == {"live"}
            return at_once and self.commands("sbatch") == before and self.hosts() != []

        wait_until(f"jobs go through pyslurm; the log is {self.site.log}", went, seconds=PATIENCE)


@pytest.fixture(scope="module")
def real(cluster: Cluster, installation: Installation) -> Iterator[Real]:
    folder = cluster.folder / "counted"
    folder.mkdir()
    calls = folder / "calls"
    calls.touch(mode=0o666)
    calls.chmod(0o666)
    for name in ("sbatch", "squeue", "sacct", "scancel", "sinfo", "scontrol", "sdiag"):
        counted = folder / name
        # asked for its release a command does nothing that is to be counted
        counted.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo {name} >>{calls}\nexec {cluster.commands}/{name} "$@"\n')
        counted.chmod(0o755)
    plain = ",".join(f"n{number}" for number in range(1, cluster.settings.nodes + 1))
    cluster.run("scontrol", "update", f"NodeName={plain}", "State=DRAIN", "Reason=jobs wait in this test")
    try:
        with site_opener(cluster, installation) as open_site:
            site, core = open_site(loop=1.0, workers=1, tables=TABLES, commands=folder)
            yield Real(site, core, cluster, calls)
    finally:
        cluster.run("scancel", f"--user={cluster.service_user}")
        cluster.run("scontrol", "update", f"NodeName={plain}", "State=RESUME")


@pytest.fixture(scope="module")
def next_id() -> Callable[[], str]:
    """Ids for jobs that are made by the way."""
    numbers = iter(range(20_000, 30_000))
    return lambda: str(next(numbers))


@pytest.mark.parametrize("after", [5, 30, 60])
def test_pyslurm_killed_in_the_middle_of_a_bulk_leaves_one_slurm_job_per_job(
    real: Real, next_id: Callable[[], str], after: int
) -> None:
    real.use_pyslurm(next_id)
    ids = [str(10_000 + 1000 * after + number) for number in range(BULK)]
    before, sbatches = real.live(), real.commands("sbatch")
    killed: list[int] = []

    def kill() -> None:
        wait_until("the bulk is under way", lambda: real.live() >= before + after, seconds=PATIENCE)
        for host in real.hosts():
            host.signal(signal.SIGKILL)
        killed.append(real.live() - before)

    killer = threading.Thread(target=kill)
    killer.start()
    seconds = real.create(*ids)
    killer.join()
    assert killed
    assert killed[0] < BULK, "the kill came when all was done"
    assert seconds < UCLOUD_WAITS
    wait_until("every job is in Slurm", lambda: real.phases(*ids) == {"live"}, seconds=PATIENCE)
    made = real.slurm_jobs()
    assert {job_id: len(made.get(job_id, ())) for job_id in ids} == dict.fromkeys(ids, 1)
    # both ways were used
    assert after <= BULK - (real.commands("sbatch") - sbatches) < BULK


def test_a_frozen_pyslurm_blocks_no_call_and_is_killed(real: Real, next_id: Callable[[], str]) -> None:
    real.use_pyslurm(next_id)
    hosts = real.hosts()
    doubtful, *others = [next_id() for _ in range(3)]
    for host in hosts:
        host.signal(signal.SIGSTOP)
    assert real.create(doubtful) < UCLOUD_WAITS
    assert [seconds for job_id in others if (seconds := real.create(job_id)) >= UCLOUD_WAITS] == []
    wait_until("the frozen ones are ended", lambda: not any(host.alive() for host in hosts), seconds=2 * LIMIT + 2)
    wait_until("every job is in Slurm", lambda: real.phases(doubtful, *others) == {"live"}, seconds=PATIENCE)
    made = real.slurm_jobs()
    assert [len(made[job_id]) for job_id in (doubtful, *others)] == [1, 1, 1]


def test_a_job_is_cancelled_in_time_by_the_command_while_pyslurm_is_frozen(real: Real, next_id: Callable[[], str]) -> None:
    job_id = real.core.submit(
        application=("sleeper", "1.0.0"),
        product="example-compute-1",
        minutes=5,
        parameters={"seconds": {"type": "integer", "value": 60}},
    )
    real.use_pyslurm(next_id)
    wait_until("the job is in Slurm", lambda: real.phases(job_id) == {"live"}, seconds=PATIENCE)
    (slurm_id,) = real.slurm_jobs()[job_id]
    for host in real.hosts():
        host.signal(signal.SIGSTOP)
    cancels = real.commands("scancel")
    begun = time.monotonic()
    real.core.terminate(job_id)
    assert time.monotonic() - begun < UCLOUD_WAITS
    assert real.commands("scancel") > cancels
    state = real.cluster.run("squeue", "--noheader", "--states=all", f"--jobs={slurm_id},{slurm_id}", "--format=%T")
    assert state.strip() in ("CANCELLED", "")
