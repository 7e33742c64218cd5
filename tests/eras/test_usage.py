"""Use as today's Core is told it: one number for each job, that grows, and is Slurm's own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Clock, Open, Serve, World, configuration
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.today.quotas import Report
from tests.support.model import Model
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.channel import Payer, Wallet
from ucloud_slurm.ucloud.core import Core
from ucloud_slurm.ucloud.eras import ERA_2022, ERA_TODAY, Era
from ucloud_slurm.ucloud.reports import Charge
from ucloud_slurm.worker.run import run_once

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
REPORT = "accounting.v2.reportUsage"
CORES = {"id": "example-compute-1", "category": "example-compute", "partition": "cpu", "cpus": 4, "memory_gb": 1, "gpus": 0}


@pytest.fixture
def products() -> list[dict[str, Any]]:
    return [CORES]


@pytest.fixture
def world(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock, products: list[dict[str, Any]]
) -> World:
    provider = open_provider(products=products)
    return World(core, provider, model, clock, serve(provider))


def run(world: World, seconds: int = 0, **more: Any) -> str:
    """A job that has run for so long."""
    job = world.submit(**more)
    world.model.begin_run(world.slurm(job))
    world.work(1)
    if seconds:
        world.clock.advance(seconds - 1)
    return job


def reports(world: World, job: str) -> list[Report]:
    return [each for each in world.core.accounts.reports if each.scope == f"example/example-compute/job/{job}"]


@pytest.mark.parametrize(("seconds", "units"), [(7, 0), (8, 1), (60, 4), (89, 6), (3600, 240), (100_000, 6667)])
def test_what_is_told_in_the_end_is_what_slurm_counted_to_half_a_core_minute(world: World, seconds: int, units: int) -> None:
    job = run(world, seconds)
    world.model.end(world.slurm(job))
    world.work()
    assert world.booked(job) == units
    assert world.told(job) == ["RUNNING", "SUCCESS"]


def test_what_is_told_grows_and_never_falls(world: World) -> None:
    job = run(world)
    for seconds in (60, 1, 200, 0, 30, 17, 1000):
        world.work(seconds)
    world.model.requeue(world.slurm(job))
    world.work(1)
    world.model.begin_run(world.slurm(job))
    for seconds in (1, 100):
        world.work(seconds)
    world.model.end(world.slurm(job))
    world.work(1)
    told = [each.usage for each in reports(world, job)]
    assert told == sorted(set(told))
    assert abs(told[-1] * 60 - 4 * world.model.used(world.slurm(job))) <= 30
    assert all(not each.is_delta for each in reports(world, job))


def test_a_job_ends_though_its_price_has_changed_and_the_same_number_comes_again(world: World) -> None:
    job = run(world)
    config = world.provider.config
    for price, seconds in ((2, 60), (1, 60)):
        products = tuple(replace(product, price=price) for product in config.products)
        provider = replace(world.provider, config=replace(config, products=products))
        world.clock.advance(seconds)
        if price == 1:
            world.model.end(world.slurm(job))
        run_once(provider)
    assert [each.usage for each in reports(world, job)] == [8, 8]
    assert world.told(job)[-1] == "SUCCESS"


def test_nothing_is_told_twice_though_an_answer_is_lost_and_the_worker_dies(world: World) -> None:
    job = run(world)
    world.core.faults.drop_answer(REPORT, 2)
    for _ in range(4):
        world.work(60)
    account = world.core.accounts.get()
    assert account.usage == world.booked(job) == 4 * 4


def test_a_day_without_core_is_one_number_afterwards(world: World) -> None:
    job = run(world)
    world.work(60)
    before = len(reports(world, job))
    world.core.faults.outage(True)
    for _ in range(24):
        world.work(3600)
    assert world.provider.outbox.waiting() == 1
    world.core.faults.outage(False)
    world.work(20)
    assert len(reports(world, job)) == before + 1
    assert world.booked(job) == (24 * 3600 + 60 + 20) * 4 // 60


def test_a_thousand_jobs_are_told_in_one_request(world: World) -> None:
    jobs = [world.submit() for _ in range(30)]
    for job in jobs:
        world.model.begin_run(world.slurm(job))
    world.work(1)
    world.work(1)
    before = len([each for each in world.core.exchanges if each.call == REPORT])
    world.work(60)
    asked = [each for each in world.core.exchanges if each.call == REPORT][before:]
    assert [len(each.request["items"]) for each in asked] == [30]


def test_the_project_pays_or_the_person(world: World) -> None:
    own, projects = run(world, 120), run(world, 120, project="lab")
    for job in (own, projects):
        world.model.end(world.slurm(job))
    world.work(1)
    assert world.core.accounts.get().usage == world.booked(own) > 0
    assert world.core.accounts.get(project="lab").usage == world.booked(projects) > 0


def test_when_nothing_is_left_the_owners_jobs_end_and_are_charged_as_slurm_counted(world: World) -> None:
    jobs = [run(world) for _ in range(3)]
    other = run(world, project="lab")
    world.core.accounts.set_quota(10)
    world.work(60)
    assert all(world.slurm(job).run.ended is not None for job in jobs), "in the pass that was told so"
    world.work(1)
    world.work(1)
    for job in jobs:
        assert world.core.job(job).state == "SUCCESS"
        assert world.core.job(job).updates[-1]["status"] == "Insufficient funds"
        assert world.row(job).phase is JobPhase.ENDED
    used = sum(4 * world.model.used(world.slurm(job)) for job in jobs)
    assert abs(sum(map(world.booked, jobs)) * 60 - used) <= 30
    assert world.core.job(other).state == "RUNNING"


@pytest.mark.parametrize("left", [True, False])
def test_what_the_channel_says_while_use_is_told_is_newer_than_the_answer(
    world: World, mocker: MockerFixture, left: bool
) -> None:
    run(world)
    payer = Payer.of("user", None, "example-compute")

    def slow(_core: Core, items: Sequence[object]) -> list[bool]:
        wallet = Wallet(payer, "example", True, 10, 5, not left, world.clock())
        world.provider.wallets.take([wallet], "example", world.clock())
        return [not left] * len(items)

    mocker.patch.object(Core, "report_usage", slow)
    world.work(60)
    assert world.provider.wallets.locked(payer) is not left


def test_a_refused_report_stops_neither_the_others_nor_the_job(world: World) -> None:
    jobs = [run(world) for _ in range(3)]
    row = world.row(jobs[1])
    world.provider.store.change("update jobs set category = 'gone' where id = ?", [row.id])
    world.work(60)
    world.work(60)
    assert world.booked(jobs[0]) > 0
    assert world.booked(jobs[2]) > 0
    assert world.core.job(jobs[1]).state == "RUNNING"


@pytest.mark.parametrize(
    ("products", "units"),
    [
        ([CORES | {"charge_by": "node"}], 10),
        ([CORES | {"frequency": "hour"}], 1),
        ([CORES | {"charge_by": "node", "unit": "CREDITS_PER_MINUTE", "price": 1_500_000}], 15_000_000),
    ],
)
def test_the_category_says_what_is_counted(world: World, units: int) -> None:
    job = run(world, 600)
    world.model.end(world.slurm(job))
    world.work()
    assert world.booked(job) == units


def test_what_was_charged_by_periods_before_is_not_told_as_use_again(world: World) -> None:
    job = run(world, 600)
    world.provider.store.change("update jobs set charged = ?1, by_periods = ?1 where id = ?2", [600 * 4, job])
    world.work()
    assert world.booked(job) == 0
    world.clock.advance(600)
    world.model.end(world.slurm(job))
    world.work()
    assert world.booked(job) == 10 * 4


def test_a_charge_that_waited_for_another_era_is_parked_and_not_sent(world: World) -> None:
    job = run(world)
    charge = Charge(f"{job}-1-0-240", job, 1, 4, "1 minute")
    world.provider.charges.add(charge, 1, 240, world.clock())
    world.work(1)
    assert world.row(job).by_periods == 240
    (message,) = (row for row in world.provider.outbox.of(job) if row.kind == "charge")
    assert (message.outcome, "book it by hand" in (message.answer or "")) == ("parked", True)
    assert "jobs.control.chargeCredits" not in {each.call for each in world.core.exchanges}


def test_charges_cannot_be_configured_for_a_core_that_reads_no_time_from_them(core: SimulatedCore, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"accounting\.mode"):
        Provider.open(configuration(core, tmp_path, accounting={"mode": "charge"}))


def test_nothing_is_charged_where_use_is_reported(world: World) -> None:
    job = run(world, 600)
    world.model.end(world.slurm(job))
    world.work(1)
    called = {each.call for each in world.core.exchanges}
    assert REPORT in called
    assert not called & {"jobs.control.chargeCredits", "jobs.control.checkCredits"}


@pytest.mark.parametrize("products", [[{"id": "example-compute-4", "category": "example-compute", "partition": "cpu"}]])
def test_the_cpus_of_a_product_are_those_that_core_has(world: World) -> None:
    job = run(world, product="example-compute-4")
    world.provider.store.change("delete from caches where kind = 'product'")
    world.clock.advance(599)
    world.model.end(world.slurm(job))
    world.work()
    assert world.booked(job) == 10 * 4
    assert "products.v2.retrieve" in {each.call for each in world.core.exchanges}


@pytest.mark.parametrize(
    ("one", "mode", "reports"),
    [(ERA_TODAY, "auto", True), (ERA_TODAY, "off", False), (ERA_2022, "auto", False), (ERA_2022, "report-usage", True)],
)
def test_how_use_is_told_goes_by_the_era_unless_it_is_set(open_provider: Open, one: Era, mode: str, reports: bool) -> None:
    assert replace(open_provider(accounting={"mode": mode}), era=one).reports_usage is reports
