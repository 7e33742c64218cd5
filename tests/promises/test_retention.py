"""The file stops growing: what ended long ago is deleted, and nothing else."""

from typing import Any

import pytest

from tests.conftest import World
from tests.rooms.worker.test_external_jobs import RULE, known, registered, submitted
from tests.support.model import ModelJob
from ucloud_slurm.config import parse
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.sessions import Kind, Session
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.worker import retention

DAY = 86400.0
KEEP = 90 * DAY
OF_A_JOB = ("jobs", "runs", "charges", "outbox", "sessions", "removals", "grants")


def finished(world: World, **more: Any) -> str:
    """A job that ran and ended, and of which UCloud knows everything."""
    job_id = world.submit(**more)
    world.model.begin_run(world.slurm(job_id))
    world.work(1)
    world.work(120)
    world.model.end(world.slurm(job_id))
    world.work(1)
    return job_id


def rows(world: World, table: str) -> int:
    return int(world.provider.store.rows(f"select count(*) as number from {table}")[0]["number"])


def test_a_job_that_ended_long_ago_is_deleted_with_all_that_belongs_to_it(world: World) -> None:
    job_id, now = finished(world), world.clock()
    sessions = world.provider.sessions
    sessions.create(Session("", job_id, 0, Kind.SHELL, "user", "l", None, 1, now), "token")
    sessions.remove_access(job_id, ["user:a"], now)
    sessions.give_access(job_id, ["user:b"])
    assert all(rows(world, table) for table in OF_A_JOB)
    world.work(KEEP - DAY)
    assert all(rows(world, table) for table in OF_A_JOB)
    world.work(DAY + 3600)
    assert [rows(world, table) for table in OF_A_JOB] == [0] * len(OF_A_JOB)


def test_the_metrics_count_what_is_there(world: World) -> None:
    finished(world)
    world.submit()
    assert world.provider.jobs.count() == {"submitting": 0, "live": 1, "ended": 1}
    world.work(KEEP + 3600)
    assert world.provider.jobs.count()["ended"] == 0


def test_a_job_that_has_not_ended_stays_however_old_it_is(world: World) -> None:
    job_id = world.submit()
    world.work(10 * KEEP)
    assert world.row(job_id).phase == "live"


def test_a_job_of_which_something_is_still_to_be_told_stays(world: World) -> None:
    job_id = world.submit()
    world.work(1)
    world.core.faults.outage()
    world.model.end(world.slurm(job_id))
    world.work(1)
    world.work(KEEP + 3600)
    assert world.row(job_id).phase == "ended"
    world.core.faults.outage(False)
    world.work(3601)  # it was told in this pass, and is deleted at its end or later
    world.work(3601)
    assert world.told(job_id)[-1] == "SUCCESS"
    assert world.provider.jobs.get(job_id) is None


def test_a_job_of_which_something_was_refused_for_good_stays_until_somebody_has_seen_it(world: World) -> None:
    job_id = finished(world)
    world.provider.store.change("update outbox set outcome = ? where kind = 'update'", [MessageOutcome.PARKED])
    world.work(KEEP + 3600)
    assert world.row(job_id).phase == "ended"


@pytest.mark.parametrize("refused", [True, False])
def test_a_job_that_was_refused_is_deleted_too(world: World, refused: bool) -> None:
    job_id = world.submit()
    world.work(1)
    if refused:
        world.provider.observations.forgotten(job_id, "UCloud does not have it", world.clock())
    else:
        world.provider.jobs.stop(job_id, Stop.NO_FUNDS, world.clock())
    for _ in range(4):
        world.work(60)
    world.work(KEEP + 3600)
    assert world.provider.jobs.get(job_id) is None


def test_a_job_from_outside_that_slurm_still_lists_is_not_registered_a_second_time(
    core: Any, open_provider: Any, serve: Any, model: Any, clock: Any
) -> None:
    provider = open_provider(outside=[RULE])
    world = World(core, provider, model, clock, serve(provider))
    known(world)
    job: ModelJob = submitted(world)
    world.work(1)
    (found,) = registered(world)
    # It was given up here, and goes on there.
    world.provider.observations.record_end(found.id, JobUpdate(JobState.FAILURE, "given up"), None, world.clock())
    world.work(KEEP + 3600)
    world.work(3601)
    assert len(registered(world)) == 1
    assert world.row(found.id).phase == "ended"
    world.model.end(job)
    world.model.purge(job)
    world.work(3601)
    assert world.provider.jobs.get(found.id) is None


def test_a_pass_deletes_in_small_steps_and_the_next_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        finished(world)
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "BUDGET_SECONDS", 0.0)
    left = []
    world.clock.advance(KEEP)
    for _ in range(4):
        world.work(1)
        left.append(rows(world, "jobs"))
    assert left == [3, 1, 0, 0]


def test_nothing_is_looked_for_again_within_the_hour(world: World) -> None:
    job_id = finished(world)
    world.work(KEEP + 3600)
    assert world.provider.jobs.get(job_id) is None
    world.provider.store.change("update caches set value = 'kept' where kind = 'forgotten'")
    world.work(600)
    assert world.provider.store.row("select value from caches where kind = 'forgotten'") == {"value": "kept"}


def test_what_was_kept_from_elsewhere_goes_with_age_and_what_has_no_age_stays(world: World) -> None:
    finished(world)
    store, now = world.provider.store, world.clock()
    world.provider.people.add([UserLink("u", "l", 1, now, "me")])
    world.provider.codes.new("u", now)
    world.work(KEEP + 3600)
    kinds = {row["kind"] for row in store.rows("select kind from caches")}
    assert {"access-token", "application"} <= kinds
    assert not {"product", "partitions"} & kinds
    assert rows(world, "codes") == 0
    assert rows(world, "acts") == 1


def test_everything_stays_where_the_site_says_so(open_provider: Any, core: Any, serve: Any, model: Any, clock: Any) -> None:
    provider = open_provider(database={"keep": "0s"})
    world = World(core, provider, model, clock, serve(provider))
    job_id = finished(world)
    world.work(10 * KEEP)
    assert world.row(job_id).phase == "ended"


def test_less_than_a_day_is_refused(world: World) -> None:
    data = {"database": {"keep": "2h"}}
    with pytest.raises(Misconfigured, match=r'database.keep: should be at least "1d"'):
        parse(data)


def test_the_file_stops_growing(world: World) -> None:
    store = world.provider.store

    def pages() -> int:
        return int(store.rows("select page_count from pragma_page_count")[0]["page_count"])

    sizes = []
    for _ in range(4):
        for _ in range(8):
            finished(world)
        world.work(KEEP + 3600)
        sizes.append(pages())
    assert rows(world, "jobs") == 0
    assert sizes[1:] == [sizes[0]] * 3
