"""While a machine is under maintenance nothing new gets to Slurm: new jobs are refused, accepted ones wait, others go on."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Open, World
from tests.sandbox.core import CoreError
from tests.support.executor import let_threads_finish
from tests.support.factories import job_data
from tests.support.model import Model
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.submission import build, submit_accepted
from ucloud_slurm.slurm.records import Load, Submission
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.maintenance import ALL, Maintenance, MaintenanceWindow
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.web.create import Create
from ucloud_slurm.web.utilization import utilization

pytestmark = pytest.mark.every_era
MESSAGE = "Slurm is upgraded; home folders stay."
SMALL, LARGE = ("example-compute", "example-compute-1"), ("example-compute", "example-compute-4")
JOBS = 120  # several windows of claims


def begin(provider: Provider, key: tuple[str, str] = ALL, until: float | None = None) -> None:
    """An administrator begins it, in another process."""
    store = Store(provider.store.path)
    Maintenance(store).begin([MaintenanceWindow(*key, MESSAGE, until, provider.now(), "grace")])
    store.close()


def end(provider: Provider, key: tuple[str, str] = ALL) -> None:
    store = Store(provider.store.path)
    Maintenance(store).end([key], provider.now(), "grace")
    store.close()


def create(world: World, *jobs: dict[str, Any]) -> tuple[int, Any]:
    status, body = world.core.call("POST", "/ucloud/example/jobs", {"items": list(jobs)})
    return int(status), body


def accepted(world: World) -> str:
    """A job that Slurm does not have yet, because it did not answer a moment ago."""
    world.provider.breaker.open(SLURM, "away", world.clock())
    job_id = world.submit()
    assert world.row(job_id).phase is JobPhase.ACCEPTED
    world.clock.advance(60)
    return job_id


def texts(world: World, job_id: str) -> list[str]:
    return [update["status"] for update in world.core.job(job_id).updates if MESSAGE in (update["status"] or "")]


# ---- new jobs


def test_a_new_job_is_refused_with_the_message_and_nothing_of_it_stays(world: World) -> None:
    begin(world.provider)
    with pytest.raises(CoreError) as refusal:
        world.submit()
    assert (refusal.value.status, refusal.value.why) == (423, f"This provider is under maintenance: {MESSAGE}")
    assert refusal.value.error_code == "MAINTENANCE"
    assert (world.provider.jobs.newest(1), world.model.jobs) == ([], [])
    end(world.provider)
    world.slurm(world.submit())


def test_a_job_is_refused_before_anybody_else_is_asked(world: World) -> None:
    begin(world.provider)
    world.model.controller = world.model.accounting = False
    world.model.counts.clear()
    asked = len(world.core.exchanges)
    with pytest.raises(CoreError, match="under maintenance"):
        world.submit()
    assert not world.model.counts
    assert [each.call for each in world.core.exchanges[asked:] if each.direction == "provider->core"] == []


def test_only_the_named_machine_is_under_maintenance_and_the_refusal_says_until_when(world: World) -> None:
    begin(world.provider, SMALL, world.clock() + 3600)
    with pytest.raises(CoreError, match=r"^423: example-compute-1 is under maintenance until 2026-\d\d-\d\d \d\d:\d\d UTC: "):
        world.submit()
    world.slurm(world.submit(product="example-compute-4"))


def test_a_bulk_is_refused_whole_and_names_the_job(world: World) -> None:
    begin(world.provider, LARGE)
    large = {"product": {"provider": "example", "category": LARGE[0], "id": LARGE[1]}}
    status, body = create(world, job_data("1"), job_data("2", **large))
    assert status == 423
    assert body["why"] == f"items[1]: example-compute-4 is under maintenance: {MESSAGE}"
    assert world.provider.jobs.newest(2) == []


def test_maintenance_is_over_by_itself_at_its_time(world: World) -> None:
    begin(world.provider, until=world.clock() + 60)
    world.clock.advance(59)
    assert create(world, job_data("1"))[0] == 423
    world.clock.advance(1)
    world.slurm(world.submit())


def test_a_repeated_create_of_an_accepted_job_is_answered_as_before(world: World) -> None:
    first = create(world, job_data("1"))
    begin(world.provider)
    assert create(world, job_data("1")) == first
    assert first[0] == 200
    assert create(world, job_data("1", name="another"))[0] == 409
    let_threads_finish(world.provider)
    assert len(world.model.of("1")) == 1


def test_a_job_that_was_validated_before_the_maintenance_began_is_not_accepted(world: World, mocker: MockerFixture) -> None:
    real = Create._build

    def build(self: Create, *arguments: Any) -> Any:
        built = real(self, *arguments)
        begin(world.provider)
        return built

    mocker.patch.object(Create, "_build", build)
    assert create(world, job_data("1"), job_data("2"))[1]["why"].startswith("items[0]: This provider is under maintenance")
    end(world.provider)
    status, body = create(world, job_data("3"))
    assert (status, body["errorCode"]) == (423, "MAINTENANCE")
    let_threads_finish(world.provider)
    assert (world.provider.jobs.newest(3), world.model.jobs) == ([], [])


# ---- accepted jobs


def test_an_accepted_job_waits_and_its_owner_reads_why_once(world: World) -> None:
    job_id = accepted(world)
    begin(world.provider)
    for _ in range(3):
        world.work(60)
    assert (world.row(job_id).phase, world.model.jobs) == (JobPhase.ACCEPTED, [])
    assert texts(world, job_id) == [f"The job waits. This provider is under maintenance: {MESSAGE}"]
    end(world.provider)
    world.work(60)
    assert len(world.model.of(job_id)) == 1
    world.model.begin_run(world.slurm(job_id))
    world.work(60)
    assert world.told(job_id)[-1] == "RUNNING"


def test_an_accepted_job_of_another_machine_does_not_wait(world: World) -> None:
    job_id = accepted(world)
    begin(world.provider, LARGE)
    world.work()
    assert len(world.model.of(job_id)) == 1


def test_a_job_that_waits_can_be_terminated(world: World) -> None:
    job_id = accepted(world)
    begin(world.provider)
    world.work()
    world.core.terminate(job_id)
    world.work(60)
    assert (world.row(job_id).phase, world.model.jobs) == (JobPhase.ENDED, [])
    assert world.told(job_id) == ["SUCCESS"]


def test_a_process_that_has_not_seen_the_maintenance_begin_cannot_submit(world: World) -> None:
    job_id = accepted(world)
    row, made = world.row(job_id), world.row(job_id).job
    identity = world.provider.mapping.identity(row.owner, None)
    submission = build(world.provider, Lookup(world.provider), made, identity)
    begin(world.provider)
    assert submit_accepted(world.provider, job_id, row.secret, submission) is None
    assert (world.row(job_id).phase, world.model.jobs) == (JobPhase.ACCEPTED, [])


def test_what_a_bulk_has_not_sent_when_the_maintenance_begins_waits_for_its_end(world: World, mocker: MockerFixture) -> None:
    real, lock = world.model.submit, threading.Lock()

    def submit(submission: Submission, within: float) -> Any:
        with lock:
            if not world.provider.maintenance.listed():
                begin(world.provider)
        return real(submission, within)

    mocker.patch.object(world.model, "submit", submit)
    assert create(world, *(job_data(str(number)) for number in range(JOBS)))[0] == 200
    let_threads_finish(world.provider)
    sent = len(world.model.jobs)
    assert 1 <= sent <= JOBS // 2
    waiting = [row for row in world.provider.jobs.newest(JOBS) if row.phase is JobPhase.ACCEPTED]
    assert len(waiting) == JOBS - sent


# ---- jobs at Slurm


def test_a_job_at_slurm_goes_on_and_can_be_extended_and_ended(world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    begin(world.provider)
    world.core.extend(job_id, 30)
    world.work(600)
    assert world.slurm(job_id).minutes == 60
    assert world.told(job_id) == ["RUNNING"]
    world.core.terminate(job_id)
    world.work(60)
    assert world.told(job_id)[-1] == "SUCCESS"


# ---- how full machines are


@pytest.fixture
def loads(model: Model) -> None:
    """The loads of partitions, by their names."""
    known = {"cpu": Load(8, 2, 800, 200, 1, 0), "gpu": Load(4, 1, 400, 100, 1, 0), "cpu,gpu": Load(12, 3, 1200, 300, 2, 0)}
    model.load = lambda partitions, within: known[",".join(partitions)]  # type: ignore[method-assign]  # noqa: ARG005


@pytest.fixture
def used(world: World) -> Callable[[], tuple[float, float]]:
    """CPUs in use, and in all."""

    def used_() -> tuple[float, float]:
        status, body = world.core.call("GET", "/ucloud/example/jobs/retrieveUtilization")
        assert status == 200
        return body["usedCapacity"]["cpu"], body["capacity"]["cpu"]

    return used_


@pytest.mark.usefixtures("loads")
def test_machines_under_maintenance_are_full(world: World, used: Callable[[], tuple[float, float]]) -> None:
    assert used() == (2, 8)
    begin(world.provider, SMALL)
    queues = [each["queueStatus"] for each in world.core.retrieve_products()]
    assert queues == (["FULL", "AVAILABLE"] if world.provider.era.has_queue_status else [None, None])
    assert used() == (2, 8), "the other product is in the same partition"
    begin(world.provider, LARGE)
    assert used() == (8, 8)
    end(world.provider, SMALL)
    assert used() == (2, 8)


@pytest.mark.usefixtures("loads")
def test_what_is_free_in_a_partition_without_maintenance_is_free(open_provider: Open) -> None:

    products = [{"id": "c", "category": "x", "partition": "cpu"}, {"id": "g", "category": "x", "partition": "gpu"}]
    provider = open_provider(products=products)
    begin(provider, ("x", "g"))
    found = utilization(provider, None)
    assert (found.capacity.cpu, found.used_capacity.cpu) == (12, 12 - 6)
    assert found.used_capacity.memory == (1200 - 600) * 2**20
    assert found.queue_status.running == 2
