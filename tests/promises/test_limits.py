"""Nobody has more jobs at a time than the site allows, however the creates come; and nobody is refused a job too early."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.support.executor import let_threads_finish
from tests.support.factories import accept_live, job_data, new_job
from tests.support.model import Model
from ucloud_slurm.store.job_rows import count_open
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.ucloud.channel import OwnerKind
from ucloud_slurm.web.create import Create

pytestmark = pytest.mark.every_era
SMALL, LARGE = ("example-compute", "example-compute-1"), ("example-compute", "example-compute-4")
AT_ONCE = 6
PATIENCE = 20.0
WAIT = "Please try again when another one has ended."

Make = Callable[..., World]


@pytest.fixture
def make(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock) -> Make:
    """Makes a world with limits."""

    def make_(small: dict[str, int] | None = None, **limits: int) -> World:
        products = [
            {"id": SMALL[1], "category": SMALL[0], "partition": "cpu", **(small or {})},
            {"id": LARGE[1], "category": LARGE[0], "partition": "cpu"},
        ]
        provider = open_provider(limits=limits, products=products)
        return World(core, provider, model, clock, serve(provider))

    return make_


def job(number: int, owner: str = "user", project: str | None = None, machine: tuple[str, str] = SMALL) -> dict[str, Any]:
    product = {"provider": "example", "category": machine[0], "id": machine[1]}
    return job_data(str(number), product=product) | {"owner": {"createdBy": owner, "project": project}}


def create(world: World, *jobs: dict[str, Any]) -> tuple[int, str]:
    """The status, and why."""
    status, body = world.core.call("POST", "/ucloud/example/jobs", {"items": list(jobs)})
    return int(status), body.get("why", "")


def test_a_person_has_no_more_jobs_than_the_limit_and_reads_both_numbers(make: Make) -> None:
    world = make(jobs_per_person=2)
    ids = [world.submit(), world.submit()]
    refusal = f"With this job you would have 3 jobs that have not ended; the limit is 2. {WAIT}"
    assert create(world, job(1)) == (429, refusal)
    assert create(world, job(2, project="p", machine=LARGE)) == (429, refusal), "in whatever project, on whatever machine"
    assert create(world, job(3, owner="other"))[0] == 200
    assert world.provider.jobs.get("1") is None
    world.model.end(world.slurm(ids[0]))
    world.work(60)
    assert create(world, job(4))[0] == 200


def test_a_project_has_no_more_jobs_than_the_limit_of_all_its_members(make: Make) -> None:
    world = make(jobs_per_project=2)
    assert create(world, job(1, project="p"))[0] == create(world, job(2, "other", "p"))[0] == 200
    assert create(world, job(3, "third", "p")) == (
        429,
        f"With this job this project would have 3 jobs that have not ended; the limit is 2. {WAIT}",
    )
    assert [create(world, job(number))[0] for number in (4, 5, 6)] == [200] * 3, "jobs without a project"
    assert create(world, job(7, "third", "q"))[0] == 200


def test_a_limit_of_a_product_counts_its_jobs_only(make: Make) -> None:
    world = make(small={"jobs_per_person": 1, "jobs_per_project": 2})
    assert create(world, job(1, machine=LARGE))[0] == create(world, job(2, project="p"))[0] == 200
    why = f"With this job you would have 2 jobs of example-compute-1 that have not ended; the limit is 1. {WAIT}"
    assert create(world, job(3)) == (429, why)
    assert create(world, job(4, machine=LARGE))[0] == create(world, job(5, "other", "p"))[0] == 200
    assert "this project would have 3 jobs of example-compute-1" in create(world, job(6, "third", "p"))[1]


def test_a_bulk_beyond_a_limit_is_refused_whole_and_names_the_first_job_that_is_too_many(make: Make) -> None:
    world = make(jobs_per_person=3)
    assert create(world, job(1))[0] == 200
    why = f"items[2]: With this job you would have 4 jobs that have not ended; the limit is 3. {WAIT}"
    assert create(world, job(2), job(3), job(4), job(5)) == (429, why)
    let_threads_finish(world.provider)
    assert [row.id for row in world.provider.jobs.newest(9)] == ["1"]
    assert [made.run.state for made in world.model.jobs] == [made.run.state for made in world.model.of("1")]
    assert create(world, job(6), job(7))[0] == 200


def test_a_repeated_create_is_not_counted_twice(make: Make) -> None:
    world = make(jobs_per_person=2)
    assert create(world, job(1), job(2))[0] == 200
    assert create(world, job(1), job(2))[0] == create(world, job(2))[0] == 200
    assert create(world, job(2), job(3)) == (
        429,
        f"items[1]: With this job you would have 3 jobs that have not ended; the limit is 2. {WAIT}",
    )


@pytest.fixture
def validated_together(mocker: MockerFixture) -> None:
    """So many creates are validated, each of them before any of them is accepted."""
    real, all_validated = Create._build, threading.Barrier(AT_ONCE)

    def build(self: Create, *arguments: Any) -> Any:
        built = real(self, *arguments)
        all_validated.wait(PATIENCE)
        return built

    mocker.patch.object(Create, "_build", build)


@pytest.mark.usefixtures("validated_together")
def test_creates_at_once_do_not_pass_the_limit_together(make: Make) -> None:
    world = make(jobs_per_person=3)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda number: create(world, job(number)), range(AT_ONCE)))
    assert sorted(status for status, _ in found) == [200] * 3 + [429] * 3
    let_threads_finish(world.provider)
    assert len(world.provider.jobs.newest(9)) == 3


@pytest.mark.usefixtures("validated_together")
def test_the_same_create_several_times_at_once_is_counted_once(make: Make) -> None:
    world = make(jobs_per_person=1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda _: create(world, job(1)), range(AT_ONCE)))
    assert [status for status, _ in found] == [200] * AT_ONCE
    let_threads_finish(world.provider)
    assert len(world.model.of("1")) == 1


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_what_counts_is_what_researchers_started_and_see(open_provider: Open) -> None:
    provider = open_provider()
    store: Store = provider.store
    jobs = Jobs(store)

    def counts(machine: tuple[str, str] | None = None) -> tuple[int, int]:
        return count_open(store, OwnerKind.USER, "o", machine), count_open(store, OwnerKind.PROJECT, "p", machine)

    jobs.accept([new_job("1"), new_job("2", project="p"), new_job("3", owner="x", project="p", product=LARGE[1])])
    accept_live(jobs, new_job("4"))
    assert (counts(), counts(SMALL), counts(LARGE)) == ((3, 2), (3, 1), (0, 1))
    provider.observations.register(new_job("5"), 8, 1, 0.0)
    assert counts() == (3, 2), "a job from outside UCloud"
    jobs.stop("4", Stop.TERMINATED, 0.0)
    assert counts() == (3, 2), "it has not ended yet"
    jobs.refused("1", 400, "why", 0.0)
    assert counts() == (2, 2)
    jobs.accept([new_job("6")], claimed=["6"], attempted_at=0.0, claimed_until=1.0)
    assert counts() == (3, 2)
    jobs.roll_back(["6"], 400, "why", 0.0)
    assert counts() == (2, 2), "UCloud does not have it, though Slurm may"
