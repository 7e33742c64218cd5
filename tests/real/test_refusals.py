"""What a site's own plugin says, and what one person does to their own program, on the real cluster."""

import contextlib
import os
import pwd
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import CoreError
from tests.sandbox.installation import Installation
from tests.sandbox.processes import Process, find, wait_until
from tests.support.people import ALICE, BOB, PATIENCE, People, people_site

pytestmark = pytest.mark.beside

MONDAY = "The licence server is away, please try again on Monday"
LUA = f"""
function slurm_job_submit(job, partitions, uid)
    if string.match(job.name or "", "^ucloud%-") and job.comment ~= nil and job.time_limit == 37 then
        slurm.log_user("{MONDAY}")
        slurm.log_user("(slurmctld, munge, timeout)")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid)
    return slurm.SUCCESS
end
"""


@pytest.fixture(scope="module")
def people(cluster: Cluster, installation: Installation) -> Iterator[People]:
    with people_site(cluster, installation) as people:
        yield people


@pytest.fixture
def plugin(cluster: Cluster) -> Iterator[None]:
    """A job_submit plugin of the site's own."""
    before, script = cluster.conf.read_text(), cluster.conf.parent / "job_submit.lua"
    script.write_text(LUA)
    try:
        cluster.conf.write_text(f"{before}JobSubmitPlugins=lua\n")
        cluster.run("scontrol", "reconfigure")
        yield
    finally:
        cluster.conf.write_text(before)
        script.unlink()
        cluster.run("scontrol", "reconfigure")


def programs(people: People, user: str) -> list[int]:
    """The processes of the program that acts as that user."""
    uid, found = pwd.getpwnam(user).pw_uid, []
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if place.name.isdigit() and place.stat().st_uid == uid and str(people.program) in (place / "cmdline").read_text():
                found.append(int(place.name))
    return found


def reasons(people: People) -> list[str]:
    """Why the site is not ready, but for its listener and its worker, which do not run here."""
    found = requests.get(f"{people.site.url}/readyz", timeout=10).json()["reasons"]
    return [reason for reason in found if not reason.startswith(("channel", "worker"))]


@pytest.mark.usefixtures("plugin")
def test_a_plugin_refuses_in_the_sites_own_words_and_stops_nobody_else(people: People) -> None:
    before = people.squeue("--states=all", "--format=%i")
    with pytest.raises(CoreError) as refused:
        people.submit(ALICE, minutes=37)
    assert refused.value.status == 400
    assert f"{MONDAY}; (slurmctld, munge, timeout)" in str(refused.value)
    assert set(people.squeue("--states=all", "--format=%i")) <= set(before)
    job_id = people.submit(BOB)
    assert len(people.squeue(f"--name=ucloud-{job_id}", "--format=%i")) == 1, "at once"
    assert reasons(people) == []


def test_maintenance_by_the_command_refuses_new_jobs_in_all_processes_and_others_go_on(people: People) -> None:
    running = people.submit(ALICE)
    people.wait_for(running, "RUNNING")
    people.site.cli("maintenance", "on", "Slurm is upgraded.")
    try:
        before = people.squeue("--states=all", "--format=%i")
        for _ in range(8):  # more often than there are processes
            with pytest.raises(CoreError, match="This provider is under maintenance: Slurm is upgraded") as refused:
                people.submit(BOB)
            assert refused.value.status == 423
        assert set(people.squeue("--states=all", "--format=%i")) <= set(before)
        assert " 0 are being submitted, " in people.site.cli("maintenance").stdout
        people.core.extend(running, 10)
    finally:
        people.site.cli("maintenance", "off")
    people.wait_for(people.submit(BOB), "RUNNING")
    assert people.core.job(running).state == "RUNNING"


def test_a_full_home_is_explained_to_its_owner(people: People) -> None:
    jobs = Path(pwd.getpwnam("alice").pw_dir) / "ucloud-jobs"
    aside = jobs.with_name("aside")
    jobs.rename(aside)
    try:
        jobs.touch()
        with pytest.raises(CoreError) as refused:
            people.submit(ALICE)
        assert refused.value.status == 507
        assert f"{jobs}/" in str(refused.value)
        assert "rename what is in its place" in str(refused.value)
    finally:
        jobs.unlink()
        aside.rename(jobs)
    home = jobs.parent
    home.rename(home.with_name("alice-away"))
    try:
        with pytest.raises(CoreError, match="Log in to the cluster once") as refused:
            people.submit(ALICE)
        assert refused.value.status == 507
    finally:
        home.with_name("alice-away").rename(home)
    people.wait_for(people.submit(ALICE), "RUNNING")


def failed(people: People, job_id: str) -> bool:
    """Whether an attempt to submit a job has failed."""
    lines = [line for line in people.site.log.read_text().splitlines() if f"job {job_id}: " in line]
    return any(re.search("not submitted yet: the program|of its submission is unknown", line) for line in lines)


def others_go_on(people: People) -> None:
    for _ in range(2):
        job_id = people.submit(BOB)
        assert len(people.squeue(f"--name=ucloud-{job_id}", "--format=%i")) == 1, "at once"
    assert reasons(people) == []


def submits(number: int) -> bool:
    """Whether a program runs sbatch."""
    return Path(f"/proc/{number}/task/{number}/children").read_text() != ""


@contextlib.contextmanager
def each_program(people: People, user: str, what: signal.Signals, only: Callable[[int], bool] = bool) -> Iterator[None]:
    """Every program of a user's gets a signal, again and again, while the block runs."""
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            for number in programs(people, user):
                with contextlib.suppress(OSError):
                    if only(number):
                        os.kill(number, what)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def test_a_program_that_its_user_stops_delays_that_user_only(people: People) -> None:
    with each_program(people, "alice", signal.SIGSTOP):
        first = people.submit(ALICE)
        others_go_on(people)
        wait_until("it has failed", lambda: failed(people, first), seconds=PATIENCE)
        others_go_on(people)
    people.wait_for(first, "RUNNING")
    assert len(people.squeue(f"--name=ucloud-{first}", "--states=all", "--format=%i")) == 1


def parent(number: int) -> int:
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def stop_and_kill(hurt: list[int]) -> list[Process]:
    """Stops programs, and kills them when sudo has stopped with them; returns these processes of sudo."""
    sudos = [found for number in hurt if (found := find(parent(number)))]
    for number in hurt:
        os.kill(number, signal.SIGSTOP)
    # The runner may have continued one, so that it ends.
    wait_until("sudo has stopped", lambda: all(each.stopped() or not each.alive() for each in sudos), seconds=PATIENCE)
    for number in hurt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return sudos


def test_a_program_that_its_user_stops_and_kills_leaves_no_sudo_and_delays_nobody(people: People) -> None:
    people.wait_for(people.submit(ALICE), "RUNNING")
    hurt = programs(people, "alice")
    assert hurt != []
    sudos = stop_and_kill(hurt)
    job_id = people.submit(ALICE)
    assert len(people.squeue(f"--name=ucloud-{job_id}", "--format=%i")) == 1, "at once"
    others_go_on(people)
    wait_until("sudo has ended", lambda: not any(sudo.alive() for sudo in sudos), seconds=PATIENCE)


def test_a_program_that_its_user_stops_and_kills_while_the_runner_ends_leaves_no_sudo(people: People) -> None:
    people.wait_for(people.submit(ALICE), "RUNNING")
    hurt = programs(people, "alice")
    assert hurt != []
    (runner,) = (process for process in people.site.processes if "'runner'" in str(process.args))
    os.kill(runner.pid, signal.SIGSTOP)  # it continues nothing any more
    try:
        sudos = stop_and_kill(hurt)
    finally:
        runner.kill()
        people.site.end(runner)
        people.site.spawn("-m", "ucloud_slurm", "runner")
    wait_until("sudo has ended", lambda: not any(sudo.alive() for sudo in sudos), seconds=PATIENCE)
    people.wait_for(people.submit(ALICE), "RUNNING")


def test_a_program_that_its_user_kills_while_it_submits_delays_that_user_only(people: People) -> None:
    people.wait_for(people.submit(ALICE), "RUNNING")
    with each_program(people, "alice", signal.SIGKILL, only=submits):
        first = people.submit(ALICE)
        for _ in range(30):
            if failed(people, first):
                break
            first = people.submit(ALICE)
        assert failed(people, first)
        others_go_on(people)
    people.wait_for(first, "RUNNING")
    assert len(people.squeue(f"--name=ucloud-{first}", "--states=all", "--format=%i")) == 1


def limit_programs(people: People, limit: str) -> None:
    """Alice limits her processes: the soft limits (prlimit(1)), as her site could limit all of hers (limits.conf(5))."""
    entry = pwd.getpwnam("alice")
    for number in programs(people, "alice"):
        command = ["prlimit", f"--pid={number}", f"--{limit}:"]
        subprocess.run(command, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], check=True)


def test_a_user_who_may_have_no_more_processes_is_delayed_alone_and_gets_one_job(people: People) -> None:
    people.wait_for(people.submit(ALICE), "RUNNING")
    limit_programs(people, "nproc=1")
    try:
        job_id = people.submit(ALICE)
        why = "not submitted yet: /usr/bin/sbatch was not run (Resource temporarily unavailable)"
        assert f"job {job_id}: {why}" in people.site.log.read_text()
        others_go_on(people)
    finally:
        for number in programs(people, "alice"):
            os.kill(number, signal.SIGKILL)
    people.wait_for(job_id, "RUNNING")
    assert len(people.squeue(f"--name=ucloud-{job_id}", "--states=all", "--format=%i")) == 1


def test_a_user_who_may_write_no_file_reads_so_at_once(people: People) -> None:
    people.wait_for(people.submit(ALICE), "RUNNING")
    limit_programs(people, "fsize=0")
    try:
        with pytest.raises(CoreError, match=r"folder /\S* cannot be written \(File too large\); please ask") as refused:
            people.submit(ALICE)
        assert refused.value.status == 507
    finally:
        for number in programs(people, "alice"):
            os.kill(number, signal.SIGKILL)
    people.wait_for(people.submit(ALICE), "RUNNING")
