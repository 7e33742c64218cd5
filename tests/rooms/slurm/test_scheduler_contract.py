"""The contract of the Scheduler, kept by every backend on the running cluster."""

import contextlib
import pwd
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rooms.slurm.conftest import Backend, Failed
from tests.sandbox.cluster import Cluster
from tests.sandbox.processes import wait_until
from ucloud_slurm.bridge import errors
from ucloud_slurm.errors import Forbidden, Problem, Refused, TooMany

WITHIN = 10.0
UNKNOWN = 9_999_999
SLEEP = "#!/bin/bash\nsleep 300\n"
HOSTILE = "a|b;c $(touch /tmp/x) `id` 'q' \"z\" %j \\ {} é 中 -"

# A job has them by when and by what it was submitted, or they change while it waits.
OWN = (
    "JobId",
    "SubmitTime",
    "EligibleTime",
    "AccrueTime",
    "StartTime",
    "EndTime",
    "LastSchedEval",
    "AllocNode:Sid",
    "Priority",
    "JobState",
    "Reason",
    "RunTime",
    "NodeList",
    "BatchHost",
    "SchedNodeList",
    "AllocTRES",
    "TRES",
    "NumNodes",
    "Scheduler",
)
# For the eye only: sbatch repeats what it says of the CPUs of a task, and tells its own line. pyslurm says what is so
# anyhow; where a site has it otherwise pyslurm is not used.
SAID = ("TresPerTask", "OOMKillStep")


def wanted(cluster: Cluster, **more: Any) -> dict[str, Any]:
    """The fields of a Submission."""
    folder = pwd.getpwnam(cluster.service_user).pw_dir
    usual: dict[str, Any] = {
        "user": cluster.service_user,
        "name": "contract",
        "comment": "of the contract",
        "script": SLEEP,
        "partition": "cpu",
        "nodes": 1,
        "cpus": 1,
        "memory": 50,
        "gres": None,
        "minutes": 30,
        "account": "proj-a",
        "qos": None,
        "constraint": None,
        "reservation": None,
        "folder": folder,
        "output": f"{folder}/contract.out",
        "error": f"{folder}/contract.err",
        "more": (),
    }
    return usual | more


def shown(cluster: Cluster, job: int) -> str:
    """What Slurm says of a job."""
    return cluster.run("scontrol", "show", "job", str(job))


def field(text: str, name: str) -> str:
    found = re.search(rf"(?:^|\s){re.escape(name)}=(\S*)", text)
    assert found is not None, f"{name} is not in {text}"
    return found[1]


def common(cluster: Cluster, job: int) -> list[str]:
    """What a job has in common with another that was asked for in the same words."""
    # scontrol fills in patterns, even where Slurm does not.
    text = shown(cluster, job)
    for path in (pwd.getpwnam(cluster.service_user).pw_dir, str(cluster.folder)):  # which have numbers of their own
        text = text.replace(path, "PATH")
    text = re.sub(r"^ *Std(Out|Err)=.*$", lambda line: line[0].replace(str(job), "ID"), text, flags=re.M)
    text = re.sub(r"^ *SubmitLine=.*$", "", text, flags=re.M)
    for name in (*OWN, *SAID):
        text = re.sub(rf"(?:^|(?<=\s)){re.escape(name)}=\S*", "", text)
    return text.split()


def environment(cluster: Cluster, job: int) -> set[str]:
    """What a job was given, as the controller keeps it."""
    (file,) = (cluster.folder / "state").glob(f"hash.*/job.{job}/environment")
    texts = file.read_bytes()[4:].split(b"\0")
    return {text.decode() for text in texts if text}


def script(cluster: Cluster, job: int) -> bytes:
    (file,) = (cluster.folder / "state").glob(f"hash.*/job.{job}/script")
    return file.read_bytes()


def until(slurm: Backend, job: int, *states: str) -> dict[str, Any]:
    """Waits for one of these states."""
    found: dict[str, Any] = {}

    def there() -> bool:
        record = slurm("job", job, WITHIN)
        found.update(record or {})
        return record is not None and record["state"] in states

    wait_until(f"job {job} is {' or '.join(states)}", there, seconds=60)
    return found


VARIATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "whole nodes": {"nodes": 2, "tasks": 2, "cpus": 2, "exclusive": True},
    "devices": {"partition": "gpu", "gres": "gpu:a100:2"},
    "a kind of device": {"partition": "gpu", "gres": "gpu:1"},
    "defaults": {"memory": None, "minutes": None, "account": None},
    "a warning to all": {"signal": "B:USR1@120"},
    "a warning to the steps": {"signal": "TERM@90"},
    "a quality": {"qos": "high", "account": "proj-c"},
    "signs": {"name": HOSTILE, "comment": HOSTILE},
    "a long limit": {"minutes": 7 * 1440 - 1},
    "patterns": {"output": "/tmp/100%/%j-%u.out", "error": "/tmp/%A"},
    "much text": {"script": "#!/bin/bash\n" + "# x\n" * 50_000},
    "options of the site's own": {"more": ["--begin=now+1hour", "--nice=5"]},
    "options left out": {"omit": ["cpus-per-task", "gres", "mem", "nodes", "ntasks-per-node"]},
}


@pytest.fixture
def standstill(cluster: Cluster) -> Iterator[None]:
    """Jobs are taken, and none begins."""
    for state in ("DOWN", "UP"):
        for partition in ("cpu", "gpu"):
            cluster.run("scontrol", "update", f"PartitionName={partition}", f"State={state}")
        if state == "DOWN":
            yield


@pytest.mark.usefixtures("standstill")
@pytest.mark.parametrize("what", VARIATIONS)
def test_a_job_is_the_one_that_sbatch_makes(cluster: Cluster, slurm: Backend, commands: Backend, what: str) -> None:
    job = wanted(cluster, **VARIATIONS[what])
    before = slurm("counts").get("pyslurm submit", 0)
    ours, theirs = slurm("submit", job, WITHIN), commands("submit", job, WITHIN)
    if slurm.name == "pyslurm":
        assert slurm("counts").get("pyslurm submit", 0) - before == (0 if job["more"] or job.get("omit") else 1)
    assert common(cluster, ours) == common(cluster, theirs)
    assert environment(cluster, ours) == environment(cluster, theirs)
    assert script(cluster, ours) == script(cluster, theirs)


def test_every_field_of_a_submission_reaches_slurm(cluster: Cluster, slurm: Backend) -> None:
    job = wanted(
        cluster,
        nodes=2,
        tasks=2,
        cpus=2,
        memory=300,
        minutes=95,
        qos="high",
        exclusive=True,
        output="/tmp/%j/out",
        error="/tmp/err",
        signal="B:USR1@120",
    )
    text = shown(cluster, slurm("submit", job, WITHIN))
    expected = {
        "JobName": "contract",
        "Partition": "cpu",
        "Account": "proj-a",
        "QOS": "high",
        "NumTasks": "4",
        "CPUs/Task": "2",
        "MinMemoryNode": "300M",
        "TimeLimit": "01:35:00",
        "WorkDir": job["folder"],
        "StdErr": "/tmp/err",
        "Requeue": "1",
        "BatchFlag": "1",
        "Comment": "of",
    }
    assert {name: field(text, name) for name in expected} == expected
    assert field(text, "UserId").startswith(f"{cluster.service_user}(")
    assert field(text, "GroupId").startswith(f"{cluster.service_user}(")
    assert re.search(r"OverSubscribe=(NO|EXCLUSIVE)|Exclusive=NODE", text)


def test_names_and_comments_are_data(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster, name=HOSTILE, comment=HOSTILE), WITHIN)
    assert slurm("job", job, WITHIN)["name"] == HOSTILE
    listed = cluster.run("squeue", "--noheader", f"--jobs={job},{job}", "--format=%k")
    assert listed.rstrip("\n") == HOSTILE


REFUSED: dict[str, tuple[dict[str, Any], type[Problem]]] = {
    "a partition that is not": ({"partition": "nowhere"}, Refused),
    "an account that is not": ({"account": "nobody"}, Forbidden),
    "a quality that is not": ({"qos": "nothing"}, Refused),
    "more memory than there is": ({"memory": 900_000}, Refused),
    "a device that is not": ({"gres": "gpu:a100:1"}, Refused),
    "a feature that is not": ({"constraint": "nothing"}, Refused),
    "a reservation that is not": ({"reservation": "nothing"}, Refused),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_has_slurms_own_words(cluster: Cluster, slurm: Backend, commands: Backend, what: str) -> None:
    more, kind = REFUSED[what]
    said = []
    for one in (slurm, commands):
        with pytest.raises(Failed) as caught:
            one("submit", wanted(cluster, **more), WITHIN)
        assert caught.value.kind == "SubmissionRefusedError"
        said.append(caught.value.text)
    assert said[0] == said[1]
    assert type(errors.problem(said[0])) is kind


def test_a_limit_on_jobs_is_a_refusal(cluster: Cluster, slurm: Backend) -> None:
    job = wanted(cluster, account="proj-c", qos="limited")
    for _ in range(2):
        slurm("submit", job, WITHIN)
    with pytest.raises(Failed) as caught:
        slurm("submit", job, WITHIN)
    assert caught.value.kind == "SubmissionRefusedError"
    assert type(errors.problem(caught.value.text)) in (TooMany, Refused)


def test_an_unknown_job_is_none_and_nothing_is_done_to_it(cluster: Cluster, slurm: Backend) -> None:
    assert slurm("job", UNKNOWN, WITHIN) is None
    slurm("cancel", [UNKNOWN], WITHIN)
    for call in ("suspend", "resume", "hold", "release"):
        with pytest.raises(Failed) as caught:
            slurm(call, UNKNOWN, WITHIN)
        # Slurm's commands say of some of these what they say of a controller that is away.
        assert caught.value.kind in ("ActionRefusedError", "SchedulerUnavailableError")
    with pytest.raises(Failed) as caught:
        slurm("set_time_limit", UNKNOWN, 5, WITHIN)
    assert caught.value.kind in ("ActionRefusedError", "SchedulerUnavailableError")


def test_slurm_does_not_hear_of_a_submission_that_is_abandoned(cluster: Cluster, slurm: Backend) -> None:
    slurm("abandon", wanted(cluster, name="abandoned"))
    job = slurm("submit", wanted(cluster, name="sent"), WITHIN)
    queue = {record["id"]: record["name"] for record in slurm("queue", [uid_of(cluster)])}
    assert queue[job] == "sent"
    assert "abandoned" not in queue.values()


def looked_at(slurm: Backend, listed: dict[str, Any]) -> dict[str, Any]:
    """A record of squeue's as the backend gives that of one job: pyslurm has no requested TRES, which only lists need."""
    return listed | {"tres": ""} if slurm.name == "pyslurm" else listed


def test_a_job_is_looked_at_as_it_is_listed(cluster: Cluster, slurm: Backend, commands: Backend) -> None:
    waiting = slurm("submit", wanted(cluster, more=["--begin=now+1hour"]), WITHIN)
    running = slurm("submit", wanted(cluster, nodes=2, name="two"), WITHIN)
    until(slurm, running, "RUNNING")
    for job in (waiting, running):
        one, other = slurm("job", job, WITHIN), commands("job", job, WITHIN)
        assert abs(one.pop("elapsed") - other.pop("elapsed")) <= 2
        assert one == looked_at(slurm, other)
        listed = [record for record in slurm("queue", [uid_of(cluster)]) if record["id"] == job]
        assert [looked_at(slurm, record) | {"elapsed": 0} for record in listed] == [one | {"elapsed": 0}]
    two = slurm("job", running, WITHIN)
    assert (two["name"], two["nodes"], two["minutes"]) == ("two", 2, 30)


def test_the_queue_is_that_of_the_users_who_are_named(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster), WITHIN)
    assert slurm("queue", []) == []
    assert job in [record["id"] for record in slurm("queue", None)]
    assert job in [record["id"] for record in slurm("queue", [uid_of(cluster)])]
    assert job not in [record["id"] for record in slurm("queue", [pwd.getpwnam(user).pw_uid for user in cluster.users])]


def test_runs_are_found_by_id_and_by_name(cluster: Cluster, slurm: Backend) -> None:
    name, since = f"run-{slurm.name}-{time.time_ns()}", time.time() - 60
    job = slurm("submit", wanted(cluster, name=name, script="#!/bin/bash\nexit 3\n"), WITHIN)
    until(slurm, job, "FAILED")
    found: list[Any] = []

    def known() -> bool:
        found[:] = [slurm("runs", [job]), slurm("runs_named", [name], since)]
        # sacct may have the end before it has the beginning, and calls the job "allocation" until then.
        return all(len(runs) == 1 and runs[0]["ended"] and runs[0]["name"] == name for runs in found)

    wait_until("its end is written down", known, seconds=60)
    (by_id,), (by_name,) = found
    # It is sbatch that Slurm keeps a command line of.
    assert f"--job-name={name}" in by_name["submit_line"] or (slurm.name, by_name["submit_line"]) == ("pyslurm", "")
    assert by_id == by_name | {"submit_line": ""}
    assert (by_id["uid"], by_id["partition"], by_id["folder"]) == (uid_of(cluster), "cpu", wanted(cluster)["folder"])
    assert "cpu=1" in by_id["tres"]
    assert "cpu=1" in by_id["requested"]
    assert (by_id["state"], by_id["exit_code"], by_id["signal"]) == ("FAILED", 3, 0)
    assert [run["id"] for run in slurm("runs_of", [uid_of(cluster)], since) if run["name"] == name] == [job]
    nobody = 59_999  # an account that is gone
    assert slurm("runs_of", [nobody], since) == []
    assert job in [run["id"] for run in slurm("runs_of", [nobody, uid_of(cluster)], since)]


def test_an_account_that_is_gone_hides_no_job_of_others(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster), WITHIN)
    assert job in [record["id"] for record in slurm("queue", [59_999, uid_of(cluster)])]
    assert slurm("queue", [59_999]) == []


def test_what_is_allocated_is_in_the_queue(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster, cpus=2), WITHIN)
    until(slurm, job, "RUNNING")
    (record,) = [each for each in slurm("queue", [uid_of(cluster)]) if each["id"] == job]
    assert (record["uid"], record["restarts"], record["cpus"]) == (uid_of(cluster), 0, 2)
    assert {"cpu=2", "node=1"} <= set(record["tres"].split(","))


def test_jobs_are_listed_by_their_names_with_comment_and_folder(cluster: Cluster, slurm: Backend) -> None:
    name = f"named-{slurm.name}-{time.time_ns()}"
    texts = {"comment": HOSTILE, "name": name}
    jobs = [slurm("submit", wanted(cluster, **texts), WITHIN) for _ in range(2)]
    found = slurm("queue_named", [name, "another"])
    assert sorted(each["id"] for each in found) == sorted(jobs)
    assert {(each["comment"], each["folder"], each["uid"], each["nodes"], each["cpus"]) for each in found} == {
        (HOSTILE, wanted(cluster)["folder"], uid_of(cluster), 1, 1)
    }


def uid_of(cluster: Cluster) -> int:
    """The account that the jobs of this suite run as."""
    return pwd.getpwnam(cluster.service_user).pw_uid


def test_a_job_is_cancelled_by_its_number_once_and_again(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster), WITHIN)
    until(slurm, job, "RUNNING")
    slurm("cancel", [job], WITHIN)
    until(slurm, job, "CANCELLED")
    slurm("cancel", [job], WITHIN)


def test_a_job_that_waits_is_cancelled(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster, more=["--begin=now+1hour"]), WITHIN)
    slurm("cancel", [job], WITHIN)
    until(slurm, job, "CANCELLED")


@pytest.mark.parametrize("number", [2, 6])
def test_several_jobs_are_looked_at_and_cancelled_at_once(cluster: Cluster, slurm: Backend, number: int) -> None:
    jobs = [slurm("submit", wanted(cluster, more=["--begin=now+1hour"]), WITHIN) for _ in range(number)]
    others = [slurm("submit", wanted(cluster, more=["--begin=now+1hour"]), WITHIN)]
    found = slurm("some", [*jobs, UNKNOWN], WITHIN)
    ordered = sorted(found, key=lambda record: record["id"])
    assert [looked_at(slurm, record) for record in ordered] == [slurm("job", job, WITHIN) for job in jobs]
    assert slurm("cancel", [*jobs, UNKNOWN], WITHIN) == {}
    states = {record["id"]: record["state"] for record in slurm("some", [*jobs, *others], WITHIN)}
    assert states == dict.fromkeys(jobs, "CANCELLED") | dict.fromkeys(others, "PENDING")


@pytest.mark.parametrize("number", [2, 6])
def test_several_unknown_jobs_are_none(slurm: Backend, number: int) -> None:
    unknown = [*range(UNKNOWN, UNKNOWN + number)]
    assert slurm("some", unknown, WITHIN) == []
    assert slurm("cancel", unknown, WITHIN) == {}


def test_a_change_is_made_when_it_is_decided_and_not_before(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster, more=["--begin=now+1hour"]), WITHIN)
    before = slurm("job", job, WITHIN)
    slurm("changing", [])
    assert slurm("job", job, WITHIN) == before
    slurm("changing", [["set_time_limit", job, 95, WITHIN], ["hold", job, WITHIN]])
    after = slurm("job", job, WITHIN)
    assert (after["minutes"], "Held" in after["reason"]) == (95, True)
    with pytest.raises(Failed) as caught:
        slurm("changing", [["suspend", job, WITHIN]])
    assert caught.value.kind == "ActionRefusedError"


def test_jobs_of_others_are_changed_by_an_operator(cluster: Cluster, slurm: Backend) -> None:
    user = cluster.users[0]
    line = cluster.run("sbatch", "--parsable", "--job-name=theirs", "--time=5", user=user, stdin=SLEEP)
    job = int(line)
    slurm("set_time_limit", job, 10, WITHIN)
    assert slurm("job", job, WITHIN)["minutes"] == 10
    slurm("cancel", [job], WITHIN)
    until(slurm, job, "CANCELLED")


def test_a_new_limit_counts(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster, minutes=5), WITHIN)
    until(slurm, job, "RUNNING")
    for minutes in (2000, 7):
        slurm("set_time_limit", job, minutes, WITHIN)
        assert slurm("job", job, WITHIN)["minutes"] == minutes
    slurm("cancel", [job], WITHIN)
    until(slurm, job, "CANCELLED")
    with pytest.raises(Failed) as caught:
        slurm("set_time_limit", job, 9, WITHIN)
    assert caught.value.kind == "ActionRefusedError"
    assert errors.action(caught.value.text).why == "The job has ended."


def test_a_job_is_suspended_and_resumed(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster), WITHIN)
    until(slurm, job, "RUNNING")
    slurm("suspend", job, WITHIN)
    until(slurm, job, "SUSPENDED")
    slurm("resume", job, WITHIN)
    until(slurm, job, "RUNNING")


def test_a_job_that_waits_is_held_and_let_go(cluster: Cluster, slurm: Backend) -> None:
    job = slurm("submit", wanted(cluster, more=["--begin=now+1hour"]), WITHIN)
    with pytest.raises(Failed) as caught:
        slurm("suspend", job, WITHIN)
    assert caught.value.kind == "ActionRefusedError"
    assert "waits in the queue" in errors.action(caught.value.text).why
    slurm("hold", job, WITHIN)
    assert slurm("job", job, WITHIN)["reason"] in ("JobHeldAdmin", "JobHeldUser")
    slurm("release", job, WITHIN)
    wait_until("it is not held", lambda: "Held" not in slurm("job", job, WITHIN)["reason"], seconds=30)


def test_what_the_cluster_is_like(cluster: Cluster, slurm: Backend) -> None:
    partitions = {partition["name"]: partition for partition in slurm("partitions", WITHIN)}
    assert {"cpu", "gpu", "debug"} <= set(partitions)
    assert (partitions["debug"]["up"], partitions["debug"]["minutes"]) == (True, 5)
    assert [node["name"] for node in slurm("nodes", "n[1-2]", WITHIN)] == ["n1", "n2"]
    assert slurm("load", ["cpu"], WITHIN)["cpus"] > 0
    assert slurm("accounts", cluster.service_user, WITHIN) == ["proj-a", "proj-c"]
    assert slurm("is_operator", cluster.service_user, WITHIN)
    assert not slurm("is_operator", cluster.users[0], WITHIN)
    assert re.match(r"\d\d\.\d\d\.", slurm("version"))
    assert slurm("accounting_backlog", WITHIN) in range(1000)


@contextlib.contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    cluster.freeze("slurmctld")
    try:
        yield
    finally:
        cluster.thaw("slurmctld")


@contextlib.contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    cluster.stop_daemon("slurmctld")
    try:
        yield
    finally:
        cluster.start_daemon("slurmctld")


@pytest.mark.parametrize("away", [frozen, stopped])
def test_a_controller_that_is_away_is_ignorance_in_time(cluster: Cluster, slurm: Backend, away: Any) -> None:
    name, limit, since = f"away-{slurm.name}-{time.time_ns()}", 1.0, time.time() - 60
    job = slurm("submit", wanted(cluster), WITHIN)
    with away(cluster):
        for call, kinds in (
            (("submit", wanted(cluster, name=name), limit), ("OutcomeUnknownError", "SchedulerUnavailableError")),
            (("job", job, limit), ("SchedulerUnavailableError",)),
            (("cancel", [job], limit), ("SchedulerUnavailableError",)),
            (("set_time_limit", job, 9, limit), ("SchedulerUnavailableError",)),
            (("some", [*range(job, job + 9)], limit), ("SchedulerUnavailableError",)),
            (("changing", [["suspend", job, limit]]), ("SchedulerUnavailableError",)),
            (("suspend", job, limit), ("SchedulerUnavailableError",)),
            (("hold", job, limit), ("SchedulerUnavailableError",)),
            (("partitions", limit), ("SchedulerUnavailableError",)),
        ):
            begun = time.monotonic()
            with pytest.raises(Failed) as caught:
                slurm(*call)
            assert caught.value.kind in kinds, call
            assert time.monotonic() - begun < limit + 1.5, call
    wait_until("it answers", lambda: answers(slurm), seconds=60)
    slurm.ready()
    made = [record for record in slurm("queue", [uid_of(cluster)]) if record["name"] == name]
    assert len(made) <= 1
    assert {run["id"] for run in slurm("runs_named", [name], since)} <= {record["id"] for record in made}


def answers(slurm: Backend) -> bool:
    try:
        slurm("partitions", 2.0)
    except Failed:
        return False
    return True
