"""A kept scontrol: an answer is that of its question, whatever users call their jobs; nothing waits for one that hangs."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.sandbox.processes import find, wait_until
from ucloud_slurm.slurm import session, shown
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.errors import ActionRefusedError, SchedulerUnavailableError
from ucloud_slurm.slurm.parse import ParseError
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.slurm.states import SlurmState

JOB, UNKNOWN = SlurmJobId(17), SlurmJobId(99)
TEXT = """JobId=17 JobName={name}
   UserId=alice(1002) GroupId=alice(1004) MCS_label=N/A
   Priority=1 Nice=0 Account=proj-a QOS=normal
   JobState=RUNNING Reason=None Dependency=(null)
   Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0
   RunTime=1-00:00:01 TimeLimit=01:00:00 TimeMin=N/A
   SubmitTime=1796011738 EligibleTime=1796011738
   AccrueTime=Unknown
   StartTime=1796011740 EndTime=1796015340 Deadline=N/A
   SuspendTime=None SecsPreSuspend=0 LastSchedEval=1796011740 Scheduler=Backfill
   Partition=cpu AllocNode:Sid=localhost:9364
   ReqNodeList=(null) ExcNodeList=(null)
   NodeList=n[1-2]
   BatchHost=n1
   NumNodes=2 NumCPUs=4 NumTasks=2 CPUs/Task=1 ReqB:S:C:T=0:0:*:*
   {tres}
   Comment={comment}
   Command=(null)
   WorkDir=/home/alice

"""
# As an scontrol with readline: a prompt, its input once more, and what it prints.
FAKE = """#!/usr/bin/python3 -S
import os, sys, time
here = {folder!r}
if "--version" in sys.argv: sys.exit(print("slurm 22.05.8"))
open(here + "/starts", "a").write(f"{{os.getpid()}} {{' '.join(sys.argv[1:])}}\\n")
order = lambda: open(here + "/order").read()
for line in sys.stdin:
    words = line.split()
    if order() == "silent": continue
    sys.stdout.write("scontrol: " + line)
    if order() == "hangs" and words[0] in ("show", "update"): time.sleep(1000)
    if order() == "dies" and words[0] in ("show", "update"): sys.exit(1)
    if order() == "floods" and words[0] == "show": sys.stdout.write("x" * 3000000)
    if words[:2] == ["show", "job"]:
        path = here + "/job-" + words[2]
        if os.path.exists(path): sys.stdout.write(open(path).read())
        else: sys.stderr.write("slurm_load_jobs error: Invalid job id specified\\n")
    elif words[0] == "update":
        open(here + "/changes", "a").write(f"{{os.getpid()}} {{line}}")
        if words[1] == "JobId=99": sys.stderr.write("Invalid job id specified for job 99\\n")
    else:
        sys.stderr.write("invalid keyword: " + line)
    sys.stdout.flush(); sys.stderr.flush()
"""
SQUEUE = """#!/bin/sh
echo squeue >> {folder}/squeues
exit 0
"""


def text(name: str = "ucloud-1", comment: str = "(null)", tres: str = "TRES=cpu=4,node=2") -> str:
    return TEXT.format(name=name, comment=comment, tres=tres)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Commands]:
    """Slurm's commands with a kept scontrol, over stand-ins; squeue knows no job."""
    for name, script in (("scontrol", FAKE), ("squeue", SQUEUE)):
        (tmp_path / name).write_text(script.format(folder=str(tmp_path)))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "order").write_text("")
    (tmp_path / "job-17").write_text(text())
    slurm = Commands(tmp_path, tmp_path / "slurm.conf", 10.0)
    slurm.begin()
    yield slurm
    slurm.close()


def starts(folder: Path) -> list[int]:
    file = folder / "starts"
    return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []


def squeues(folder: Path) -> int:
    file = folder / "squeues"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_one_scontrol_looks_at_jobs_and_changes_them(slurm: Commands, tmp_path: Path) -> None:
    for _ in range(3):
        record = slurm.job(JOB, 5.0)
        assert record is not None
        assert (record.id, record.uid, record.state, record.submitted) == (17, 1002, SlurmState.RUNNING, 1796011738)
    with slurm.changing() as changes:
        changes.set_time_limit(JOB, 90, 5.0)
    assert slurm.job(UNKNOWN, 5.0) is None
    assert len(starts(tmp_path)) == 1
    assert squeues(tmp_path) == 0
    assert (tmp_path / "starts").read_text().endswith(" --all --local\n"), "hidden partitions, and this cluster only"


def test_it_ends_with_the_service(slurm: Commands, tmp_path: Path) -> None:
    slurm.job(JOB, 5.0)
    (pid,) = starts(tmp_path)
    slurm.close()
    assert find(pid) is None
    slurm.job(JOB, 5.0)
    assert len(starts(tmp_path)) == 1
    assert squeues(tmp_path) == 1


HOSTILE = (
    text(name="x\n   UserId=root(0) GroupId=root(0) MCS_label=N/A"),
    text(name="x\nJobId=18 JobName=y"),
    text(comment="x\n   SubmitTime=1 EligibleTime=1"),
    text(comment="x\n   JobState=COMPLETED Reason=None Dependency=(null)"),
    text().replace("UserId=alice(1002)", "UserId=alice(1002"),
    text().replace("SubmitTime=1796011738", "SubmitTime=2026-11-30T04:06:29"),
    text().replace("JobId=17", "JobId=17 ArrayJobId=17 ArrayTaskId=1-3"),
    text() + text(),
    text()[:200],
    "",
)


@pytest.mark.parametrize("printed", HOSTILE)
def test_what_is_not_certain_is_asked_of_squeue(slurm: Commands, tmp_path: Path, printed: str) -> None:
    (tmp_path / "job-17").write_text(printed)
    assert slurm.job(JOB, 5.0) is None
    assert squeues(tmp_path) == 1
    (tmp_path / "job-17").write_text(text())
    assert slurm.job(JOB, 5.0) is not None, "the next answer is that of the next question"
    assert len(starts(tmp_path)) == 1


@pytest.mark.parametrize(
    "name", ["scontrol: ", "a\n\nscontrol: show job 18", "invalid keyword: 0123456789abcdef", "é 中 \x1b[2J"]
)
def test_the_end_of_an_answer_is_a_word_that_nobody_knows(slurm: Commands, tmp_path: Path, name: str) -> None:
    (tmp_path / "job-17").write_text(text(comment=name))
    record = slurm.job(JOB, 5.0)
    assert record is not None
    assert (record.name, record.uid) == ("ucloud-1", 1002)
    assert slurm.job(UNKNOWN, 5.0) is None


def test_another_job_than_that_which_was_asked_for_is_not_believed(slurm: Commands, tmp_path: Path) -> None:
    (tmp_path / "job-99").write_text(text())
    assert slurm.job(UNKNOWN, 5.0) is None
    assert squeues(tmp_path) == 1


def test_a_refusal_is_that_of_an_scontrol_with_a_status(slurm: Commands, tmp_path: Path) -> None:
    slurm.job(JOB, 5.0)
    with pytest.raises(ActionRefusedError, match="Invalid job id specified for job 99"):
        slurm.set_time_limit(UNKNOWN, 5, 5.0)
    kept, other = starts(tmp_path)
    assert [int(line.split()[0]) for line in (tmp_path / "changes").read_text().splitlines()] == [kept, other]


def test_one_that_has_ended_is_started_again(slurm: Commands, tmp_path: Path) -> None:
    slurm.job(JOB, 5.0)
    os.kill(starts(tmp_path)[0], signal.SIGKILL)
    assert slurm.job(JOB, 5.0) is not None or squeues(tmp_path) == 1  # where its end was not seen yet
    assert slurm.job(JOB, 5.0) is not None
    assert len(starts(tmp_path)) == 2


def test_one_that_ends_in_an_answer_leaves_the_question_to_squeue(slurm: Commands, tmp_path: Path) -> None:
    (tmp_path / "order").write_text("dies")
    assert slurm.job(JOB, 5.0) is None
    assert squeues(tmp_path) == 1


def test_one_that_hangs_is_killed_in_time(slurm: Commands, tmp_path: Path) -> None:
    slurm.job(JOB, 5.0)
    (tmp_path / "order").write_text("hangs")
    begun = time.monotonic()
    with pytest.raises(SchedulerUnavailableError, match="no answer in time"):
        slurm.set_time_limit(JOB, 5, 0.3)
    assert time.monotonic() - begun < 5
    (pid,) = starts(tmp_path)
    wait_until("it has ended", lambda: find(pid) is None, seconds=10)
    (tmp_path / "order").write_text("")
    assert slurm.job(JOB, 5.0) is not None


def test_an_answer_without_an_end_is_not_kept(slurm: Commands, tmp_path: Path) -> None:
    (tmp_path / "order").write_text("floods")
    assert slurm.job(JOB, 5.0) is None
    assert squeues(tmp_path) == 1


def test_an_scontrol_that_does_not_repeat_its_input_is_not_kept(
    slurm: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "START_SECONDS", 0.2)
    (tmp_path / "order").write_text("silent")
    for _ in range(3):
        assert slurm.job(JOB, 5.0) is None
    assert len(starts(tmp_path)) == 1
    assert squeues(tmp_path) == 3


def test_nobody_waits_for_the_answer_to_another(slurm: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "WAIT_SECONDS", 0.0)
    slurm.job(JOB, 5.0)
    (tmp_path / "order").write_text("hangs")

    def look() -> None:
        with suppress(SchedulerUnavailableError):
            slurm.job(JOB, 2.0)

    first = threading.Thread(target=look)
    first.start()
    kept = slurm._session
    assert kept is not None
    wait_until("it is asked", kept._lock.locked, seconds=10)
    assert slurm.job(JOB, 5.0) is None
    assert squeues(tmp_path) == 1
    assert first.is_alive()
    slurm.close()
    first.join(30)


def test_a_fork_has_an_scontrol_of_its_own(slurm: Commands, tmp_path: Path) -> None:
    slurm.job(JOB, 5.0)
    pid = os.fork()
    if pid == 0:
        found = slurm.job(JOB, 5.0)
        slurm.close()
        os._exit(0 if found is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the fork has asked squeue"
    assert slurm.job(JOB, 5.0) is not None
    assert len(starts(tmp_path)) == 1


def test_it_reads_slurms_configuration_again_after_a_while(
    slurm: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.job(JOB, 5.0)
    monkeypatch.setattr(session, "KEPT_SECONDS", -1.0)
    assert slurm.job(JOB, 5.0) is not None
    assert len(starts(tmp_path)) == 2


@pytest.mark.parametrize(
    ("tres", "found"),
    [
        ("TRES=cpu=4,node=2", "cpu=4,node=2"),
        ("ReqTRES=cpu=4\n   AllocTRES=cpu=8", "cpu=8"),
        ("ReqTRES=cpu=4\n   AllocTRES=(null)", "cpu=4"),
    ],
)
def test_newer_releases_print_requested_and_allocated_tres(tres: str, found: str) -> None:
    assert shown.record(text(tres=tres)).tres == found
    with pytest.raises(ParseError):
        shown.record(text(tres="Power="))
