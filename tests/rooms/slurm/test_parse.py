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
QUEUE = (
    S.join(
        (
            "7",
            "RUNNING",
            "1795487297",
            "1795487299",
            "1-02:03:04",
            "2",
            "32",
            "alice",
            "None",
            "n[1-2]",
            "1:30:00",
            "proj-a",
            "cpu",
            "ucloud-1-x",
            M,
        )
    )
    + "\n"
)
PENDING = (
    S.join(
        ("8", "PENDING", "1795487297", "N/A", "0:00", "1", "1", "bob", "Priority", "", "UNLIMITED", "proj-b", "cpu", "a|b", M)
    )
    + "\n"
)
RUN = (
    D.join(
        (
            "7",
            "CANCELLED by 0",
            "1795487297",
            "1795487299",
            "1795487400",
            "101",
            "0:15",
            "2",
            "32",
            "alice",
            "n[1-2]",
            "ucloud-1-x",
        )
    )
    + "\n"
)
WAITING = D.join(("8", "PENDING", "1795487297", "Unknown", "Unknown", "0", "0:0", "1", "0", "bob", "None assigned", "x")) + "\n"
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


def test_squeue_rows_are_read() -> None:
    running, pending = queue(QUEUE + PENDING)
    assert (running.id, running.state, running.elapsed, running.nodes, running.cpus) == (7, SlurmState.RUNNING, 93784, 2, 32)
    assert (running.minutes, running.account, running.partition) == (90, "proj-a", "cpu")
    assert (pending.started, pending.reason, pending.name, pending.minutes) == (None, "Priority", "a|b", None)


def test_sacct_rows_are_read() -> None:
    run, waiting = runs(RUN + WAITING)
    assert (run.state, run.elapsed, run.exit_code, run.signal, run.ended) == (SlurmState.CANCELLED, 101, 0, 15, 1795487400)
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
