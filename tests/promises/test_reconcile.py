"""P3, P5: the command ``reconcile``, which compares database, Slurm and UCloud, and repairs what differs."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from click.testing import Result as Run

from tests.conftest import World
from tests.support.restore import acts, backup, behind, drain, dump, end, pass_time, reconcile, restore, started, unreachable
from ucloud_slurm.cli.main import main
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.worker.comparison import Act
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.every_era
Ask = Callable[..., Run]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, model: Any) -> Ask:
    """Runs ``reconcile`` over the world."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)
    monkeypatch.setattr("ucloud_slurm.cli.context.Provider.open", lambda _config: world.provider)
    monkeypatch.setattr(type(world.provider), "close", lambda _: None)
    return lambda *words: CliRunner().invoke(main, ["reconcile", *words])


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


def test_a_job_is_not_without_a_trace_while_the_accounting_lacks_records(world: World, ask: Ask) -> None:
    job = started(world)
    old = backup(world)
    pass_time(world, 120)
    restore(world, old)
    model = world.slurm(job)
    world.model.end(model)
    model.in_queue, model.in_accounting, world.model.backlog = False, False, 20_000
    world.clock.advance(600)
    assert world.work(60) is Result.NOT_ALL
    refused = ask()
    assert refused.exit_code != 0
    assert "sacct does not have everything yet" in refused.output
    world.model.backlog, model.in_accounting = 0, True
    drain(world)
    assert world.core.job(job).state == "SUCCESS"


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
