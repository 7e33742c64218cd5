"""Slurm's output: whole or an error, never half."""

from collections.abc import Callable, Sized

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.records import QueueRecord, RunRecord
from ucloud_slurm.slurm.sbatch import refusal
from ucloud_slurm.slurm.states import SlurmState

MARK = "5f3a"
S, E, D = parse.SEPARATOR, parse.END, parse.delimiter(MARK)
M = E + MARK
QUEUE_ROW = {
    "JobID": "7", "State": "RUNNING", "SubmitTime": "1795487297", "StartTime": "1795487299", "TimeUsed": "1-02:03:04",
    "NumNodes": "2", "NumCPUs": "32", "UserID": "1001", "UserName": "alice", "Reason": "None", "NodeList": "n[1-2]",
    "TimeLimit": "1:30:00", "Account": "proj-a", "Partition": "cpu", "RestartCnt": "1",
    "tres-alloc": "cpu=32,mem=3200M,node=2,billing=40,gres/gpu=4", "Name": "ucloud-1-x",
}  # fmt: skip
RUN_ROW = {
    "JobIDRaw": "7", "State": "CANCELLED by 0", "Submit": "1795487297", "Start": "1795487299", "End": "1795487400",
    "ElapsedRaw": "101", "ExitCode": "0:15", "NNodes": "2", "AllocCPUS": "32", "UID": "1001", "User": "alice",
    "NodeList": "n[1-2]", "Partition": "cpu", "Account": "proj-a", "AllocTRES": "billing=32,cpu=32,mem=3200M,node=2",
    "ReqTRES": "billing=1,cpu=30,mem=3200M,node=2", "WorkDir": "/home/alice/1", "Comment": "", "JobName": "ucloud-1-x",
}  # fmt: skip


def queue_row(**changed: str) -> str:
    row = QUEUE_ROW | {name.replace("_", "-"): value for name, value in changed.items()}
    return S.join((*(row[field] for field in parse.QUEUE_FIELDS), M)) + "\n"


def run_row(**changed: str) -> str:
    row = RUN_ROW | changed
    return D.join(row[field] for field in parse.RUN_FIELDS) + "\n"


QUEUE = queue_row()
PENDING = queue_row(
    JobID="8",
    State="PENDING",
    StartTime="N/A",
    TimeUsed="0:00",
    Reason="Priority",
    NodeList="",
    TimeLimit="UNLIMITED",
    Name="a|b",
)
RUN = run_row()
WAITING = run_row(
    JobIDRaw="8", State="PENDING", Start="Unknown", End="Unknown", ElapsedRaw="0", AllocCPUS="0", AllocTRES="", JobName="x"
)
SINFO = (
    S.join(("cpu", "up", "7-00:00:00", "1-infinite", "4", "16", "8000", "(null)", E))
    + "\n"
    + S.join(("cpu", "up", "7-00:00:00", "1-infinite", "2", "64", "512000", "gpu:a100:4(S:0)", E))
    + "\n"
    + S.join(("debug", "drain", "infinite", "1-2", "1", "16+", "8000+", "(null)", E))
    + "\n"
)


def queue(output: str) -> list[QueueRecord]:
    return parse.queue(output, MARK)


def runs(output: str) -> list[RunRecord]:
    return parse.runs(output, MARK)


@pytest.mark.parametrize("field", ["SubmitTime", "TimeUsed", "NumNodes", "NumCPUs", "UserID", "TimeLimit", "RestartCnt"])
def test_a_row_that_cannot_be_read_is_one_jobs_trouble(field: str) -> None:
    odd, other = queue(queue_row(**{field: "?!"}) + PENDING)
    assert (odd.id, odd.state, odd.uid, other.id, other.state) == (7, None, None, 8, SlurmState.PENDING)


@pytest.mark.parametrize("field", ["Submit", "Start", "End", "ElapsedRaw", "ExitCode", "NNodes", "AllocCPUS", "UID"])
def test_a_run_that_cannot_be_read_is_one_jobs_trouble(field: str) -> None:
    odd, other = runs(run_row(**{field: "?!"}) + WAITING)
    assert (odd.id, odd.state, odd.is_whole, other.id, other.is_whole) == (7, None, False, 8, True)


def test_an_end_without_its_beginning_is_no_whole_run() -> None:
    """Slurmdbd may have the end of a short job first; the row it makes for that has a name of its own and no TRES."""
    row = run_row(JobName="allocation", AllocTRES="", ReqTRES="")
    early, renamed = runs(row + run_row(JobName="allocation", AllocTRES=""))
    assert (early.is_whole, renamed.is_whole) == (False, True)


@pytest.mark.parametrize("field", ["Comment", "WorkDir", "User"])
def test_any_text_of_a_run_may_hold_line_feeds(field: str) -> None:
    first, second = runs(run_row(**{field: "one\n8\ntwo"}) + WAITING)
    assert (first.id, first.name, second.id, second.name) == (7, "ucloud-1-x", 8, "x")


def test_jobs_with_our_names_are_read_whatever_their_texts_are() -> None:
    row = {
        "JobID": "7",
        "UserID": "1001",
        "SubmitTime": "5",
        "NumNodes": "1",
        "NumCPUs": "2",
        "Account": "a",
        "Partition": "cpu",
    }
    texts = {"WorkDir": "/w\n9", "Comment": "two\nlines", "Name": "n\n8"}
    text = "".join(f"{(row | texts)[field]}{D}" for field in parse.NAMED_FIELDS) + "\n"
    first, second = parse.named(text + text.replace("n\n8", "m"), MARK)
    assert (first.folder, first.comment, first.name, second.name) == ("/w\n9", "two\nlines", "n\n8", "m")
    with pytest.raises(parse.ParseError):
        parse.named(text[:-3], MARK)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu=32,mem=3200M,node=2,billing=40,gres/gpu=4", (2, 32, 4, 40)),
        ("billing=2,cpu=2,gres/gpu:a100=1,gres/gpu:v100=2,node=1", (1, 2, 3, 2)),
        ("billing=2,cpu=2,gres/gpu=3,gres/gpu:a100=3,node=1", (1, 2, 3, 2)),
        ("cpu=1,node=1", (1, 1, None, None)),
        ("", (None, None, None, None)),
        ("N/A", (None, None, None, None)),
        ("cpu=x,=,node", (None, None, None, None)),
    ],
)
def test_tres_are_read(text: str, expected: tuple[int | None, ...]) -> None:
    found = parse.tres(text)
    assert (found.nodes, found.cpus, found.gpus, found.billing) == expected


def test_squeue_rows_are_read() -> None:
    running, pending = queue(QUEUE + PENDING)
    assert (running.id, running.state, running.elapsed, running.nodes, running.cpus) == (7, SlurmState.RUNNING, 93784, 2, 32)
    assert (running.minutes, running.account, running.partition) == (90, "proj-a", "cpu")
    assert (running.uid, running.user, running.restarts, running.tres) == (1001, "alice", 1, QUEUE_ROW["tres-alloc"])
    assert (pending.started, pending.reason, pending.name, pending.minutes) == (None, "Priority", "a|b", None)


def test_sacct_rows_are_read() -> None:
    run, waiting = runs(RUN + WAITING)
    assert (run.state, run.elapsed, run.exit_code, run.signal, run.ended) == (SlurmState.CANCELLED, 101, 0, 15, 1795487400)
    assert (run.uid, run.partition, run.tres, run.requested, run.folder) == (
        1001, "cpu", RUN_ROW["AllocTRES"], RUN_ROW["ReqTRES"], "/home/alice/1",
    )  # fmt: skip
    assert (waiting.started, waiting.ended) == (None, None)


def test_a_partition_with_two_kinds_of_nodes_is_one_partition() -> None:
    cpu, debug = parse.partitions(SINFO)
    assert (cpu.name, cpu.up, cpu.minutes, cpu.nodes_max, [g.count for g in cpu.groups]) == ("cpu", True, 10080, None, [4, 2])
    assert (debug.up, debug.minutes, debug.nodes_max, debug.groups[0].cpus) == (False, None, 2, 16)


def test_a_name_with_a_line_feed_is_one_name() -> None:
    row = QUEUE.replace("ucloud-1-x", "two\nlines" + S + "more")
    first, second = queue(row + PENDING)
    assert (first.name, second.id) == ("two\nlines" + S + "more", 8)


def test_a_name_cannot_pretend_to_be_the_row_of_another_job() -> None:
    """Whoever owns a job may give it any name, and knows how rows look, but not the mark of this call."""
    forged_queue = "x" + S + E + "\n" + S.join(QUEUE.split(S)[:-1]) + S + E
    (first, second) = queue(PENDING.replace("a|b", forged_queue) + QUEUE)
    assert (first.id, first.name, second.id) == (8, forged_queue, 7)
    forged_run = "x\n" + S.join(RUN.rstrip("\n").split(D))
    (waiting, run) = runs(WAITING.replace(f"{D}x\n", f"{D}{forged_run}\n") + RUN)
    assert (waiting.id, waiting.name, run.id) == (8, forged_run, 7)


def test_no_output_is_no_jobs() -> None:
    assert queue("") == []
    assert runs("") == []


@pytest.mark.parametrize(("read", "text"), [(queue, QUEUE + PENDING), (runs, RUN + WAITING), (parse.partitions, SINFO)])
def test_output_that_is_cut_anywhere_is_never_half_a_row(read: Callable[[str], Sized], text: str) -> None:
    whole = read(text)
    for length in range(1, len(text)):
        if text[:length].endswith("\n"):
            assert len(read(text[:length])) <= len(whole)
        else:
            with pytest.raises(parse.ParseError):
                read(text[:length])


@pytest.mark.parametrize(
    "line", ["CLUSTER: x", "slurm_load_jobs error: Unable to contact", "JOBID PARTITION NAME", "7" + S + "RUNNING", "<html>"]
)
def test_lines_that_are_not_rows_are_an_error(line: str) -> None:
    for read in (queue, runs, parse.partitions):
        with pytest.raises(parse.ParseError):
            read(QUEUE + line + "\n" if read is queue else line + "\n")


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    for read in (queue, runs, parse.partitions):
        try:
            read(text)
        except parse.ParseError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:00", 0), ("30:00", 1800), ("1:00:00", 3600), ("9-00:00:00", 777600), ("N/A", 0)]
)
def test_spans_of_time_are_read(text: str, seconds: int) -> None:
    assert parse.seconds(text) == seconds


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "Invalid account or account/partition combination specified",
        ),
        (
            "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
            "accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "QOSMaxSubmitJobPerUserLimit; Job violates accounting/QOS policy (job submit limit, user's size and/or "
            "time limits)",
        ),
        (
            "sbatch: error: This site wants a project code\nsbatch: error: Batch job submission failed: Unspecified error",
            "This site wants a project code",
        ),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", None),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", None),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", None),
        ("sbatch: error: Batch job submission failed: Protocol authentication error", None),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", None),
        ("sbatch: error: cli_filter plugin terminated with error", "cli_filter plugin terminated with error"),
        ("Segmentation fault", None),
        ("", None),
    ],
)
def test_only_a_plain_no_of_the_controller_is_a_refusal(errors: str, reason: str | None) -> None:
    assert refusal(errors) == reason
