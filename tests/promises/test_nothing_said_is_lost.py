"""P4 and P5: the bill is Slurm's own number, each period is booked once, and an outage loses nothing."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.support.model import Model
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.ucloud.reports import Charge
from ucloud_slurm.worker.run import Result, run_once


def run(world: World, seconds: int, step: int = 15) -> str:
    """A job that runs so long and ends, with passes on the way."""
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work()
    for _ in range(seconds // step):
        world.work(step)
    world.clock.advance(seconds % step)
    world.model.end(world.slurm(job_id))
    world.work()
    return job_id


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 0), (29, 0), (30, 1), (89, 1), (90, 2), (600, 10), (3599, 60)])
def test_charges_add_up_to_what_slurm_counted(world: World, seconds: int, minutes: int) -> None:
    job_id = run(world, seconds)
    assert world.booked(job_id) == minutes
    assert world.row(job_id).used == seconds


def test_nodes_multiply_the_charge(world: World) -> None:
    job_id = world.submit(replicas=3)
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.work(119)
    world.work()
    assert [(charge.units, charge.multiplier) for charge in world.core.job(job_id).charges] == [(1, 3), (1, 3)]


def test_every_run_of_a_requeued_job_is_charged(world: World) -> None:
    job_id = world.submit()
    job = world.slurm(job_id)
    world.model.begin_run(job)
    world.work(40)
    world.model.requeue(job, SlurmState.NODE_FAIL)
    world.work(100)
    world.model.begin_run(job)
    world.work(50)
    assert world.booked(job_id) == 1  # of 40 seconds before and 50 since
    world.model.end(job)
    world.work(5)
    assert world.model.used(job) == 90
    assert world.booked(job_id) == 2
    assert world.told(job_id) == ["RUNNING", "IN_QUEUE", "RUNNING", "SUCCESS"]


@pytest.mark.parametrize("charging", ["as-documented", "as-coded"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_charge_whose_answer_was_lost_is_booked_once(world: World, times: int, charging: Any) -> None:
    world.core.charging = charging
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.core.faults.drop_answer("jobs.control.chargeCredits", times=times)
    for seconds in (60, *(1 for _ in range(1, times))):
        assert world.work(seconds) is Result.NOT_ALL
    assert world.work(1) is Result.DONE
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert world.booked(job_id) == 1
    assert world.row(job_id).stop is None


def test_a_core_that_lists_a_repeated_charge_as_unpaid_does_not_kill_the_job(world: World) -> None:
    world.core.charging = "as-coded"
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.core.faults.drop_answer("jobs.control.chargeCredits", times=1)
    world.work(60)
    world.work(1)
    assert world.row(job_id).stop is None
    assert [charge.outcome for charge in world.provider.charges.of(job_id)] == [MessageOutcome.DOUBTFUL]
    world.work(60)
    assert world.row(job_id).stop is None
    assert world.booked(job_id) == 2


def test_a_job_that_is_adopted_is_not_stopped_for_charges_that_were_booked_before(world: World) -> None:
    world.core.charging = "as-coded"
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    for _ in range(3):
        world.work(60)
    assert world.booked(job_id) == 3
    for table in ("outbox", "charges", "jobs"):
        world.provider.store.change(f"delete from {table} where {'id' if table == 'jobs' else 'job_id'} = ?", [job_id])
    world.core.verify()
    for _ in range(3):
        world.work(20)
    assert world.row(job_id).stop is None
    assert world.booked(job_id) == 4
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert world.told(job_id)[-1] == "SUCCESS"
    assert world.core.job(job_id).updates[-1]["status"] == "The job has ended."


def test_a_running_job_of_an_earlier_release_is_billed_on_from_where_it_was_charged(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock
) -> None:
    provider = open_provider(accounting={"every": "300s"})
    world = World(core, provider, model, clock, serve(provider))
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.clock.advance(420)
    # That release charged what had gathered, whenever it looked.
    number = world.slurm(job_id).run.id
    provider.charges.add(Charge(f"{job_id}-{number}-0-420", job_id, 7, 1, "Slurm job"), number, 420, clock())
    for _ in range(9):
        world.work(60)
    world.clock.advance(30)
    world.model.end(world.slurm(job_id))
    world.work()
    assert [charge.charge_id.partition(f"-{number}-")[2] for charge in core.job(job_id).charges] == [
        "0-420",
        "420-600",
        "600-900",
        "900-end",
    ]
    assert world.booked(job_id) == round(world.model.used(world.slurm(job_id)) / 60)


@pytest.mark.parametrize("charging", ["as-documented", "as-coded"])
def test_a_job_without_funds_is_cancelled_and_said_so(world: World, charging: str) -> None:
    world.core.charging = charging  # type: ignore[assignment]
    job_id = world.submit()
    world.core.wallets.set(owner="user", credits=1)
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.work(60)
    assert world.row(job_id).stop is Stop.NO_FUNDS
    world.work(1)
    assert world.slurm(job_id).run.state is SlurmState.CANCELLED
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]
    assert world.core.job(job_id).updates[-1]["status"] == "Insufficient funds"


def test_in_a_bulk_only_the_job_that_cannot_pay_is_stopped(world: World) -> None:
    ids = [world.submit(owner=owner) for owner in ("rich", "poor", "richer", "wealthy")]
    world.core.wallets.set(owner="poor", credits=1)
    for job_id in ids:
        world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.work(60)
    assert [world.row(job_id).stop for job_id in ids] == [None, Stop.NO_FUNDS, None, None]
    assert [world.booked(job_id) for job_id in ids] == [1, 0, 1, 1]


def test_a_job_is_cancelled_until_slurm_confirms(world: World) -> None:
    job_id = world.submit()
    world.core.wallets.set(owner="user", credits=1)
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.model.cancels_reach = False
    world.work(60)
    for _ in range(3):
        world.work(5)
    assert world.told(job_id) == ["RUNNING"]
    assert world.model.counts["scancel"] >= 4
    world.model.cancels_reach = True
    world.work(5)
    world.work(5)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_a_job_that_ended_by_itself_is_not_said_to_be_stopped_for_funds(world: World) -> None:
    job_id = world.submit()
    world.core.wallets.set(owner="user", credits=1)
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.clock.advance(60)
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]
    assert world.core.job(job_id).updates[-1]["status"] == "The job has ended."


def test_a_day_without_ucloud_loses_nothing_and_drains_in_order(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.core.faults.outage(True)
    for _ in range(6):
        assert world.work(4 * 3600) is Result.NOT_ALL
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert world.told(job_id) == []
    world.core.faults.outage(False)
    assert world.work(1) is Result.DONE
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]
    assert world.booked(job_id) == 24 * 60
    kinds = [row.kind for row in world.provider.outbox.of(job_id)]
    assert kinds[0] == kinds[-1] == "update"
    assert set(kinds[1:-1]) == {"charge"}


@pytest.mark.parametrize("fault", ["html", "500", "502", "429"])
def test_an_answer_that_is_none_is_no_answer(world: World, fault: str) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    if fault == "html":
        world.core.faults.html("jobs.control.update", times=3)
    else:
        world.core.faults.answer("jobs.control.update", int(fault), times=3)
    assert world.work(1) is Result.NOT_ALL
    world.work(1)
    assert world.told(job_id) == ["RUNNING"]


def test_a_message_that_core_refuses_for_good_is_parked_and_the_rest_goes_on(world: World) -> None:
    first, second = world.submit(), world.submit()
    for job_id in (first, second):
        world.model.begin_run(world.slurm(job_id))
    world.core.lose(first)
    assert world.work(1) is Result.DONE
    assert world.told(second) == ["RUNNING"]
    (parked,) = world.provider.outbox.listed(1000)
    assert (parked.job_id, parked.outcome) == (first, MessageOutcome.PARKED)


@pytest.mark.parametrize("status", [403, 404, 405, 409, 413])
def test_an_error_that_is_not_about_a_message_parks_none(world: World, status: int) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    body = {} if status == 404 else {"why": "something in between says no"}
    world.core.faults.answer("jobs.control.update", status, body, times=1)
    assert world.work(1) is Result.NOT_ALL
    assert world.work(1) is Result.DONE
    assert world.told(job_id) == ["RUNNING"]


def test_a_402_without_a_body_stops_the_job_all_the_same(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.core.faults.answer("jobs.control.chargeCredits", 402, {}, times=1)
    assert world.work(60) is Result.DONE
    assert world.row(job_id).stop is Stop.NO_FUNDS
    world.work(1)
    assert world.core.job(job_id).updates[-1]["status"] == "Insufficient funds"


def test_a_400_without_a_body_does_not_hold_up_the_rest(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.core.faults.answer("jobs.control.update", 400, {}, times=1)
    assert world.work(1) is Result.DONE
    assert [row.outcome for row in world.provider.outbox.of(job_id)] == [MessageOutcome.PARKED]


def test_what_was_parked_can_be_sent_again(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.core.faults.answer("jobs.control.update", 400, {"why": "Unable to use all requested resources"}, times=1)
    assert world.work(1) is Result.DONE
    assert world.told(job_id) == []
    assert world.provider.outbox.retry() == 1
    world.work(1)
    assert world.told(job_id) == ["RUNNING"]


def test_a_doubtful_charge_does_not_drag_its_neighbours_along(world: World) -> None:
    world.core.charging = "as-coded"
    first = world.submit()
    world.model.begin_run(world.slurm(first))
    world.work(1)
    world.core.faults.drop_answer("jobs.control.chargeCredits", times=1)
    world.work(60)
    second = world.submit()
    world.model.begin_run(world.slurm(second))
    world.core.faults.outage(True)
    world.work(60)
    world.core.faults.outage(False)
    world.core.faults.answer("jobs.control.checkCredits", 400, {"why": "no"}, times=1)
    world.work(1)
    assert [world.row(id_).stop for id_ in (first, second)] == [None, None]


def test_the_price_that_was_known_holds_while_ucloud_does_not_say_it(world: World) -> None:
    job_id = world.submit()
    world.work(1)
    world.clock.advance(25 * 3600)
    world.core.faults.answer("products.retrieve", 404, {"why": "Not found"}, times=9)
    world.model.begin_run(world.slurm(job_id))
    world.clock.advance(600)
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert world.booked(job_id) == 10
    assert world.told(job_id) == ["RUNNING", "SUCCESS"]


def test_a_ucloud_that_hangs_is_asked_once_in_a_pass(world: World) -> None:
    world.core.include_resolved = False
    world.core.faults.answer("jobs.control.retrieve", 500, times=99)
    ids = [world.submit() for _ in range(5)]
    world.clock.advance(20)
    asked = len(world.core.exchanges)
    world.work(1)
    later = [exchange.call for exchange in world.core.exchanges[asked:]]
    assert later.count("jobs.control.retrieve") <= 3
    assert all(world.model.of(job_id) == [] for job_id in ids)


def test_an_expired_access_token_is_renewed_once_and_nothing_is_lost(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.core.tokens.revoke_access()
    assert world.work(1) is Result.DONE
    assert world.told(job_id) == ["RUNNING"]


def test_a_restart_asks_for_no_new_token_product_or_application(world: World, open_provider: Open) -> None:
    world.core.include_resolved = False
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    asked = [exchange.call for exchange in world.core.exchanges]
    assert "products.retrieve" in asked
    assert "jobs.control.retrieve" in asked
    world.provider.close()
    world.provider = open_provider()
    world.clock.advance(60)
    run_once(world.provider)
    later = [exchange.call for exchange in world.core.exchanges][len(asked) :]
    assert set(later) == {"jobs.control.chargeCredits"}


def test_updates_wait_until_create_has_been_answered(world: World) -> None:
    job_id = world.submit()
    world.provider.store.change("update jobs set promised_at = null")
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    assert world.told(job_id) == []
    world.work(15)
    assert world.told(job_id) == ["RUNNING"]


def test_a_product_taken_out_of_the_configuration_is_charged_to_the_end(world: World, open_provider: Open) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.provider.close()
    other = {"id": "other", "category": "example-compute", "partition": "cpu"}
    world.provider = open_provider(products=[other])
    world.work(120)
    world.model.end(world.slurm(job_id))
    world.work(1)
    assert world.booked(job_id) == 2


@pytest.mark.every_era
def test_the_folder_of_a_job_is_told_where_ucloud_has_a_path_for_it(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock, tmp_path: Path
) -> None:
    roots = [{"ucloud": "/everything", "local": str(tmp_path)}, {"ucloud": "/jobs", "local": f"{tmp_path}/jobs"}]
    provider = open_provider(files=roots)
    world = World(core, provider, model, clock, serve(provider))
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    assert [update["outputFolder"] for update in core.job(job_id).updates] == [f"/jobs/{job_id}"]


def test_no_folder_is_told_where_ucloud_has_no_path_for_it(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    assert [update["outputFolder"] for update in world.core.job(job_id).updates] == [None]
