"""What goes wrong at real sites, made to happen on the real cluster: one Slurm job per job all the same."""

import contextlib
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OpenSite, site_opener
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.errors import CoreError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.relay import Relay
from tests.sandbox.site import Site
from tests.support import disks
from tests.support.factories import application, job_data, word

UCLOUD_WAITS = 3.0
PATIENCE = 90.0
SLEEP = application(word("sleep"), word("3"))
QUICK = {"jobs": {"quiet": "6s", "grace": "5s"}, "slurm": {"timeout": "4s"}}


def create(core: SimulatedCore, *jobs: dict[str, Any]) -> tuple[float, int, Any]:
    """Seconds, status and body of a create."""
    begun = time.monotonic()
    status, body = core.call("POST", "/ucloud/example/jobs", {"items": list(jobs)})
    return time.monotonic() - begun, status, body


def phase(site: Site, job_id: str) -> str:
    return str(site.rows("select phase from jobs where id = ?", job_id)[0]["phase"])


def slurm_jobs(cluster: Cluster, job_id: str) -> set[str]:
    """Every Slurm job that was ever made for the UCloud job."""
    found = cluster.run("squeue", "--noheader", "--states=all", f"--name=ucloud-{job_id}", "--format=%A").split()
    found += cluster.run(
        "sacct", "-X", "-n", "-P", "-a", "-S", "now-1days", f"--name=ucloud-{job_id}", "-o", "jobidraw"
    ).split()
    return set(found)


@contextlib.contextmanager
def frozen(cluster: Cluster, daemon: str) -> Iterator[None]:
    cluster.freeze(daemon)
    try:
        yield
    finally:
        cluster.thaw(daemon)


def test_a_frozen_controller_keeps_nobody_waiting_and_gets_one_job(cluster: Cluster, open_site: OpenSite) -> None:
    site, core = open_site(tables=QUICK)
    create(core, job_data("1000", app=SLEEP))  # the partitions are known from now on
    with frozen(cluster, "slurmctld"):
        first, status, _ = create(core, job_data("1001", app=SLEEP))
        again, second_status, _ = create(core, job_data("1002", app=SLEEP))
        assert (status, second_status) == (200, 200)
        assert max(first, again) < UCLOUD_WAITS
        assert site.cli("worker", check=False).returncode == 75
        assert phase(site, "1001") == "submitting"
    site.loop(1.0)
    for job_id in ("1001", "1002"):
        wait_until(f"{job_id} has ended", lambda id_=job_id: phase(site, id_) == "ended", seconds=PATIENCE)  # type: ignore[misc]
        assert len(slurm_jobs(cluster, job_id)) == 1


def test_a_controller_that_is_cut_off_changes_no_job(cluster: Cluster, relay: Relay, open_site: OpenSite) -> None:
    conf = relay.conf_for(cluster, cluster.folder / "relay-test")
    site, core = open_site(tables=QUICK, conf=conf)
    long = application(word("sleep"), word("20"))
    create(core, job_data("1010", app=long))
    relay.cut()
    seconds, status, _ = create(core, job_data("1011", app=SLEEP))
    assert (status, seconds < UCLOUD_WAITS) == (200, True)
    (slurm_id,) = slurm_jobs(cluster, "1010")
    cluster.run("scancel", slurm_id)
    before = site.cli("show", "1010", "--json").stdout
    assert site.cli("worker", check=False).returncode == 75
    assert site.cli("show", "1010", "--json").stdout == before
    relay.restore()
    site.loop(1.0)
    for job_id in ("1010", "1011"):
        wait_until(f"{job_id} has ended", lambda id_=job_id: phase(site, id_) == "ended", seconds=PATIENCE)  # type: ignore[misc]
        assert len(slurm_jobs(cluster, job_id)) == 1


@pytest.mark.parametrize("daemon", ["munged", "slurmdbd", "mariadbd"])
def test_a_job_that_ends_while_a_daemon_is_away_is_told_when_it_is_back(
    cluster: Cluster, open_site: OpenSite, daemon: str
) -> None:
    site, core = open_site(tables=QUICK)
    number = {"munged": "1020", "slurmdbd": "1021", "mariadbd": "1022"}[daemon]
    create(core, job_data(number, app=application(word("sleep"), word("1"))))
    (slurm_id,) = slurm_jobs(cluster, number)
    done = ("squeue", "--noheader", "--states=CD", f"--jobs={slurm_id},{slurm_id}")
    wait_until("it has ended", lambda: cluster.run(*done) != "", seconds=PATIENCE)
    cluster.stop_daemon(daemon)
    try:
        assert site.cli("worker", check=False).returncode == 75
        assert phase(site, number) == "live"
    finally:
        cluster.start_daemon(daemon)
    wait_until(
        "it is told",
        lambda: site.cli("worker", check=False).returncode == 0 and phase(site, number) == "ended",
        seconds=PATIENCE,
    )


FAKES = {
    "hangs after it submitted": '"$REAL" "$@" >/dev/null; exec sleep 100',
    "prints nothing": '"$REAL" "$@" >/dev/null; exit 0',
    "prints garbage": '"$REAL" "$@" >/dev/null; echo "Submitted batch job"; exit 0',
    "prints an id and an error": '"$REAL" "$@"; echo "sbatch: error: Socket timed out" >&2; exit 1',
    "says that it timed out": (
        '"$REAL" "$@" >/dev/null; echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv '
        'operation" >&2; exit 1'
    ),
    "dies": '"$REAL" "$@" >/dev/null; kill -9 $$',
}


FAKED = {what: str(1100 + number) for number, what in enumerate(FAKES)}


@pytest.fixture(scope="module")
def faked(cluster: Cluster, installation: Installation) -> Iterator[tuple[Site, dict[str, tuple[float, int]]]]:
    """A site with one job for each of them, side by side; seconds and status of their creates."""
    folder = cluster.folder / "fakes" / "by-job"
    cases = "\n".join(f"*--job-name=ucloud-{job_id}' '*) {FAKES[what]};;" for what, job_id in FAKED.items())
    fake_commands(cluster, folder, f'case " $* " in\n{cases}\nesac')
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(tables=QUICK, commands=folder)
        answers = {what: create(core, job_data(job_id, app=SLEEP))[:2] for what, job_id in FAKED.items()}
        site.loop(1.0)
        yield site, answers


@pytest.mark.parametrize("what", FAKES)
def test_an_sbatch_that_tells_nothing_useful_makes_one_job(
    cluster: Cluster, faked: tuple[Site, dict[str, tuple[float, int]]], what: str
) -> None:
    site, answers = faked
    seconds, status = answers[what]
    assert (status, seconds < UCLOUD_WAITS) == (200, True)
    wait_until("it has ended", lambda: phase(site, FAKED[what]) == "ended", seconds=PATIENCE)
    assert len(slurm_jobs(cluster, FAKED[what])) == 1


def fake_commands(cluster: Cluster, folder: Path, script: str) -> None:
    """A folder of Slurm's commands of which sbatch is ours."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("squeue", "sacct", "scancel", "sinfo", "scontrol"):
        (folder / name).symlink_to(cluster.commands / name)
    sbatch = folder / "sbatch"
    sbatch.write_text(f"#!/bin/bash\nREAL={cluster.commands}/sbatch\n{script}\n")
    sbatch.chmod(0o755)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_service_killed_in_the_middle_of_a_submission_leaves_one_job(
    cluster: Cluster, open_site: OpenSite, moment: str
) -> None:
    folder = cluster.folder / "fakes" / f"killed-{moment}"
    place = cluster.folder / "fakes" / "writable"
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o777)
    once = f"mkdir {place}/{moment} 2>/dev/null && kill -9 $PPID"
    real = 'printf "%s" "$SCRIPT" | "$REAL" "$@"'
    steps = (once, real) if moment == "before" else (real, once)
    fake_commands(cluster, folder, "\n".join(("SCRIPT=$(cat; echo .); SCRIPT=${SCRIPT%.}", *steps)))
    site, core = open_site(tables=QUICK, commands=folder)
    job_id = {"before": "1201", "after": "1202"}[moment]
    with pytest.raises(CoreError):
        create(core, job_data(job_id, app=SLEEP))
    site.loop(1.0)
    wait_until("it has ended", lambda: phase(site, job_id) == "ended", seconds=PATIENCE)
    assert create(core, job_data(job_id, app=SLEEP))[1] == 200
    assert len(slurm_jobs(cluster, job_id)) == 1


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[Path]:
    """A disk of 2 MiB that belongs to the service account."""
    owner = pwd.getpwnam(cluster.service_user)
    options = f"size=2m,mode=700,uid={owner.pw_uid},gid={owner.pw_gid}"
    with disks.disk(cluster.folder / "small-disk", options) as disk:
        yield disk


def test_a_full_disk_is_said_and_nothing_is_submitted_without_a_row(
    cluster: Cluster, small_disk: Path, open_site: OpenSite
) -> None:
    site, core = open_site(database=small_disk / "small.db", tables={"database": {"minimum_free": "0MiB"}})
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                break
    seconds, status, body = create(core, job_data("1300", app=SLEEP))
    assert (status, seconds < UCLOUD_WAITS) == (507, True)
    assert "disk" in body["why"]
    assert slurm_jobs(cluster, "1300") == set()
    filler.unlink()
    _, status, _ = create(core, job_data("1300", app=SLEEP))
    assert status == 200
    assert len(slurm_jobs(cluster, "1300")) == 1
    site.stop()
