"""More time, suspension, load: what UCloud asks of a job that runs, in every era."""

from typing import Any

import pytest

from tests.conftest import Open, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.support.factories import job_data
from tests.support.model import Model
from ucloud_slurm.slurm.errors import ActionRefusedError
from ucloud_slurm.slurm.states import SlurmState

pytestmark = pytest.mark.every_era
BASE = "/ucloud/example"


def post(world: World, path: str, *items: Any) -> tuple[int, Any]:
    return world.core.call("POST", f"{BASE}/{path}", {"items": list(items)})


@pytest.fixture
def job(world: World) -> str:
    """A job that runs, with a limit of half an hour."""
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    return job_id


def extend(job_id: str, minutes: int, **more: Any) -> dict[str, Any]:
    requested = {"hours": minutes // 60, "minutes": minutes % 60, "seconds": 0}
    return {"job": job_data(job_id, **more), "requestedTime": requested}


# -- extend -----------------------------------------------------------------------------------------------------


def test_an_extension_raises_the_limit_and_is_told(world: World, job: str) -> None:
    world.core.extend(job, 30)
    world.work(1)
    assert world.slurm(job).minutes == 60
    last = world.core.job(job).updates[-1]
    assert last["status"] == "The job may now run for 1 hour."
    assert last.get("newTimeAllocation") == (3_600_000 if world.provider.era.has_new_time_allocation else None)


def test_a_repeated_extension_is_done_once(world: World, job: str) -> None:
    item = extend(job, 30, timeAllocation={"hours": 0, "minutes": 30, "seconds": 0})
    for _ in range(3):
        assert post(world, "jobs/extend", item)[0] == 200
        world.clock.advance(5)
    assert world.slurm(job).minutes == 60
    world.work(1)
    told = [update["status"] for update in world.core.job(job).updates if update["state"] is None]
    assert told == ["The job may now run for 1 hour."]


def test_a_second_extension_is_another_one(world: World, job: str) -> None:
    for minutes in (60, 90, 120):
        world.core.extend(job, 30)
        world.work(61)
        assert world.slurm(job).minutes == minutes


def test_an_extension_beyond_the_partition_is_refused_with_the_limit(world: World, job: str) -> None:
    with pytest.raises(CoreError, match=r"at most 10 hours in all.*partition cpu") as refusal:
        world.core.extend(job, 600)
    assert refusal.value.status == 400
    assert world.slurm(job).minutes == 30


def test_an_extension_beyond_the_product_is_refused_with_the_limit(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model
) -> None:
    product = {"id": "example-compute-1", "category": "example-compute", "partition": "cpu", "time_max": "1h"}
    provider = open_provider(products=[product])
    world = World(core, provider, model, provider.now, serve(provider))  # type: ignore[arg-type]
    job = world.submit()
    with pytest.raises(CoreError, match=r"at most 1 hour in all.*product"):
        core.extend(job, 60)


def test_without_the_right_to_it_the_refusal_says_which_role_is_missing(world: World, job: str) -> None:
    world.model.operator = False
    with pytest.raises(CoreError, match="Operator") as refusal:
        world.core.extend(job, 30)
    assert refusal.value.status == 403
    with pytest.raises(CoreError, match="Operator"):
        world.core.suspend(job)


def test_all_jobs_of_a_request_are_extended_or_none(world: World, job: str) -> None:
    other = world.submit()
    allocation = {"hours": 0, "minutes": 30, "seconds": 0}
    status, body = post(
        world, "jobs/extend", extend(job, 30, timeAllocation=allocation), extend(other, 601, timeAllocation=allocation)
    )
    assert status == 400
    assert body["why"].startswith(f"items[1] (job {other})")
    assert (world.slurm(job).minutes, world.slurm(other).minutes) == (30, 30)


def test_what_slurm_refuses_half_way_takes_the_rest_of_the_request_back(world: World, job: str) -> None:
    other = world.submit()
    real = world.model.set_time_limit

    def refusing(slurm_id: Any, minutes: int, within: float) -> None:
        if slurm_id == world.slurm(other).run.id:
            raise ActionRefusedError("Access/permission denied")
        real(slurm_id, minutes, within)

    world.model.set_time_limit = refusing  # type: ignore[method-assign,assignment]
    status, body = post(world, "jobs/extend", extend(job, 30), extend(other, 30))
    assert status == 403
    assert body["why"].startswith(f"items[1] (job {other})")
    assert world.slurm(job).minutes == 30


@pytest.mark.parametrize("seconds", [0, None])
def test_an_extension_by_nothing_is_refused(world: World, job: str, seconds: int | None) -> None:
    requested = None if seconds is None else {"hours": 0, "minutes": 0, "seconds": seconds}
    status, body = post(world, "jobs/extend", {"job": job_data(job), "requestedTime": requested})
    assert status == 400
    assert "requestedTime" in body["why"]


def test_a_limit_that_an_administrator_changed_is_told(world: World, job: str) -> None:
    world.slurm(job).minutes = 20
    world.work(1)
    world.work(1)
    told = [update["status"] for update in world.core.job(job).updates if update["state"] is None]
    assert told == ["The job may now run for 20 minutes."]


def test_an_extension_that_was_done_but_not_written_down_is_told_by_the_worker(world: World, job: str) -> None:
    world.model.set_time_limit(world.slurm(job).run.id, 60, 1.0)
    world.work(1)
    assert world.core.job(job).updates[-1]["status"] == "The job may now run for 1 hour."


# -- suspend ----------------------------------------------------------------------------------------------------


def suspended(world: World) -> str:
    return "SUSPENDED" if world.provider.era.has_suspended else "IN_QUEUE"


def test_a_suspended_job_is_told_in_the_words_of_the_era_and_goes_on(world: World, job: str) -> None:
    world.core.suspend(job)
    assert world.slurm(job).run.state is SlurmState.SUSPENDED
    world.work(1)
    assert world.core.job(job).state == suspended(world)
    assert post(world, "jobs/unsuspend", {"job": job_data(job)})[0] == 200
    world.work(1)
    assert world.told(job) == ["RUNNING", suspended(world), "RUNNING"]


@pytest.mark.parametrize("shape", ["bare", "wrapped"])
def test_both_shapes_of_an_item_are_understood(world: World, job: str, shape: str) -> None:
    item = job_data(job) if shape == "bare" else {"job": job_data(job)}
    assert post(world, "jobs/suspend", item) == (200, {"responses": [{}]})
    assert world.slurm(job).run.state is SlurmState.SUSPENDED


def test_suspending_and_resuming_twice_is_as_once(world: World, job: str) -> None:
    for path, state in (("jobs/suspend", SlurmState.SUSPENDED), ("jobs/unsuspend", SlurmState.RUNNING)):
        for _ in range(2):
            assert post(world, path, {"job": job_data(job)})[0] == 200
        assert world.slurm(job).run.state is state


def test_a_job_that_waits_cannot_be_suspended_and_none_of_its_request_is(world: World, job: str) -> None:
    waits = world.submit()
    status, body = post(world, "jobs/suspend", {"job": job_data(job)}, {"job": job_data(waits)})
    assert status == 409
    assert body["why"].startswith(f"items[1] (job {waits}): Only a running job can be suspended")
    assert world.slurm(job).run.state is SlurmState.RUNNING


@pytest.mark.parametrize("path", ["jobs/suspend", "jobs/unsuspend", "jobs/extend", "jobs/interactiveSession"])
def test_a_job_that_is_unknown_or_has_ended_is_refused_by_name(world: World, job: str, path: str) -> None:
    def item(job_id: str) -> dict[str, Any]:
        more = {"requestedTime": {"hours": 1, "minutes": 0, "seconds": 0}, "rank": 0, "sessionType": "SHELL"}
        return {"job": job_data(job_id)} | more

    assert post(world, path, item("999"))[0] == 404
    world.model.end(world.slurm(job))
    status, body = post(world, path, item(job))
    assert (status, body["why"]) == (400, "The job has ended.")
    world.work(1)
    status, body = post(world, path, item(job))
    assert (status, body["why"]) == (400, "The job has ended.")


@pytest.mark.parametrize("path", ["jobs/suspend", "jobs/unsuspend", "jobs/extend", "jobs/interactiveSession"])
def test_while_slurm_does_not_answer_nothing_is_done_and_the_answer_says_so(world: World, job: str, path: str) -> None:
    world.model.controller = False
    more = {"requestedTime": {"hours": 1, "minutes": 0, "seconds": 0}, "rank": 0, "sessionType": "SHELL"}
    for _ in range(2):
        status, body = post(world, path, {"job": job_data(job)} | more)
        assert status == 500
        assert "try again" in body["why"]
    assert world.model.counts["scontrol"] == 0


# -- terminate --------------------------------------------------------------------------------------------------


def test_jobs_of_a_request_are_looked_at_and_cancelled_with_one_command_each(world: World) -> None:
    jobs = [world.submit() for _ in range(20)]
    other = world.submit()
    world.model.counts.clear()
    assert post(world, "jobs/terminate", *(job_data(job) for job in jobs))[0] == 200
    assert (world.model.counts["squeue"], world.model.counts["scancel"]) == (1, 1)
    assert {world.slurm(job).run.state for job in jobs} == {SlurmState.CANCELLED}
    assert world.slurm(other).run.state is SlurmState.PENDING


def test_one_job_of_a_request_whose_number_is_used_again_is_not_cancelled_and_the_others_are(world: World) -> None:
    jobs = [world.submit() for _ in range(3)]
    theirs = world.slurm(jobs[1])
    theirs.runs[-1] = theirs.run._replace(uid=theirs.run.uid + 1 if theirs.run.uid is not None else None)
    assert post(world, "jobs/terminate", *(job_data(job) for job in jobs))[0] == 200
    assert [world.slurm(job).run.state for job in jobs] == [SlurmState.CANCELLED, SlurmState.PENDING, SlurmState.CANCELLED]


# -- load -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_the_load_is_told_in_bytes_and_asked_of_slurm_once_in_a_while(world: World, job: str) -> None:
    first = world.core.retrieve_utilization(job)
    assert first == {
        "capacity": {"cpu": 64.0, "memory": 32000 * 2**20},
        "usedCapacity": {"cpu": 1.0, "memory": 0},
        "queueStatus": {"running": 1, "pending": 0},
    }
    asked = world.model.counts["sinfo"]
    world.submit()
    for _ in range(5):
        assert world.core.retrieve_utilization(job) == first
    assert world.model.counts["sinfo"] == asked
    world.clock.advance(6)
    assert world.core.retrieve_utilization(job)["queueStatus"] == {"running": 1, "pending": 1}


def test_the_load_of_a_category_that_is_not_sold_is_refused(world: World) -> None:
    status, body = world.core.call("GET", f"{BASE}/jobs/retrieveUtilization?categoryId=moon")
    assert status == 400
    assert "moon" in body["why"]


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_a_load_that_is_a_moment_old_is_better_than_none(world: World, job: str) -> None:
    first = world.core.retrieve_utilization(job)
    world.model.controller = False
    world.clock.advance(30)
    assert world.core.retrieve_utilization(job) == first
    world.clock.advance(60)
    assert world.core.call("GET", f"{BASE}/jobs/retrieveUtilization")[0] == 500


# -- products ---------------------------------------------------------------------------------------------------


def test_more_time_is_offered_only_where_slurm_lets_us_give_it(world: World) -> None:
    world.model.operator = False
    assert world.core.retrieve_products()[0]["native"]["timeExtension"] is False
    world.model.operator = True
    world.clock.advance(601)
    assert world.core.retrieve_products()[0]["native"]["timeExtension"] is True
    world.model.accounting = False
    world.clock.advance(601)
    assert world.core.retrieve_products()[0]["native"]["timeExtension"] is True


def test_pages_of_applications_are_offered_only_where_they_can_be_reached(
    core: SimulatedCore, open_provider: Open, serve: Serve
) -> None:
    serve(open_provider())
    assert core.retrieve_products()[0]["native"]["web"] is False
    serve(open_provider(sessions={"url": "https://*.apps.example.org"}))
    block = core.retrieve_products()[0]["native"]
    assert block["web"] is block["vnc"] is True


@pytest.mark.parametrize(
    "containers", [{"runtime": "host"}, {"runtime": "apptainer", "registry": "docker://"}], ids=["host", "apptainer"]
)
def test_applications_with_an_image_are_offered_only_where_they_can_run(
    containers: dict[str, str], core: SimulatedCore, open_provider: Open, serve: Serve
) -> None:
    serve(open_provider())
    assert core.retrieve_products()[0]["docker"]["enabled"] is False
    serve(open_provider(containers=containers))
    product = core.retrieve_products()[0]
    assert product["docker"] == product["native"] | {"enabled": True, "peers": False}


# -- people -----------------------------------------------------------------------------------------------------


def test_nobody_has_to_connect_and_whoever_tries_is_told_so(world: World) -> None:
    status, body = world.core.call("POST", f"{BASE}/integration/connect", {"username": "user"})
    assert status == 400
    assert "no need to connect" in body["why"]
    for path in ("integration/init", "integration/unlinked"):
        assert world.core.call("POST", f"{BASE}/{path}", {"username": "user"}) == (200, {})
    principal = {"principal": {"createdBy": "user", "project": None}}
    assert world.core.call("POST", f"{BASE}/jobs/init", principal) == (200, {})


def test_the_status_says_how_the_provider_does(world: World, job: str) -> None:
    assert world.core.call("GET", f"{BASE}/integration/retrieveStatus")[1]["level"] == "NORMAL"
    world.model.controller = False
    world.work(1)
    assert world.core.call("GET", f"{BASE}/integration/retrieveStatus")[1]["level"] == "DEGRADED"
