"""What today's Core is told of jobs: nothing before it has them, nothing of those that it has given up."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.sandbox.core import CoreError
from tests.support.factories import job_data
from ucloud_slurm.errors import Forbidden
from ucloud_slurm.provider.audit import audit
from ucloud_slurm.provider.reconciliation import FORGOTTEN_SECONDS
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.sqlite import StorageBusyError
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.mapping import IdentityUnavailableError
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
EXISTENCE = "providers.resources.checkExistence"
UPDATE = "jobs.control.update"


def late(world: World, mocker: MockerFixture) -> str:
    """A job whose create is answered when Core has given it up; returns its id."""
    accept = type(world.provider.jobs).acknowledge

    def slow(jobs: object, *arguments: object) -> object:
        world.core.faults.drop_answer("jobs.provider.example.create")
        return accept(jobs, *arguments)  # type: ignore[arg-type]

    mocker.patch.object(type(world.provider.jobs), "acknowledge", slow)
    with pytest.raises(CoreError):
        world.submit()
    mocker.stopall()
    row, *_ = world.provider.jobs.newest(1)
    return row.id


def test_a_job_is_told_of_as_soon_as_core_has_it(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    assert world.told(job) == ["RUNNING"]
    assert world.row(job).confirmed_at is not None


def test_core_is_asked_once_which_new_jobs_it_has(world: World) -> None:
    for _ in range(3):
        world.submit()
    for _ in range(4):
        world.work(15)
    asked = [each for each in world.core.exchanges if each.call == EXISTENCE]
    assert [len(each.request["items"]) for each in asked] == [3]


def test_a_job_that_core_gave_up_is_cancelled_and_nobody_hears_of_it(world: World, mocker: MockerFixture) -> None:
    job = late(world, mocker)
    world.model.begin_run(world.slurm(job))
    world.work(1)
    assert world.slurm(job).run.ended is None, "Core may still be about to write it down"
    world.work(FORGOTTEN_SECONDS)
    assert world.slurm(job).run.ended is not None
    world.work(60)
    assert world.row(job).phase is JobPhase.REFUSED
    assert [each.call for each in world.core.exchanges if each.call in (UPDATE, "accounting.v2.reportUsage")] == []
    assert world.provider.outbox.waiting() == 0


def test_a_job_whose_create_came_to_no_answer_is_cancelled(world: World, mocker: MockerFixture) -> None:
    mocker.patch.object(type(world.provider.jobs), "acknowledge", side_effect=StorageBusyError("The provider is busy."))
    with pytest.raises(CoreError):
        world.submit()
    mocker.stopall()
    (row,) = world.provider.jobs.newest(1000)
    world.model.begin_run(world.slurm(row.id))
    world.work(FORGOTTEN_SECONDS)
    assert world.slurm(row.id).run.ended is not None
    world.work(60)
    assert world.row(row.id).phase is JobPhase.REFUSED


def test_a_job_that_ended_before_core_was_asked_is_not_charged_if_core_gave_it_up(world: World, mocker: MockerFixture) -> None:
    job = late(world, mocker)
    world.core.faults.outage(True)
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.clock.advance(600)
    world.model.end(world.slurm(job))
    assert world.work(1) is Result.NOT_ALL
    world.core.faults.outage(False)
    world.work(20)
    world.work(20)
    assert world.core.accounts.reports == []
    assert world.row(job).phase is JobPhase.REFUSED


@pytest.mark.parametrize("seconds", [20, 50])
def test_no_other_job_pays_the_rest_of_a_job_that_core_gave_up(world: World, mocker: MockerFixture, seconds: int) -> None:
    job = late(world, mocker)
    world.core.faults.outage(True)
    world.model.begin_run(world.slurm(job))
    world.clock.advance(seconds)
    world.model.end(world.slurm(job))
    assert world.work(1) is Result.NOT_ALL
    assert world.row(job).phase is JobPhase.ENDED
    world.core.faults.outage(False)
    world.work(FORGOTTEN_SECONDS)
    world.work(20)
    assert world.row(job).phase is JobPhase.REFUSED
    assert world.provider.store.tuples("select rest from remainders") == []


def test_while_core_does_not_say_which_jobs_it_has_nothing_is_told_and_nothing_cancelled(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.core.faults.answer(EXISTENCE, 500, times=20)
    for _ in range(3):
        assert world.work(50) is Result.NOT_ALL
    assert world.told(job) == []
    assert world.slurm(job).run.ended is None
    world.core.faults.clear()
    world.work(20)
    assert world.told(job) == ["RUNNING"]


@pytest.mark.parametrize("responses", [[], [True, True], ["true"], None, [1]])
def test_an_answer_that_cannot_be_understood_is_none(world: World, responses: object) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.core.faults.answer(EXISTENCE, 200, {"responses": responses}, times=5)
    assert world.work(50) is Result.NOT_ALL
    assert world.row(job).confirmed_at is None
    assert world.slurm(job).run.ended is None


def test_of_a_bulk_with_a_job_that_core_has_lost_the_others_are_told(world: World) -> None:
    jobs = [world.submit() for _ in range(5)]
    world.work(1)
    world.core.lose(jobs[2])
    for job in jobs:
        world.model.begin_run(world.slurm(job))
    world.work(20)
    assert [world.told(job) for job in jobs if job != jobs[2]] == [["RUNNING"]] * 4
    parked = [row for row in world.provider.outbox.listed(1000) if row.outcome == "parked"]
    assert [row.job_id for row in parked] == [jobs[2]]


def test_a_stale_access_token_is_renewed_and_the_call_made_again(world: World) -> None:
    job = world.submit()
    world.work(1)
    world.model.begin_run(world.slurm(job))
    world.core.faults.answer(EXISTENCE, 403, {"why": "Forbidden"})
    world.core.faults.answer(UPDATE, 403, {"why": "Forbidden"})
    world.work(1)
    assert world.told(job) == ["RUNNING"]


def test_a_bulk_that_core_cannot_read_is_sent_in_parts(world: World) -> None:
    jobs = [world.submit() for _ in range(3)]
    world.work(1)
    for job in jobs:
        world.model.begin_run(world.slurm(job))
    world.core.faults.answer(UPDATE, 400, {"why": "Invalid request supplied"}, times=2)
    assert world.work(1) is Result.DONE
    told = [world.told(job) for job in jobs]
    assert sorted(told) == [[], ["RUNNING"], ["RUNNING"]]
    parked = [row for row in world.provider.outbox.listed(1000) if row.outcome == "parked"]
    assert [row.job_id for row in parked] == [jobs[told.index([])]]


def test_a_text_for_core_has_no_nul(world: World) -> None:
    job = world.submit()
    said = JobUpdate(JobState.RUNNING, "on n\x001", output_folder="/jobs\x00/1")
    world.provider.outbox.enqueue_update(job, said, world.clock())
    assert world.work(1) is Result.DONE
    told = {(each["status"], each["outputFolder"]) for each in world.core.job(job).updates}
    assert ("on n1", "/jobs/1") in told


# -- comparing --------------------------------------------------------------------------------------------------


def test_a_state_that_core_has_missed_is_told_within_the_hour(world: World) -> None:
    job = world.submit()
    world.work(1)
    world.model.begin_run(world.slurm(job))
    world.core.faults.answer(UPDATE, 200, {})
    world.work(1)
    assert world.core.job(job).state == "IN_QUEUE"
    world.work(1800)
    assert world.core.job(job).state == "IN_QUEUE"
    world.work(1801)
    world.work(1)
    assert world.core.job(job).state == "RUNNING"


def test_a_job_that_only_core_knows_is_looked_for_and_then_ended(world: World) -> None:
    job = world.submit()
    world.work(1)
    world.model.jobs.clear()
    for table in ("outbox", "jobs"):
        world.provider.store.change(f"delete from {table} where {'job_id' if table == 'outbox' else 'id'} = ?", [job])
    world.work(3601)
    for _ in range(8):
        world.work(20)
    assert world.core.job(job).state == "FAILURE"
    assert world.core.job(job).updates[-1]["status"] == "The provider does not know this job."


def test_a_job_of_whose_owner_nothing_can_be_told_at_the_moment_is_not_declared_gone(
    world: World, mocker: MockerFixture
) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    for table in ("outbox", "jobs"):
        world.provider.store.change(f"delete from {table} where {'job_id' if table == 'outbox' else 'id'} = ?", [job])
    mocker.patch.object(type(world.provider.mapping), "identity", side_effect=IdentityUnavailableError)
    world.work(3601)
    mocker.stopall()
    for _ in range(8):
        world.work(20)
    assert world.core.job(job).state == "RUNNING"
    world.work(3601)
    world.work(20)
    assert world.row(job).slurm_id == world.slurm(job).run.id


def test_while_it_is_asked_whose_an_unknown_job_is_requests_can_write(world: World, mocker: MockerFixture) -> None:
    job = world.submit()
    world.work(1)
    for table in ("outbox", "jobs"):
        world.provider.store.change(f"delete from {table} where {'job_id' if table == 'outbox' else 'id'} = ?", [job])
    written = []

    def slow(*_: object) -> None:
        with ThreadPoolExecutor(1) as other:
            written.append(other.submit(world.provider.observations.confirmed, ["1"], world.clock()).exception())
        raise IdentityUnavailableError

    mocker.patch.object(type(world.provider.mapping), "identity", slow)
    world.work(3601)
    assert written == [None]


def test_a_job_that_is_still_on_its_way_is_not_looked_for(world: World) -> None:
    world.work(3601)
    data = job_data("99") | {"createdAt": int(world.clock() * 1000)}
    world.provider.store.change("delete from caches where kind = 'compared'")
    world.core.faults.answer("jobs.control.browse", 200, {"items": [data], "next": None}, times=3)
    assert world.work(1) is Result.DONE
    assert world.provider.jobs.get("99") is None


def test_a_job_of_cores_that_cannot_be_read_does_not_hide_the_others(world: World) -> None:
    world.work(3601)
    old = int((world.clock() - 3600) * 1000)
    bad, good = (job_data(job_id, replicas=replicas) | {"createdAt": old} for job_id, replicas in (("98", 0), ("99", 1)))
    world.provider.store.change("delete from caches where kind = 'compared'")
    world.core.faults.answer("jobs.control.browse", 200, {"items": [bad, good], "next": None}, times=3)
    assert world.work(1) is Result.DONE
    assert world.provider.jobs.get("98") is None
    assert world.provider.jobs.get("99") is not None


# -- a lost database of which nobody knows whose the jobs are ---------------------------------------------------


def lose(world: World, job: str, mocker: MockerFixture) -> None:
    """The database is lost, and with it the users who were connected; the jobs are compared soon."""
    for table in ("outbox", "jobs"):
        world.provider.store.change(f"delete from {table} where {'job_id' if table == 'outbox' else 'id'} = ?", [job])
    mocker.patch.object(type(world.provider.mapping), "identity", side_effect=Forbidden("not connected"))
    world.work(3601)


def test_a_running_job_whose_owner_is_not_connected_any_more_is_not_unknown(world: World, mocker: MockerFixture) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    lose(world, job, mocker)
    for _ in range(20):
        world.work(300)
    assert world.core.job(job).state == "RUNNING"
    assert world.row(job).slurm_id is None, "nothing proves whose it is"
    mocker.stopall()  # the owner connects again
    world.work(20)
    world.work(20)
    assert world.row(job).slurm_id == world.slurm(job).run.id
    world.model.end(world.slurm(job))
    world.work(60)
    assert world.core.job(job).state == "SUCCESS"
    assert world.booked(job) > 0


def test_a_job_that_ended_meanwhile_is_found_when_its_owner_connects_again(world: World, mocker: MockerFixture) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    lose(world, job, mocker)
    world.work(300)
    world.model.end(world.slurm(job), SlurmState.TIMEOUT)
    world.model.purge(world.slurm(job))
    for _ in range(20):
        world.work(300)
    assert world.core.job(job).state == "RUNNING"
    mocker.stopall()
    for _ in range(3):
        world.work(20)
    assert world.core.job(job).state == "EXPIRED"


def test_a_job_that_ended_long_ago_and_whose_owner_never_came_back_ends(world: World, mocker: MockerFixture) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    lose(world, job, mocker)
    world.model.end(world.slurm(job))
    world.model.purge(world.slurm(job))
    world.work(3600)
    assert world.core.job(job).state == "RUNNING"
    world.work(24 * 3600)
    assert world.core.job(job).state == "FAILURE"


def test_a_strangers_job_of_another_text_does_not_keep_an_unknown_job_alive(world: World, mocker: MockerFixture) -> None:
    job = world.submit()
    world.work(1)
    theirs = world.slurm(job).submission._replace(comment="mine")
    world.model.jobs.clear()
    world.model.add(theirs, user="mallory")
    lose(world, job, mocker)
    for _ in range(8):
        world.work(20)
    assert world.core.job(job).state == "FAILURE"


@pytest.mark.parametrize("connected", [True, False])
def test_a_running_job_that_was_renamed_is_known_by_its_comment(world: World, mocker: MockerFixture, connected: bool) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.work(1)
    world.model.change(world.slurm(job), name="mine")
    lose(world, job, mocker)
    if connected:
        mocker.stopall()
        world.provider.store.change("delete from jobs where id = ?", [job])
        world.work(3601)
    for _ in range(8):
        world.work(20)
    assert world.core.job(job).state == "RUNNING"
    assert (world.row(job).slurm_id is not None) is connected


@pytest.mark.parametrize("has_it", [False, True])
def test_a_wallet_is_exact_whether_or_not_core_gives_up_a_job_that_has_ended_before_another(
    world: World, mocker: MockerFixture, has_it: bool
) -> None:
    other = world.submit()
    world.model.begin_run(world.slurm(other))
    world.work(62)
    job = world.submit() if has_it else late(world, mocker)
    world.core.faults.outage(True)
    world.model.begin_run(world.slurm(job))
    world.clock.advance(36)
    for each in (job, other):
        world.model.end(world.slurm(each))
        world.work()
    world.core.faults.outage(False)
    for _ in range(4):
        world.work(FORGOTTEN_SECONDS)
    assert (world.row(other).used, world.row(job).used) == (99 if has_it else 98, 36)
    assert world.row(job).phase is (JobPhase.ENDED if has_it else JobPhase.REFUSED)
    booked = {each: world.booked(each) for each in (other, job) if world.row(each).phase is JobPhase.ENDED}
    assert booked == ({other: 2, job: 0} if has_it else {other: 2})
    assert world.provider.store.tuples("select rest from remainders") == [(99 + 36 - 120 if has_it else 98 - 120,)]


def test_a_job_that_ended_before_core_confirmed_it_is_no_finding_of_an_audit(world: World) -> None:
    job = world.submit()
    world.model.begin_run(world.slurm(job))
    world.core.faults.outage(True)
    world.clock.advance(600)
    world.model.end(world.slurm(job))
    world.work()
    assert (world.row(job).phase, world.row(job).charged) == (JobPhase.ENDED, 0)
    assert audit(world.provider, 0.0).findings == ()
    world.core.faults.outage(False)
    world.work(60)
    assert world.booked(job) == 10
    assert audit(world.provider, 0.0).findings == ()
