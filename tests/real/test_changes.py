"""What users and administrators do to jobs on the real cluster, and what the provider makes of it."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.core.catalogue import compute_product
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.support.factories import application, job_data, word
from tests.support.real import PATIENCE, Real

pytestmark = pytest.mark.apart

CORES = {"id": "cores", "category": "example-compute", "partition": "cpu", "cpus": 1, "memory_gb": 0.25, "gpus": 0}
PRODUCTS: tuple[dict[str, Any], ...] = (
    {"id": "example-compute-1", "category": "example-compute", "partition": "cpu"},
    CORES | {"unit": "UNITS_PER_MINUTE"},
)
SLEEP = application(word("sleep"), word("600"))


@dataclass
class Changes(Real):
    """A site whose jobs are changed by hand.

    :ivar since: when it was made; other sites had jobs on the cluster before
    """

    since: str
    ids: dict[str, str] = field(default_factory=dict)  # UCloud's, by the names of this file

    def start(self, label: str, state: str = "RUNNING") -> int:
        """A job that UCloud sees in a state; returns Slurm's number of it."""
        self.ids[label] = self.core.submit(
            application=("sleeper", "1.0.0"), product="cores", parameters={"seconds": {"type": "integer", "value": 600}}
        )
        return self.wait_for_state(label, state)

    def wait_for_state(self, label: str, state: str) -> int:
        """Waits until UCloud sees a job in a state; returns Slurm's number of it."""
        job_id, row = self.ids.get(label, label), "select slurm_id from jobs where id = ? and state = ? and slurm_id > 0"
        wait_until(f"{label} is {state}", lambda: self.site.rows(row, job_id, state) != [], seconds=PATIENCE)
        return int(self.site.rows(row, job_id, state)[0]["slurm_id"])

    def shown(self, job_id: str) -> dict[str, Any]:
        return super().shown(self.ids.get(job_id, job_id))

    def update(self, slurm_id: int, *changes: str) -> None:
        self.cluster.run("scontrol", "update", f"JobId={slurm_id}", *changes)

    def seconds(self, slurm_id: int) -> int:
        """The CPU-seconds of the allocation, from sacct's rows; sizes of one run count from the same start."""
        fields = "submit,start,elapsedraw,alloctres,end"
        rows = self.cluster.run("sacct", "-X", "-D", "-n", "-P", "-j", str(slurm_id), "-o", fields).splitlines()
        total, counted = 0, dict[str, int]()
        for row in rows:
            _, start, elapsed, tres, _ = row.split("|")
            cpus = dict(pair.split("=") for pair in tres.split(",") if pair).get("cpu", "0")
            total += (int(elapsed) - counted.get(start, 0)) * int(cpus)
            counted[start] = int(elapsed)
        return total

    def messages(self, job_id: str) -> list[str]:
        sql = "select body from outbox where job_id = ? and kind = 'update' order by id"
        return [json.loads(each["body"])["update"]["status"] for each in self.site.rows(sql, self.ids.get(job_id, job_id))]

    def end(self, job_id: str) -> None:
        """Cancels a job that has run for a second at least."""
        slurm_id = int(self.shown(job_id)["slurm_id"])
        wait_until("it has run", lambda: self.seconds(slurm_id) > 0, seconds=PATIENCE)
        self.cluster.run("scancel", str(slurm_id))
        self.wait_for_end(self.ids.get(job_id, job_id))


@pytest.fixture(scope="module")
def site(cluster: Cluster, installation: Installation) -> Iterator[Changes]:
    with site_opener(cluster, installation) as open_site:
        opened, core = open_site(loop=1.0, products=PRODUCTS)
        core.catalogue.add_product(compute_product("cores", "example"))
        yield Changes(opened, core, cluster, datetime.now(UTC).isoformat())
    cluster.run("scancel", f"--user={cluster.service_user}")


def test_an_ordinary_life_leaves_nothing_to_explain(site: Changes) -> None:
    site.start("8000")
    site.end("8000")
    done = site.site.cli("audit", f"--since={site.since}")
    assert "Everything is explained: 1 jobs." in done.stdout


def test_a_job_that_is_renamed_and_enlarged_while_it_waits_is_followed_billed_and_stopped(site: Changes) -> None:
    site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        slurm_id = site.start("8001", state="IN_QUEUE")
        site.update(slurm_id, "JobName=x", "NumCPUs=4", "Comment=mine")
    finally:
        site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    site.wait_for_state("8001", "RUNNING")
    site.end("8001")
    shown, seconds = site.shown("8001"), site.seconds(slurm_id)
    assert shown["bill"]["used"] == seconds > 0
    assert seconds % 4 == 0
    assert "cpu=4" in shown["runs"][-1]["tres"]


def test_a_job_that_is_moved_to_a_partition_with_gpus_is_followed_to_its_end(site: Changes) -> None:
    site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    try:
        slurm_id = site.start("8003", state="IN_QUEUE")
        site.update(slurm_id, "Partition=gpu", "Gres=gpu:2")
    finally:
        site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    site.wait_for_state("8003", "RUNNING")
    site.end("8003")
    (run,) = site.shown("8003")["runs"]
    assert (run["partition"], "gres/gpu=2" in run["tres"]) == ("gpu", True)
    assert site.shown("8003")["bill"]["used"] == site.seconds(slurm_id) > 0


def test_a_job_that_shrinks_is_billed_for_each_second_once(site: Changes) -> None:
    product = {"id": "cores", "category": "example-compute", "provider": "example"}
    assert site.create(job_data("8002", app=SLEEP, product=product, replicas=3))[0] == 200
    slurm_id = site.wait_for_state("8002", "RUNNING")
    wait_until("it has run", lambda: site.seconds(slurm_id) > 0, seconds=PATIENCE)
    site.update(slurm_id, "NumNodes=1")
    ended = "select 1 from runs where job_id = '8002'"
    wait_until("sacct has both sizes", lambda: len(site.site.rows(ended)) == 1, seconds=PATIENCE)
    site.end("8002")
    assert [run["nodes"] for run in site.shown("8002")["runs"]] == [3, 1]
    assert site.shown("8002")["bill"]["used"] == site.seconds(slurm_id) > 0


@pytest.mark.parametrize(
    ("job_id", "begin", "end", "words"),
    [
        ("8011", "scontrol hold {id}", "scontrol release {id}", "hold the job"),
        ("8012", "scontrol update PartitionName=cpu State=DOWN", "scontrol update PartitionName=cpu State=UP", "partition"),
        ("8013", "sacctmgr -i modify qos normal set MaxWall=1", "sacctmgr -i modify qos normal set MaxWall=-1", "time"),
    ],
)
def test_the_reason_of_a_job_that_waits_reaches_its_owner_once(
    site: Changes, job_id: str, begin: str, end: str, words: str
) -> None:
    site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    slurm_id = site.start(job_id, state="IN_QUEUE")
    try:
        site.cluster.run(*begin.format(id=slurm_id).split())
        if "State=DOWN" not in begin:
            site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
        wait_until("there is a message", lambda: any(words in text for text in site.messages(job_id)), seconds=PATIENCE)
    finally:
        site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
        site.cluster.run(*end.format(id=slurm_id).split())
    site.wait_for_state(job_id, "RUNNING")
    assert sum(words in text for text in site.messages(job_id)) == 1
    site.end(job_id)


def test_the_audit_finds_what_was_done_by_hand_and_nothing_else(site: Changes) -> None:
    ordinary, renamed = site.start("8021"), site.start("8022")

    def audit() -> set[tuple[str, int]]:
        """What is found of the jobs of this test."""
        done = site.site.cli("audit", f"--since={site.since}", "--json", check=False)
        found = {(each["kind"], each["slurm_id"]) for each in json.loads(done.stdout)["findings"]}
        assert done.returncode == (1 if found else 0)
        return {(kind, number) for kind, number in found if number >= ordinary}

    assert audit() == set()
    site.update(renamed, "JobName=x")
    site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
    enlarged = site.start("8023", state="IN_QUEUE")
    site.update(enlarged, "NumCPUs=4", "MinCPUsNode=4")
    site.cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
    by_hand = ("sbatch", "--parsable", "--chdir=/tmp", "--job-name=mine")
    unknown = int(site.cluster.run(*by_hand, user=site.cluster.service_user, stdin="#!/bin/sh\nsleep 600\n"))
    elsewhere = int(site.cluster.run(*by_hand, user="bob", stdin="#!/bin/sh\nsleep 600\n"))
    try:
        site.wait_for_state("8023", "RUNNING")
        for job_id in ("8021", "8022", "8023"):
            site.end(job_id)
        lost = site.ids["8021"]
        for statement in (
            f"delete from charges where job_id = '{lost}'",
            f"update jobs set charged = -600 where id = '{lost}'",
        ):
            subprocess.run(["sqlite3", "-cmd", ".timeout 30000", str(site.site.database), statement], check=True)
        expected = {("unbilled", ordinary), ("renamed", renamed), ("enlarged", enlarged), ("unknown", unknown)}
        wait_until("the accounting database has all", lambda: audit() >= expected, seconds=PATIENCE)
        assert audit() == expected
    finally:
        for job in (unknown, elsewhere):
            site.cluster.run("scancel", str(job))
