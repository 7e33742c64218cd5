"""The audit names what is not explained, and nothing else."""

import json
from contextlib import nullcontext
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.promises.test_one_job_one_slurm_job import submission_of
from ucloud_slurm.cli.audit import audit as command
from ucloud_slurm.cli.output import Since
from ucloud_slurm.provider.audit import AuditKind, audit
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import RunRecord
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.worker.audit import INTERVAL_SECONDS


def found(world: World) -> list[tuple[str, int]]:
    """Kinds and Slurm's numbers."""
    return [(each.kind.value, each.slurm_id) for each in audit(world.provider, 0.0).findings]


def running(world: World, **more: Any) -> str:
    job_id = world.submit(**more)
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    return job_id


def ended(world: World, seconds: int = 600) -> str:
    job_id = running(world)
    world.clock.advance(seconds)
    world.model.end(world.slurm(job_id))
    world.work(1)
    return job_id


def test_nothing_is_found_in_the_life_of_ordinary_jobs(world: World) -> None:
    for seconds in (1, 29, 31, 599, 3600):
        ended(world, seconds)
        assert found(world) == []
    running(world)
    world.submit()
    requeued = running(world)
    world.clock.advance(100)
    world.model.requeue(world.slurm(requeued))
    world.work(1)
    assert found(world) == []
    world.core.terminate(running(world))
    world.work(1)
    assert found(world) == []
    assert len(audit(world.provider, 0.0).jobs) == 9


@pytest.mark.parametrize(
    ("change", "kind"), [({"name": "x"}, "renamed"), ({"partition": "gpu"}, "moved"), ({"cpus": 64}, "enlarged")]
)
@pytest.mark.parametrize("end", [False, True])
def test_a_job_that_was_changed_by_hand_is_found(world: World, change: dict[str, Any], kind: str, end: bool) -> None:
    ordinary, odd = world.submit(), world.submit()
    world.model.change(world.slurm(odd), **change)
    for job_id in (ordinary, odd):
        world.model.begin_run(world.slurm(job_id))
    world.work(100)
    if end:
        for job_id in (ordinary, odd):
            world.model.end(world.slurm(job_id))
        world.work(1)
    assert found(world) == [(kind, world.slurm(odd).run.id)]


def test_the_account_of_a_job_is_compared_as_slurm_does(world: World) -> None:
    job_id = running(world)
    built = json.loads(world.row(job_id).built or "")
    world.provider.store.change("update jobs set built = ?", [json.dumps(built | {"account": "Proj-A"})])
    assert found(world) == []
    world.model.change(world.slurm(job_id), account="proj-b")
    assert found(world) == [("moved", world.slurm(job_id).run.id)]


def test_a_job_by_hand_in_our_partition_and_account_is_found(world: World) -> None:
    running(world)
    submission = submission_of(world, world.submit())._replace(name="by hand", comment="")
    others = [world.model.add(submission._replace(partition="other")), world.model.add(submission)]
    for job in others:
        world.model.begin_run(job)
    world.work(10)
    assert found(world) == [("unknown", others[1].run.id)]


def test_a_job_that_used_nothing_is_not_found(world: World) -> None:
    running(world)
    refused = world.model.add(submission_of(world, world.submit())._replace(name="by hand", comment=""))
    world.model.end(refused, SlurmState.FAILED)
    world.work(1)
    assert found(world) == []


def test_a_job_that_was_requeued_after_its_end_is_found(world: World) -> None:
    job_id = ended(world)
    job = world.slurm(job_id)
    job.runs.append(
        job.run._replace(submitted=job.run.submitted + 700, state=SlurmState.RUNNING, state_text="RUNNING", ended=None)
    )
    world.work(60)
    (finding,) = audit(world.provider, 0.0).findings
    assert (finding.kind, finding.job_id) == (AuditKind.UNBILLED, job_id)


def test_use_that_is_not_billed_is_found(world: World) -> None:
    first, second = ended(world), ended(world)
    world.provider.store.change("delete from charges where job_id = ?", [first])
    world.provider.store.change("update jobs set charged = 0 where id = ?", [first])
    assert found(world) == [("unbilled", world.slurm(first).run.id)]
    world.provider.store.change("update jobs set charged = 100 * charged where id = ?", [second])
    assert ("overbilled", world.slurm(second).run.id) in found(world)


def test_a_job_whose_end_was_lost_is_not_billed_and_found(world: World) -> None:
    job_id = running(world)
    job = world.slurm(job_id)
    world.model.controller = world.model.accounting = True
    job.in_queue = job.in_accounting = False
    for _ in range(4):
        world.work(60)
    assert world.told(job_id)[-1] == "FAILURE"
    job.in_accounting = True
    world.clock.advance(600)
    assert found(world) == [("unbilled", job.run.id)]


def test_a_charge_that_ucloud_refused_for_good_is_found(world: World) -> None:
    job_id = ended(world)
    messages = [each for each in world.provider.outbox.of(job_id) if each.kind == "charge"]
    world.provider.outbox.mark_done(messages, MessageOutcome.PARKED, "no", world.clock())
    assert found(world) == [("undelivered", world.slurm(job_id).run.id)]


def test_sums_of_a_wallet_are_slurms_seconds_and_units(world: World) -> None:
    for _ in range(27):
        ended(world, 19)
    (wallet,) = audit(world.provider, 0.0).wallets()
    seconds = sum(job.seconds for job in audit(world.provider, 0.0).jobs)
    assert wallet.jobs == 27
    assert seconds == sum(world.model.used(job) for job in world.model.jobs)
    assert abs(wallet.units * 60 - seconds) <= 30
    assert wallet.used_units == pytest.approx(seconds / 60)


def test_a_row_that_cannot_be_read_is_not_called_unknown(world: World) -> None:
    job_id = running(world)
    whole = world.slurm(job_id).run
    odd = RunRecord(whole.id, whole.name, "", None, "a row that cannot be read", 0, None, None, 0, 0, 0, 0, 0, "")
    world.slurm(job_id).runs.append(odd._replace(partition="cpu"))
    assert found(world) == []


# -- in the worker ------------------------------------------------------------------------------------------------


def test_the_worker_audits_at_intervals_and_shows_what_it_found(world: World, caplog: pytest.LogCaptureFixture) -> None:
    job_id = running(world)
    world.model.change(world.slurm(job_id), name="x")
    world.work(60)
    assert shown(world)["renamed"] == 0
    world.model.counts.clear()
    world.work(INTERVAL_SECONDS)
    assert shown(world)["renamed"] == 1
    assert "is called 'x' now" in caplog.text
    assert world.model.counts == {"squeue": 1, "sacct": 1}
    world.model.counts.clear()
    world.work(60)
    assert world.model.counts == {"squeue": 1}


def test_an_audit_without_an_answer_is_done_in_the_next_pass(world: World) -> None:
    running(world)
    world.work(1)
    world.model.accounting = False
    world.work(INTERVAL_SECONDS)
    with pytest.raises(SchedulerUnavailableError):
        audit(world.provider, 0.0)
    world.model.accounting = True
    world.model.counts.clear()
    world.work(60)
    assert world.model.counts["sacct"] == 1


def test_the_earlier_runs_of_a_job_count_though_they_ended_before(world: World) -> None:
    job_id = running(world)
    world.clock.advance(600)
    world.model.requeue(world.slurm(job_id))
    world.work(1)
    world.model.begin_run(world.slurm(job_id))
    world.work(600)
    since = world.clock() - 300
    (job,) = audit(world.provider, since).jobs
    assert (job.used, audit(world.provider, since).findings) == (world.model.used(world.slurm(job_id)), ())


def test_users_without_an_account_are_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    job_id = running(world)
    world.provider.store.change("update jobs set uid = 59999, local_user = 'gone' where id = ?", [job_id])
    world.work(INTERVAL_SECONDS)
    assert shown(world)["no account"] == 1
    assert "gone has open jobs and no account on this host" in caplog.text


def shown(world: World) -> dict[str, int]:
    """What the metrics say."""
    text = requests.get(f"{world.url}/metrics", timeout=10).text
    counts = {}
    for line in text.splitlines():
        if line.startswith("ucloud_slurm_audit_findings{"):
            kind, _, number = line.partition('kind="')[2].partition('"} ')
            counts[kind] = int(float(number))
    return counts


# -- the command --------------------------------------------------------------------------------------------------


def test_an_audit_that_cannot_ask_slurm_is_no_finding(world: World, mocker: MockerFixture) -> None:
    running(world)
    world.model.accounting = False
    mocker.patch("ucloud_slurm.cli.audit.opened", return_value=nullcontext(world.provider))
    done = CliRunner().invoke(command, [])
    assert (done.exit_code, done.stdout) == (75, "")
    assert "nothing was compared: sacct ended with 1: sacct: error" in done.stderr
    world.model.accounting = True
    assert CliRunner().invoke(command, ["--since", "999999w"]).exit_code == 0
    world.model.change(world.model.jobs[0], name="x")
    done = CliRunner().invoke(command, ["--since", "0001-01-01"])
    assert (done.exit_code, "is called 'x' now" in done.stdout) == (1, True)


@pytest.mark.parametrize("text", ["999999w", "0001-01-01"])
def test_a_time_before_all_accounting_is_the_beginning_of_the_epoch(text: str) -> None:
    assert Since().convert(text, None, None) == 0.0


@pytest.mark.parametrize("text", ["", "d", "7", "7x", "-1d", "yesterday", "2026-13-01", "1 d"])
def test_a_time_that_cannot_be_read_is_refused(text: str) -> None:
    done = CliRunner().invoke(command, ["--since", text])
    assert done.exit_code == 2
    assert "neither a span such as 90m" in done.output
