"""P5 and P9: UCloud is away for a day while thousands of jobs live; all of it drains quickly, and in order."""

import time

import pytest

from tests.conftest import World
from tests.sandbox.core.user_requests import UserRequest
from ucloud_slurm.worker.run import Result, run_once

BULK = 20
HOUR = 3600.0
DRAINED_SECONDS = 120.0
MOST_PASSES = 10


@pytest.mark.parametrize("era", ["today"])
def test_a_days_outage_drains_within_two_minutes_and_in_order(world: World, pytestconfig: pytest.Config) -> None:
    """``make outage`` has 5000 jobs here."""
    jobs = pytestconfig.getoption("--live-jobs")
    requests = [UserRequest(("sleeper", "1.0.0"), "example-compute-1", minutes=600)] * BULK
    for _ in range(jobs // BULK):
        status, body = world.core.call("POST", "/ucloud/example/jobs", {"items": world.core.have(requests)}, "user")
        assert status == 200, body
    world.work(60)
    while world.provider.jobs.count().get("live", 0) < jobs:
        world.work(60)
    world.core.faults.outage()
    for job in world.model.jobs:
        job.minutes = 2 * 24 * 60  # an administrator has extended it
        world.model.begin_run(job)
    for hours in (1, 11, 11):
        assert world.work(hours * HOUR) is Result.NOT_ALL
    ended = {job.submission.comment.split(":")[2]: job for job in world.model.jobs[::2]}
    for job in ended.values():
        world.model.end(job)
    assert world.work(HOUR) is Result.NOT_ALL
    assert world.provider.outbox.waiting() >= 2 * jobs
    world.core.faults.outage(on=False)
    world.clock.advance(60)
    begun = time.monotonic()
    for _ in range(MOST_PASSES):
        run_once(world.provider)
        if not world.provider.outbox.waiting():
            break
    assert time.monotonic() - begun < DRAINED_SECONDS
    for found in world.core.jobs:
        states = ["IN_QUEUE", "RUNNING", *(["SUCCESS"] if found.id in ended else [])]
        assert [change.state for change in found.states] == states
    assert world.booked(next(iter(ended))) == 23 * 60
