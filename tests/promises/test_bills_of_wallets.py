"""P4: what the jobs of a wallet cost is what Slurm counted for them, to half a unit over all of them."""

from typing import Any

import pytest

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.sandbox.site import PRODUCTS
from tests.support.model import Model
from ucloud_slurm.bridge.charges import Use
from ucloud_slurm.provider.billing import accounting_of, bill
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase

pytestmark = pytest.mark.every_era


@pytest.fixture
def products() -> list[dict[str, Any]]:
    return list(PRODUCTS)


@pytest.fixture
def world(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock, products: list[dict[str, Any]]
) -> World:
    provider = open_provider(products=products)
    model.gres = "gpu:4"
    return World(core, provider, model, clock, serve(provider))


def run(world: World, seconds: int, step: int = 10_000, **more: Any) -> str:
    """A job that has run so long and ended, with passes on the way; a pass sees its end."""
    job = world.submit(**more)
    world.model.begin_run(world.slurm(job))
    for _ in range(seconds // step):
        world.work(step)
    world.clock.advance(seconds % step)
    world.model.end(world.slurm(job))
    world.work()
    for _ in range(3):  # each message of a job waits for the one before
        world.work()
    assert world.row(job).phase is JobPhase.ENDED
    return job


def rests(world: World) -> list[tuple[str, str, str, str, int, int]]:
    """What the wallets carry."""
    return world.provider.store.tuples("select * from remainders order by owner_kind, owner, category, product")


def test_27_jobs_of_20_seconds_cost_9_minutes(world: World) -> None:
    jobs = [run(world, 20) for _ in range(27)]
    assert [world.booked(job) for job in jobs] == [0, 1, 0] * 9
    assert [world.row(job).used for job in jobs] == [20] * 27
    assert [rest for *_, rest in rests(world)] == [0]


@pytest.mark.parametrize("step", [45, 10_000])
def test_jobs_of_4_nodes_cost_what_they_used_to_half_a_node_minute(world: World, step: int) -> None:
    used = booked = 0
    for seconds in (1, 7, 50, 61, 130, 29, 200):
        job = run(world, seconds, step, replicas=4)
        used, booked = used + 4 * seconds, booked + world.booked(job)
        assert abs(used - 60 * booked) <= 30
    assert used > 60 * 30


def test_wallets_do_not_pay_for_each_other(world: World) -> None:
    assert [world.booked(run(world, 20, project=project)) for project in (None, "lab", None, "lab")] == [0, 0, 1, 1]
    assert [(kind, rest) for kind, *_, rest in rests(world)] == [("project", -20), ("user", -20)]


@pytest.mark.parametrize(
    "products",
    [
        [
            {"id": "example-compute-1", "category": "example-compute", "partition": "cpu", "cpus": 1, "price": 3},
            {"id": "example-compute-4", "category": "example-compute", "partition": "cpu", "cpus": 4, "price": 7},
        ]
    ],
)
def test_mixed_products_of_a_category_add_up_to_half_a_unit(world: World) -> None:
    kinds = [("example-compute-1", 1 * 3), ("example-compute-4", 4 * 7)]
    costs = {name: cost if world.provider.reports_usage else 1 for name, cost in kinds}
    exact, booked = dict.fromkeys(costs, 0), dict.fromkeys(costs, 0)
    for seconds, product in zip((20, 50, 29, 20, 20, 7, 95, 20), list(costs) * 4, strict=True):
        job = run(world, seconds, 40, product=product)
        exact[product] += seconds * costs[product]
        booked[product] += world.booked(job)
    differences = [exact[product] - 60 * booked[product] for product in costs]
    if world.provider.reports_usage:  # they count in the same unit
        differences = [sum(differences)]
    assert sorted(rest for *_, rest in rests(world)) == sorted(differences)
    assert all(abs(difference) <= 30 for difference in differences)


def test_a_requeued_job_carries_one_rest_for_all_of_its_runs(world: World) -> None:
    job = world.submit()
    for last in (False, True):
        world.model.begin_run(world.slurm(job))
        world.work(40)
        if not last:
            world.model.requeue(world.slurm(job), SlurmState.NODE_FAIL)
            world.work(20)
    assert rests(world) == [], "it runs"
    world.model.end(world.slurm(job))
    for _ in range(3):
        world.work()
    assert world.booked(job) == 1
    assert [rest for *_, rest in rests(world)] == [20]


def end_again(world: World, row: JobRow) -> None:
    """The last bill of a job, for 80 seconds."""
    accounting = accounting_of(world.provider, Lookup(world.provider), row)
    assert accounting is not None
    assert row.slurm_id is not None
    bill(world.provider, row, row.slurm_id, uses=[Use(80, 1, 1)], accounting=accounting, final=True)


def test_a_repeated_end_charges_and_carries_nothing(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(30)
    before = world.row(job)
    world.clock.advance(50)
    world.model.end(world.slurm(job))
    world.work()
    charged, carried = world.provider.charges.of(job), rests(world)
    for _ in range(2):
        end_again(world, before)
    assert (world.provider.charges.of(job), rests(world)) == (charged, carried)
    assert [rest for *_, rest in carried] == [20]


def test_a_job_that_ucloud_does_not_have_carries_nothing(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(20)
    before = world.row(job)
    world.provider.observations.forgotten(job, "UCloud does not have it.", world.clock())
    end_again(world, before)  # by a pass that has read it before
    world.work(5)
    world.work(5)
    assert world.slurm(job).run.ended is not None
    assert world.row(job).phase is JobPhase.REFUSED
    assert rests(world) == []


def counted_by(charge_by: str, **more: Any) -> list[dict[str, Any]]:
    return [dict(PRODUCTS[0]) | {"cpus": 2, "gpus": 1, "charge_by": charge_by} | more]


MOVED = {"partition": "gpu", "cpus": 64, "gpus": 4}


@pytest.mark.parametrize(
    ("products", "change", "weight"),
    [
        (counted_by("node"), MOVED, 32),
        (counted_by("node"), {"cpus": 3}, 2),
        (counted_by("node"), {"cpus": 1}, 1),
        (counted_by("node", exclusive=True), {"cpus": 64}, 1),
        (counted_by("core"), MOVED, 64),
        (counted_by("core", exclusive=True), MOVED, 64),
        (counted_by("core", exclusive=True), {"cpus": 64}, 2),
        (counted_by("gpu"), MOVED, 4),
        (counted_by("gpu"), {"cpus": 64, "tres": "cpu=64,node=1"}, 1),
        (counted_by("allocated"), {"cpus": 64}, 64),
        (counted_by("billing"), {"tres": "billing=70,cpu=2,gres/gpu=1,mem=200M,node=1"}, 70),
        (counted_by("billing"), {"tres": ""}, 2),
    ],
)
@pytest.mark.parametrize("seen", [False, True])
def test_a_job_that_is_changed_while_it_waits_costs_what_it_gets(
    world: World, change: dict[str, Any], weight: int, seen: bool
) -> None:
    job = world.submit()
    world.work(1)
    world.model.change(world.slurm(job), **change)
    if seen:
        world.work(1)
    world.model.begin_run(world.slurm(job))
    for _ in range(3):
        world.work(60)
        world.work()
    assert world.booked(job) == 3 * weight, "while it runs"
    world.clock.advance(60)
    world.model.end(world.slurm(job))
    for _ in range(3):
        world.work()
    assert world.booked(job) == 4 * weight
    assert world.row(job).used == 240 * weight


@pytest.mark.parametrize("products", [counted_by("allocated")])
@pytest.mark.parametrize(("first", "then"), [(8, 1), (1, 8)])
@pytest.mark.parametrize("seen", [True, False])
def test_a_job_whose_size_changes_while_it_runs_costs_each_size_while_it_had_it(
    world: World, first: int, then: int, seen: bool
) -> None:
    job = world.submit()
    world.model.change(world.slurm(job), cpus=first)
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.work(22)
    world.model.resize(world.slurm(job), then)
    for seconds in (1, 29, 30):
        world.clock.advance(seconds)
        if seen:
            world.work()
            assert 60 * world.booked(job) <= 23 * first + 60 * then, "never more than it has used"
    world.model.end(world.slurm(job))
    for _ in range(3):
        world.work()
    used = 23 * first + 60 * then
    assert world.row(job).used == used
    assert world.booked(job) == (used + 30) // 60
