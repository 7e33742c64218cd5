"""P3, P4, P5: after a restore, a loss or a move nothing is reported that is wrong, nothing is lost and nothing billed twice."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from click.testing import Result as Run

from tests.conftest import Open, Serve, World
from tests.support.restore import backup, dump, lose, restore, unreachable
from ucloud_slurm.cli.main import main
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.worker import reconcile as worker_reconcile
from ucloud_slurm.worker.comparison import Act
from ucloud_slurm.worker.reconcile import Outcome
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.every_era
FINAL = ("SUCCESS", "FAILURE", "EXPIRED")
Ask = Callable[..., Run]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, model: Any) -> Ask:
    """Runs ``reconcile`` over the world."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)
    monkeypatch.setattr("ucloud_slurm.cli.context.Provider.open", lambda _config: world.provider)
    monkeypatch.setattr(type(world.provider), "close", lambda _: None)
    return lambda *words: CliRunner().invoke(main, ["reconcile", *words])


@pytest.fixture
def charging(request: pytest.FixtureRequest, world: World) -> str:
    """How a Core that books periods answers."""
    world.core.charging = getattr(request, "param", "as-documented")
    return str(world.core.charging)


every_charging = pytest.mark.parametrize("charging", ["as-documented", "as-coded"], indirect=True)


def started(world: World, **more: Any) -> str:
    """A job that runs, of which UCloud knows."""
    job = world.submit(**more)
    world.work(1)
    world.model.begin_run(world.slurm(job))
    for _ in range(10):  # on a busy machine a call may be repeated by the next pass
        if world.core.job(job).state != "RUNNING":
            world.work(1)
    assert world.core.job(job).state == "RUNNING"
    return job


def pass_time(world: World, seconds: int, step: int = 60) -> None:
    for _ in range(seconds // step):
        world.work(step)


def end(world: World, job: str, state: SlurmState = SlurmState.COMPLETED) -> None:
    world.model.end(world.slurm(job), state)
    world.model.purge(world.slurm(job))


def drain(world: World) -> None:
    """All that can be reported is."""
    for number in range(30):
        done = world.work(20) is Result.DONE and world.provider.outbox.waiting() == 0
        if done and number >= 5:
            break
    assert world.provider.outbox.waiting() == 0


def reconcile(world: World, **more: Any) -> Outcome:
    return worker_reconcile.reconcile(world.provider, **more)


def acts(outcome: Outcome) -> dict[str, Act]:
    return {each.job.id: each.act for each in outcome.differences}


def check(world: World, *jobs: str) -> None:
    """Every job is one Slurm job, has one last state, and costs what it used; reports of its use only grow."""
    for job in jobs:
        slurm = world.slurm(job)
        states = world.told(job)
        assert len({state for state in states if state in FINAL}) <= 1
        assert abs(world.booked(job) * 60 - world.model.used(slurm)) <= 60
        if world.provider.reports_usage:
            scope = f"example/example-compute/job/{job}"
            sent = [report.usage for report in world.core.accounts.reports if report.scope == scope]
            assert sent == sorted(sent)
        else:
            ids = [charge.charge_id for charge in world.core.job(job).charges]
            assert len(ids) == len(set(ids))
    if all(world.core.job(job).state in FINAL for job in jobs):  # they have one wallet
        assert abs(sum(world.booked(job) * 60 - world.model.used(world.slurm(job)) for job in jobs)) <= 60


# -- yesterday's database ---------------------------------------------------------------------------------------


@every_charging
@pytest.mark.parametrize("by_hand", [True, False])
def test_after_yesterdays_database_everything_is_followed_and_billed_once(world: World, charging: str, by_hand: bool) -> None:
    runs, ends, cancelled = started(world), started(world), started(world)
    waits = world.submit()
    pass_time(world, 180)
    old = backup(world)

    pass_time(world, 240)
    world.model.begin_run(world.slurm(waits))
    new, short, queued = started(world), started(world), world.submit()
    pass_time(world, 100, 50)
    end(world, ends, SlurmState.TIMEOUT)
    end(world, short)
    world.core.terminate(cancelled)
    pass_time(world, 120)
    all_jobs = (runs, ends, cancelled, waits, new, short, queued)
    states = {job: world.core.job(job).state for job in all_jobs}
    assert [states[job] for job in all_jobs] == ["RUNNING", "EXPIRED", "SUCCESS", "RUNNING", "RUNNING", "SUCCESS", "IN_QUEUE"]
    histories = {job: world.told(job) for job in all_jobs}

    restore(world, old)
    assert Generation(world.provider.store).is_behind()
    world.clock.advance(30)
    if by_hand:
        found = acts(reconcile(world))
        assert found == {
            ends: Act.CLOSE, cancelled: Act.CLOSE, waits: Act.STATE, new: Act.ADOPT, queued: Act.ADOPT
        }  # fmt: skip
        assert reconcile(world).differences == [], "the second finds nothing"
    drain(world)
    assert not Generation(world.provider.store).is_behind()
    assert {job: world.core.job(job).state for job in all_jobs} == states
    assert {job: world.told(job) for job in all_jobs} == histories, "nothing is reported again"
    assert [row.stop for row in world.provider.jobs.open()] == [None] * 4
    check(world, *all_jobs)

    pass_time(world, 240)
    world.model.begin_run(world.slurm(queued))
    pass_time(world, 120)
    for job in (runs, waits, new, queued):
        end(world, job)
    drain(world)
    assert [world.core.job(job).state for job in (runs, waits, new, queued)] == ["SUCCESS"] * 4
    check(world, *all_jobs)
    assert reconcile(world).differences == []


@every_charging
def test_a_job_that_ended_and_was_charged_and_whose_end_was_not_reported_is_charged_once(world: World, charging: str) -> None:
    job = started(world)
    pass_time(world, 60)
    old = backup(world)
    pass_time(world, 240)
    world.clock.advance(45)
    end(world, job)
    world.core.faults.answer("jobs.control.update", 500, times=50)
    world.work()
    assert world.core.job(job).state == "RUNNING"
    world.core.faults.clear()
    before = world.booked(job)
    assert before == 6
    restore(world, old)
    drain(world)
    assert world.core.job(job).state == "SUCCESS"
    assert world.row(job).stop is None
    assert world.booked(job) == before


def test_messages_of_yesterday_that_were_delivered_afterwards_are_not_delivered_again(world: World) -> None:
    ends, runs = started(world), started(world)
    pass_time(world, 120)
    world.core.faults.outage(True)
    world.clock.advance(90)
    end(world, ends)
    world.work()
    assert world.provider.outbox.waiting() > 0
    old = backup(world)
    world.core.faults.outage(False)
    drain(world)
    pass_time(world, 600)
    state, history, booked = world.core.job(ends).state, world.core.job(ends).updates, world.booked(ends)
    assert state == "SUCCESS"
    restore(world, old)
    found = acts(reconcile(world))
    assert found[ends] is Act.FORGET
    drain(world)
    assert world.core.job(ends).updates == history
    assert world.booked(ends) == booked
    check(world, ends, runs)


def test_a_job_that_was_submitted_after_the_backup_gets_no_second_slurm_job(world: World) -> None:
    world.model.controller = False
    job = world.submit()
    old = backup(world)
    assert world.row(job).phase is not JobPhase.LIVE
    world.model.controller = True
    for _ in range(10):
        world.work(30)
    world.model.begin_run(world.slurm(job))
    world.work(30)
    restore(world, old)
    for _ in range(10):
        world.work(30)
    assert len(world.model.of(job)) == 1
    assert world.core.job(job).state == "RUNNING"
    assert world.row(job).slurm_id == world.slurm(job).run.id
    check(world, job)


@pytest.mark.parametrize("lost_answers", [1, 2])
def test_a_later_attempt_of_a_submission_is_found_too(world: World, lost_answers: int) -> None:
    world.model.drop_requests = lost_answers
    job = world.submit()
    old = backup(world)
    assert world.row(job).attempts == 1
    for _ in range(30):
        world.work(60)
    assert world.row(job).attempts == 1 + lost_answers
    restore(world, old)
    for _ in range(10):
        world.work(60)
    assert len(world.model.of(job)) == 1
    assert world.row(job).slurm_id == world.slurm(job).run.id


def test_a_backup_that_is_older_than_what_a_pass_has_reported_before_it_died_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = started(world)
    pass_time(world, 60)
    old = backup(world)
    with monkeypatch.context() as patch:
        patch.setattr("ucloud_slurm.worker.run.record_outcome", lambda *_, **__: sys.exit())
        with pytest.raises(SystemExit):
            world.work(60)
    assert world.booked(job) == 2
    restore(world, old)
    assert Generation(world.provider.store).is_behind()


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_a_wallet_that_was_filled_after_the_backup_stops_no_job(world: World) -> None:
    payer = Payer.of("user", None, "example-compute")
    world.provider.wallets.handled(world.clock())
    world.provider.wallets.found(payer, locked=True)
    old = backup(world)
    world.provider.wallets.found(payer, locked=False)
    job = started(world)
    pass_time(world, 120)
    restore(world, old)
    other = world.submit()
    pass_time(world, 120)
    assert [world.core.job(job).state, world.core.job(other).state] == ["RUNNING", "IN_QUEUE"]
    assert [row.stop for row in world.provider.jobs.open()] == [None, None]
    assert world.provider.wallets.replay_from() == 0.0, "the channel says of every wallet how it is now"


# -- while it is behind -----------------------------------------------------------------------------------------


def behind(world: World) -> tuple[str, str]:
    """An older database that cannot be reconciled yet: a job that has ended meanwhile, and one that is new."""
    old_job = started(world)
    old = backup(world)
    pass_time(world, 120)
    new_job = started(world)
    pass_time(world, 60)
    restore(world, old)
    world.model.accounting = False
    return old_job, new_job


def test_while_it_is_behind_nothing_is_reported_and_new_jobs_are_taken(world: World, caplog: pytest.LogCaptureFixture) -> None:
    old_job, new_job = behind(world)
    end(world, old_job)
    before = len(world.core.exchanges)
    fresh = world.submit()
    for _ in range(3):
        assert world.work(60) is Result.NOT_ALL
    reports = ("jobs.control.update", "jobs.control.chargeCredits", "accounting.v2.reportUsage")
    assert [each.call for each in world.core.exchanges[before:] if each.call in reports] == []
    assert len(world.model.of(fresh)) == 1
    named = [record for record in caplog.records if "ucloud-slurm reconcile" in record.getMessage()]
    assert len(named) == 3, "one line in each pass"
    world.model.accounting = True
    drain(world)
    assert world.core.job(old_job).state == "SUCCESS"
    assert world.row(new_job).slurm_id == world.slurm(new_job).run.id
    check(world, old_job, new_job)


def test_while_it_is_behind_a_repeated_create_makes_no_second_slurm_job(world: World) -> None:
    _, new_job = behind(world)
    world.clock.advance(120)
    status, _ = world.core.call("POST", "/ucloud/example/jobs", {"items": [world.core.rendered(new_job)]}, user="user")
    assert status == 200
    assert len(world.model.of(new_job)) == 1
    world.model.accounting = True
    drain(world)
    assert len(world.model.of(new_job)) == 1
    assert world.row(new_job).slurm_id == world.slurm(new_job).run.id


def test_while_it_is_behind_the_owner_of_an_imitated_job_hears_of_it(world: World) -> None:
    behind(world)
    world.model.lose_answers = 1
    job = world.submit()
    submission = world.slurm(job).submission
    world.model.add(replace(submission, comment=submission.comment.rpartition(":")[0]))
    world.clock.advance(120)
    world.model.accounting = True
    drain(world)
    said = [update["status"] for update in world.core.job(job).updates]
    assert [text for text in said if "was not submitted by this provider" in text]


def test_while_it_is_behind_a_job_can_be_terminated(world: World) -> None:
    _, new_job = behind(world)
    world.core.terminate(new_job)
    for _ in range(3):
        world.work(10)
    assert world.slurm(new_job).run.state is SlurmState.CANCELLED
    world.model.accounting = True
    drain(world)
    assert world.core.job(new_job).state == "SUCCESS"
    check(world, new_job)


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_while_it_is_behind_a_verification_declares_nothing_unknown(world: World) -> None:
    _, new_job = behind(world)
    world.clock.advance(3600)
    world.core.verify()
    for _ in range(5):
        world.work(60)
    assert world.core.job(new_job).state == "RUNNING"
    assert world.provider.jobs.get(new_job) is None


# -- a lost database --------------------------------------------------------------------------------------------


@every_charging
def test_a_lost_database_is_rebuilt_from_ucloud_and_slurm(
    world: World, open_provider: Open, serve: Serve, charging: str
) -> None:
    runs, waits, ended = started(world), world.submit(), started(world)
    requeued = started(world)
    pass_time(world, 120)
    world.model.requeue(world.slurm(requeued), SlurmState.NODE_FAIL)
    world.model.begin_run(world.slurm(requeued))
    pass_time(world, 180)
    end(world, ended)
    drain(world)
    charged = {job: world.booked(job) for job in (runs, ended, requeued)}
    world = lose(world, open_provider, serve)
    found = reconcile(world)
    assert acts(found) == {runs: Act.ADOPT, waits: Act.ADOPT, requeued: Act.ADOPT}
    assert reconcile(world).differences == []
    drain(world)
    assert all(world.booked(job) >= charged[job] for job in charged)
    assert world.booked(ended) == charged[ended]
    check(world, runs, ended, requeued)
    world.model.begin_run(world.slurm(waits))
    pass_time(world, 120)
    for job in (runs, waits, requeued):
        end(world, job)
    drain(world)
    assert [world.core.job(job).state for job in (runs, waits, ended, requeued)] == ["SUCCESS"] * 4
    assert [row.stop for row in world.provider.jobs.newest(10)] == [None] * 3
    check(world, runs, waits, ended, requeued)


def test_a_lost_job_is_the_one_with_a_nonce_and_not_an_older_one_of_its_name(
    world: World, open_provider: Open, serve: Serve
) -> None:
    job = started(world)
    true = world.slurm(job)
    bare = true.submission.comment.rpartition(":")[0]
    forged = world.model.add(replace(true.submission, comment=bare))
    forged.runs[-1] = replace(forged.run, submitted=true.run.submitted - 5)
    world = lose(world, open_provider, serve)
    assert acts(reconcile(world)) == {job: Act.ADOPT}
    drain(world)
    assert world.row(job).slurm_id == true.run.id
    assert {forged.run.state, true.run.state} == {SlurmState.PENDING, SlurmState.RUNNING}, "neither is cancelled"


def test_a_job_that_ended_before_the_lost_database_was_rebuilt_gets_its_true_end(
    world: World, open_provider: Open, serve: Serve
) -> None:
    job = started(world)
    pass_time(world, 120)
    world.clock.advance(60)
    end(world, job, SlurmState.TIMEOUT)
    world = lose(world, open_provider, serve)
    drain(world)
    assert world.core.job(job).state == "EXPIRED"
    check(world, job)


# -- a moved cluster --------------------------------------------------------------------------------------------


def test_jobs_of_another_cluster_are_shown_and_end_when_the_administrator_says_that_it_is_gone(world: World, ask: Ask) -> None:
    job = started(world)
    pass_time(world, 60)
    world.model.jobs.clear()
    world.model.cluster = "new"
    shown = ask("--dry-run")
    assert shown.exit_code == 1
    assert "--gone model" in shown.stdout
    left = ask()
    assert left.exit_code == 1
    some_passes(world)
    assert world.core.job(job).state == "RUNNING"
    assert ask("--gone", "model").exit_code == 0
    some_passes(world)
    assert world.core.job(job).state == "FAILURE"
    assert "was on the cluster model" in world.core.job(job).updates[-1]["status"]
    again = ask()
    assert (again.exit_code, again.stdout) == (0, "Nothing differs.\n")


def some_passes(world: World) -> None:
    for _ in range(3):
        world.work(60)


# -- an accounting database that was emptied ----------------------------------------------------------------------


def test_a_few_jobs_without_a_trace_end_and_many_wait_for_the_administrator(world: World, ask: Ask) -> None:
    jobs = [started(world) for _ in range(5)]
    old = backup(world)
    pass_time(world, 120)
    restore(world, old)
    world.model.jobs.clear()
    world.clock.advance(600)
    for _ in range(3):
        assert world.work(60) is Result.NOT_ALL
    assert {world.core.job(job).state for job in jobs} == {"RUNNING"}
    assert ask().exit_code == 0
    some_passes(world)
    assert {world.core.job(job).state for job in jobs} == {"FAILURE"}
    assert ask("--json").stdout.count('"job"') == 0


def test_while_the_administrator_decides_ucloud_is_asked_for_all_jobs_every_five_minutes(world: World) -> None:
    for _ in range(5):
        started(world)
    old = backup(world)
    pass_time(world, 120)
    restore(world, old)
    world.model.jobs.clear()
    world.clock.advance(600)
    asked = len(world.core.exchanges)
    for _ in range(40):
        assert world.work(15) is Result.NOT_ALL
    lists = [each for each in world.core.exchanges[asked:] if each.call == "jobs.control.browse"]
    assert 0 < len(lists) <= 3 * 4  # each comparison asks for three states, and perhaps for single jobs


def test_one_job_without_a_trace_does_not_keep_the_others_waiting(world: World) -> None:
    gone, runs = started(world), started(world)
    old = backup(world)
    pass_time(world, 120)
    restore(world, old)
    world.model.jobs.remove(world.slurm(gone))
    world.clock.advance(600)
    drain(world)
    assert world.core.job(gone).state == "FAILURE"
    assert world.core.job(runs).state == "RUNNING"


# -- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["ucloud", "controller", "accounting"])
def test_when_one_does_not_answer_nothing_is_changed(world: World, ask: Ask, what: str) -> None:
    behind(world)
    world.model.accounting = True
    before = dump(world)
    with unreachable(world, what):
        failed = ask()
    assert failed.exit_code == 75
    assert "nothing was changed" in failed.stderr
    assert dump(world) == before
    assert Generation(world.provider.store).is_behind()
    assert ask().exit_code == 0


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(world: World, ask: Ask) -> None:
    old_job, new_job = behind(world)
    world.model.accounting = True
    end(world, old_job)
    before, asked = dump(world), len(world.core.exchanges)
    shown = ask("--dry-run", "--json")
    assert shown.exit_code == 1
    assert dump(world) == before
    assert {each.call for each in world.core.exchanges[asked:]} == {"jobs.control.browse"}
    assert world.model.counts["scancel"] == 0
    found = json.loads(shown.stdout)
    assert [(each["job"], each["act"]) for each in found["differences"]] == [(new_job, "adopt")]
    assert found["behind"] is not None
    assert not found["repaired"]
    for line in ask("--dry-run").stdout.splitlines()[-2:]:
        assert "would be repaired" in line or "nothing is reported" in line


def test_on_a_sound_database_nothing_differs(world: World, ask: Ask) -> None:
    started(world)
    world.submit()
    done = started(world)
    end(world, done)
    drain(world)
    assert (ask().exit_code, ask().stdout) == (0, "Nothing differs.\n")


def test_an_update_that_ucloud_missed_is_sent_again(world: World) -> None:
    job = world.submit()
    world.work(1)
    world.model.begin_run(world.slurm(job))
    world.core.faults.answer("jobs.control.update", 200, {})
    world.work(1)
    assert world.core.job(job).state == "IN_QUEUE"
    world.clock.advance(60)
    assert acts(reconcile(world)) == {job: Act.STATE}
    world.work(1)
    assert world.core.job(job).state == "RUNNING"


def test_that_it_is_behind_is_on_the_health_page(world: World) -> None:
    behind(world)
    answer = requests.get(f"{world.url}/readyz", timeout=5)
    assert answer.status_code == 500
    assert any("run ucloud-slurm reconcile" in reason for reason in answer.json()["reasons"])
