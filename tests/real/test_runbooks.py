"""P10: the guides about a full disk and a backup, played with jobs on a real installation as they are written."""

import json
import re
from collections.abc import Iterator, Sequence

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.living import WANTED, Living
from tests.sandbox.processes import wait_until
from tests.support.factories import application, word
from tests.support.pages import Step, blocks
from tests.support.real import started_core

pytestmark = pytest.mark.apart

PATIENCE = 60.0
STATE = "/var/lib/ucloud-slurm"
PROGRAM = "/opt/ucloud-slurm/bin/ucloud-slurm"
PERSON = "Alice#1"
WORKER, TIMER = "ucloud-slurm-worker.service", "ucloud-slurm-worker.timer"
STAMP = r"\d{8}T\d{6}Z"
APPLICATION = application(word("bash"), word("-c"), word("until [ -e go ]; do sleep 0.1; done"))


@pytest.fixture(scope="module")
def core() -> Iterator[SimulatedCore]:
    with started_core(APPLICATION, PERSON, first_id=854_112) as core:
        yield core


@pytest.fixture(scope="module")
def living(cluster: Cluster, installation: Installation, core: SimulatedCore) -> Iterator[Living]:
    living = Living(cluster, installation, core)
    try:
        living.start(users={"mapping": "service"}, jobs={"folder": str(living.jobs)})
        living.systemctl("start", "nginx.service", *WANTED)
        yield living
    finally:
        living.stop()
        cluster.run("scancel", f"--user={cluster.service_user}")


def start(core: SimulatedCore) -> str:
    """A job that runs until :func:`end`."""
    metadata = APPLICATION["metadata"]
    job = core.submit(
        application=(metadata["name"], metadata["version"]),
        product="example-compute-1",
        owner=PERSON,
        minutes=10,
        parameters={},
    )
    core.wait(job, "RUNNING", PATIENCE)
    return job


def end(living: Living, job: str) -> None:
    (living.jobs / job / "go").touch()


def masked(lines: Sequence[str]) -> list[str]:
    """Without what differs from run to run: numbers, times, and the columns that they widen."""
    return [re.sub(r" +", " ", re.sub(r"\d[\d.:TZ-]*", "N", line)).strip() for line in lines]


def follow(living: Living, steps: Sequence[Step]) -> None:
    """Types the commands of a guide, with the newest backup in the place of the one that it chooses."""
    for shown_command, shown in steps:
        stamps = re.findall(STAMP, living.run("find", f"{STATE}/backups", "-name", "ucloud-slurm-2*.db"))
        command = re.sub(STAMP, max(stamps), shown_command)
        printed = living.run("bash", "-c", command, check="--dry-run" not in command)
        if shown:
            assert masked(printed.splitlines()) == masked(shown), command


def check_reports(living: Living, core: SimulatedCore, jobs: Sequence[str]) -> None:
    """Each end was reported once, and UCloud has booked what the audit counts as sent, which is what Slurm counts."""
    for job in jobs:
        core.wait(job, "SUCCESS", PATIENCE)
        assert [update["state"] for update in core.job(job).updates] == ["RUNNING", "SUCCESS"]
    ours = ("runuser", "-u", "ucloud-slurm", "--", PROGRAM)
    wait_until("all is delivered", lambda: json.loads(living.run(*ours, "outbox", "--json")) == [], seconds=PATIENCE)
    booked = {report.scope: report.usage for report in core.accounts.reports}
    audit = living.run(*ours, "audit", check=False)  # the cluster has had jobs of other tests
    (sent, rest) = re.findall(rf"user {PERSON} +example-compute +\d+ +\S+ +(\d+) +(\S+)", audit)[0]
    assert abs(float(rest)) < 1
    assert re.findall("unbilled|undelivered", audit) == []
    assert sum(booked.values()) == int(sent)


def test_a_full_disk(living: Living, core: SimulatedCore) -> None:
    nearly, full, again = blocks("disk-was-full")
    living.systemctl("start", "ucloud-slurm-backup.service")
    job = start(core)
    living.systemctl("stop", TIMER)
    living.run("mount", "-o", "remount,size=90M", STATE)
    living.run("dd", "if=/dev/zero", f"of={STATE}/fill", "bs=1M", "count=40")
    with pytest.raises(CoreError, match="The provider's disk is nearly full") as refusal:
        start(core)
    assert refusal.value.status == 507
    follow(living, nearly)
    living.run("dd", "if=/dev/zero", f"of={STATE}/fill", "bs=4k", check=False)
    end(living, job)

    def pass_fails() -> bool:
        living.systemctl("start", WORKER)
        return any("full or broken" in line for line in living.journal(WORKER)[-1:])  # a pass that is well may print nothing

    wait_until("a pass needs the disk", pass_fails, seconds=PATIENCE)
    follow(living, full)
    living.run("rm", f"{STATE}/fill")
    living.run("mount", "-o", "remount,size=50%", STATE)
    follow(living, again)
    living.systemctl("start", TIMER)
    check_reports(living, core, [job])


def test_a_restored_backup_loses_and_doubles_nothing(living: Living, core: SimulatedCore) -> None:
    first = start(core)
    living.systemctl("start", "ucloud-slurm-backup.service")
    second = start(core)
    end(living, first)
    core.wait(first, "SUCCESS", PATIENCE)
    stop, choose, restore, reconcile, begin = blocks("restored-a-backup")
    for block in (stop, choose, restore, reconcile, begin):
        follow(living, block)
    end(living, second)
    check_reports(living, core, [first, second])
