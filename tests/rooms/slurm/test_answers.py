"""What Slurm's commands print decides whether there was an answer, and which: by whole texts, not by words in them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Clock, configuration
from tests.rooms.slurm.stand_ins import submission
from tests.sandbox.core import SimulatedCore
from ucloud_slurm.bridge import errors
from ucloud_slurm.errors import Forbidden, Problem, Refused, TooMany
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.errors import ActionRefusedError, OutcomeUnknownError, SchedulerUnavailableError, SubmissionRefusedError
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.system.process import Command

JOB, OTHER = SlurmJobId(17), SlurmJobId(18)
NOT = "scancel: error: Kill job error on job id"
AWAY = "Unable to contact slurm controller (connect failure)"
FAILED = "sbatch: error: Batch job submission failed: "
RETRYING = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"

Prints = Callable[..., Commands]


@pytest.fixture
def prints(tmp_path: Path) -> Prints:
    """Slurm's commands, all of which print the same."""

    def make(errors: str | bytes, output: str = "", status: int = 0) -> Commands:
        (tmp_path / "errors").write_bytes(errors.encode() if isinstance(errors, str) else errors)
        (tmp_path / "output").write_text(output)
        for name in ("sbatch", "squeue", "sacct", "sinfo", "sacctmgr", "scontrol", "scancel", "sdiag"):
            (tmp_path / name).write_text(f"#!/bin/sh\ncat {tmp_path}/output; cat {tmp_path}/errors >&2; exit {status}\n")
            (tmp_path / name).chmod(0o755)
        return Commands(tmp_path, tmp_path / "slurm.conf", 10.0)

    return make


def refused(slurm: Commands) -> str:
    with pytest.raises(SubmissionRefusedError) as caught:
        slurm.start(submission(), Command).send(10.0)
    return caught.value.reason


# Each contains words that Slurm's communication errors contain too, or a whole one of them.
OWN_WORDS = (
    "The licence server is in maintenance, please try again on Monday",
    "connection",
    "slurmctld, munge, timeout: these words mean nothing here",
    "Jobs time out here after a day; the socket of the backup is on standby",
    "Batch job submission failed: Connection refused",
    "Unable to contact slurm controller (connect failure)",
    "Protocol authentication error; please tell us",
)


@pytest.mark.parametrize("words", OWN_WORDS)
@pytest.mark.parametrize("prefix", ["sbatch: error: ", "sbatch: ", ""])
def test_a_site_refuses_in_its_own_words_whatever_they_contain(prints: Prints, words: str, prefix: str) -> None:
    reason = refused(prints(f"{prefix}{words}\n{FAILED}Unspecified error\n", status=1))
    assert reason == words
    assert words in errors.problem(reason).why


def test_several_lines_of_a_site_come_in_their_order_before_slurms(prints: Prints) -> None:
    text = f"sbatch: error: first\nsbatch: error: \nsecond, plain\nsbatch: error: first\n{FAILED}Invalid qos specification\n"
    assert refused(prints(text, status=1)) == "first; second, plain; Invalid qos specification"


def test_words_that_are_long_or_in_latin_1_reach_the_researcher_in_a_bounded_line(prints: Prints) -> None:
    text = (
        f"sbatch: error: M\xf6gliche \x1b[31mUrsache: {'x' * 100_000}\n".encode("latin-1") * 50
        + f"{FAILED}Invalid wckey".encode()
    )
    reason = refused(prints(text, status=1))
    assert reason.startswith("M")
    assert reason.endswith("; Invalid wckey")
    assert reason.isprintable()
    assert len(errors.problem(reason).why) < 500


@pytest.mark.parametrize(
    "own",
    [
        "Socket timed out on send/recv operation",
        "Unable to contact slurm controller (send failure)",
        "Zero Bytes were transmitted or received",
        "Protocol authentication error",
        "Slurm backup controller in standby mode",
        "Resource temporarily unavailable",
        "Connection refused",
        "Rate limit exceeded, please retry later",
        "Success",
        "",
    ],
)
def test_slurms_own_last_word_leaves_open_what_was_done_whatever_a_site_prints_before(prints: Prints, own: str) -> None:
    slurm = prints(f"sbatch: error: This is no project of yours\n{RETRYING}\n{FAILED}{own}\n", status=1)
    with pytest.raises(OutcomeUnknownError):
        slurm.start(submission(), Command).send(10.0)


def test_what_sbatch_retried_by_itself_is_no_reason(prints: Prints) -> None:
    assert refused(prints(f"{RETRYING}\n{FAILED}Invalid qos specification\n", status=1)) == "Invalid qos specification"
    assert refused(prints(f"{RETRYING}\n{FAILED}Unspecified error\n", status=1)) == "Unspecified error"
    assert prints(f"{RETRYING}\n", output="41\n").start(submission(), Command).send(10.0) == 41


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("sbatch: error: Invalid --time specification", "Invalid --time specification"),
        ("sbatch: fatal: Invalid node count: connection", "Invalid node count: connection"),
        ("sbatch: unrecognized option '--wat'\nTry \"sbatch --help\" for more information", "unrecognized option '--wat'"),
        ("ask us first\nsbatch: error: cli_filter plugin terminated with error", "ask us first; cli_filter plugin"),
    ],
)
def test_what_sbatch_itself_does_not_take_is_a_refusal(prints: Prints, printed: str, reason: str) -> None:
    assert refused(prints(printed, status=1)).startswith(reason)


@pytest.mark.parametrize(
    "printed",
    [
        "sbatch: error: slurm_persist_conn_open: failed to open connection: Connection refused\nsbatch: fatal: no",
        "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
        "sbatch: fatal: Could not establish a configuration source",
        "Killed",
    ],
)
def test_an_sbatch_that_could_not_ask_has_refused_nothing(prints: Prints, printed: str) -> None:
    with pytest.raises(OutcomeUnknownError):
        prints(printed, status=1).start(submission(), Command).send(10.0)


@pytest.mark.parametrize("printed", ["943\n", "943;cluster\n", "\n943 \n\n"])
def test_the_number_of_a_job_is_a_whole_line(prints: Prints, printed: str) -> None:
    assert prints("", printed).start(submission(), Command).send(10.0) == 943


@pytest.mark.parametrize("printed", ["94", "943;clu", "94\n3\n", "0\n", ""])
def test_a_number_that_breaks_off_is_no_number(prints: Prints, printed: str) -> None:
    with pytest.raises(OutcomeUnknownError):
        prints("", printed).start(submission(), Command).send(10.0)


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("Invalid account or account/partition combination specified", Forbidden, "cluster's support"),
        ("QOSMaxSubmitJobPerUserLimit; Job violates accounting/QOS policy (job submit limit, ...)", TooMany, "wait until"),
        ("invalid partition specified: x; Invalid partition name specified", Refused, "provider's support"),
        ("Your partition of the disk has no qos, nor memory specification, nor script", Refused, "does not accept this job."),
    ],
)
def test_the_sentence_depends_on_slurms_own_line_and_names_a_desk(reason: str, kind: type[Problem], words: str) -> None:
    found = errors.problem(reason)
    assert type(found) is kind
    assert words in found.why
    assert reason in found.why


# -- questions ------------------------------------------------------------------------------------------------

HARMLESS = "error: plugin_load_from_file: dlopen(/usr/lib/slurm/spank_x.so): cannot open shared object file"
SILENCE = "error: Unable to contact slurm controller (connect failure)"


def test_a_harmless_complaint_beside_whole_rows_is_logged_once(prints: Prints, caplog: pytest.LogCaptureFixture) -> None:
    slurm = prints(f"sacctmgr: {HARMLESS}\n", output="proj-a\n")
    assert [slurm.accounts("alice", 5.0) for _ in range(3)] == [["proj-a"]] * 3
    (line,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert HARMLESS in line.getMessage()


def test_a_process_passes_on_a_bounded_number_of_complaints(prints: Prints, caplog: pytest.LogCaptureFixture) -> None:
    slurm = prints("".join(f"sacctmgr: error: number {number}\n" for number in range(1000)), output="proj-a\n")
    slurm.accounts("alice", 5.0)
    assert 0 < len(caplog.records) <= 20


def test_all_processes_together_log_a_complaint_once_an_hour(
    prints: Prints, core: SimulatedCore, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slurm = {"commands": str(tmp_path), "conf": str(tmp_path / "slurm.conf"), "backend": "commands"}
    config = configuration(core, tmp_path, slurm=slurm)
    for number, logged in ((1, 1), (2, 1), (3, 2)):
        prints(f"sacctmgr: error: process {number}: {HARMLESS}\n", output="proj-a\n")
        provider = Provider.open(config, now=clock)
        assert provider.scheduler.accounts("alice", 5.0) == ["proj-a"]
        provider.close()
        assert len([record for record in caplog.records if HARMLESS in record.getMessage()]) == logged
        clock.advance(1800.0)


def test_an_empty_queue_beside_a_harmless_complaint_is_an_answer(prints: Prints) -> None:
    assert prints(f"squeue: {HARMLESS}\n").queue(None) == []


@pytest.mark.parametrize(
    ("printed", "size"), [("Agent queue size:     7\nDBD Agent queue size: 0\n", 0), ("DBD Agent queue size: 215\n\n", 215)]
)
def test_the_backlog_of_the_accounting_is_what_sdiag_says(prints: Prints, printed: str, size: int) -> None:
    assert prints("", printed).accounting_backlog(5.0) == size


@pytest.mark.parametrize(
    "printed", ["", "garbage", "Agent queue size:     0\n", "DBD Agent queue size: ", "DBD Agent queue size: 0x"]
)
def test_a_backlog_that_cannot_be_read_is_not_nothing(prints: Prints, printed: str) -> None:
    with pytest.raises(SchedulerUnavailableError):
        prints("", printed).accounting_backlog(5.0)


def test_nothing_beside_a_complaint_is_no_answer_of_the_others(prints: Prints) -> None:
    slurm = prints(f"x: {HARMLESS}\n")
    for ask in (lambda: slurm.runs([JOB]), lambda: slurm.partitions(5.0), lambda: slurm.accounts("alice", 5.0)):
        with pytest.raises(SchedulerUnavailableError, match="dlopen"):
            ask()
    assert prints("").runs([JOB]) == []


@pytest.mark.parametrize(
    "line",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "slurm_load_partitions: Zero Bytes were transmitted or received",
        "sacct: error: Problem talking to the database: Connection refused",
        "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to x:1: Connection timed out",
    ],
)
def test_a_communication_error_is_no_answer_whatever_stands_beside_it(prints: Prints, line: str) -> None:
    slurm = prints(f"{line}\n", output="proj-a\n")
    for ask in (lambda: slurm.accounts("alice", 5.0), lambda: slurm.queue(None), lambda: slurm.ping(5.0)):
        with pytest.raises(SchedulerUnavailableError):
            ask()


# -- actions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Access/permission denied for job 17", ActionRefusedError),
        ("scontrol: error: please try again, connection\nAccess/permission denied for job 17", ActionRefusedError),
        ("17: Job has already finished (timeout)", ActionRefusedError),
        ("Unable to contact slurm controller (connect failure) for job 17", SchedulerUnavailableError),
        ("slurm_suspend error: Socket timed out on send/recv operation", SchedulerUnavailableError),
        ("Unexpected message received", SchedulerUnavailableError),
        ("", SchedulerUnavailableError),
    ],
)
def test_scontrol_refuses_with_its_last_line(prints: Prints, line: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        prints(f"{line}\n", status=1).suspend(JOB, 5.0)


@pytest.mark.parametrize(
    ("line", "status", "kind"),
    [
        ("scancel: error: Kill job error on job id 17: Access/permission denied", 210, ActionRefusedError),
        ("scancel: error: Kill job error on job id 17: Access/permission denied", 0, ActionRefusedError),
        ("scancel: error: Kill job error on job id 17: Unable to contact slurm controller (connect failure)", 8, None),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1, None),
        ("scancel: error: Connection refused", 0, None),
        ("", 1, None),
    ],
)
def test_scancel_refuses_a_job_by_a_whole_text(prints: Prints, line: str, status: int, kind: type[Exception] | None) -> None:
    with pytest.raises(kind or SchedulerUnavailableError):
        _cancel(prints(f"{line}\n", status=status))


def test_a_cancel_beside_which_a_plugin_complains_has_been_taken(prints: Prints) -> None:
    _cancel(prints(f"scancel: {HARMLESS}\n"))
    _cancel(prints("scancel: error: Kill job error on job id 17: Invalid job id specified\n", status=1))


def test_of_several_jobs_each_is_refused_by_its_own_number(prints: Prints) -> None:
    refused = prints(f"site: ask us\n{NOT} 18: Access/permission denied\n", status=210).cancel([JOB, OTHER], 5.0)
    assert {job: error.reason for job, error in refused.items()} == {OTHER: f"{NOT} 18: Access/permission denied"}
    ended = prints(f"{NOT} 18: Job/step already completing or completed\n", status=1)
    assert ended.cancel([JOB, OTHER], 5.0) == {}
    assert {*prints("scancel: error: no\n", status=1).cancel([JOB, OTHER], 5.0)} == {JOB, OTHER}


@pytest.mark.parametrize("order", [1, -1])
def test_a_job_about_which_slurm_does_not_answer_leaves_all_to_be_asked_again(prints: Prints, order: int) -> None:
    lines = [f"{NOT} 17: {AWAY}", f"{NOT} 18: Access/permission denied"][::order]
    with pytest.raises(SchedulerUnavailableError):
        prints("\n".join(lines) + "\n", status=8).cancel([JOB, OTHER], 5.0)


def _cancel(slurm: Commands) -> None:
    for error in slurm.cancel([JOB], 5.0).values():
        raise error
