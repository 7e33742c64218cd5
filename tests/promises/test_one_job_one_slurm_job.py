"""P1: for every UCloud job accepted exactly one Slurm job is ever made, whatever is repeated or breaks."""

import pkgutil
import threading
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import Open, Serve, World
from tests.sandbox.processes import wait_until
from tests.support.executor import let_threads_finish
from tests.support.factories import job, job_data, new_job
from ucloud_slurm.errors import StorageFullError
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.submission import build, with_nonce
from ucloud_slurm.slurm.records import SlurmJobId, Submission
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.web.create import Create
from ucloud_slurm.worker.run import run_once


def create(world: World, *jobs: dict[str, Any]) -> tuple[int, Any]:
    return world.core.call("POST", "/ucloud/example/jobs", {"items": list(jobs)})


def test_a_repeated_create_makes_one_slurm_job(world: World) -> None:
    first, second = create(world, job_data("7")), create(world, job_data("7"))
    assert first == second == (200, {"responses": [{"id": "ucloud-7"}]})
    assert len(world.model.of("7")) == 1


def test_the_same_job_twice_in_one_bulk_makes_one_slurm_job(world: World) -> None:
    status, body = create(world, job_data("7"), job_data("7"))
    assert (status, len(body["responses"])) == (200, 2)
    assert len(world.model.jobs) == 1


def test_twenty_creates_at_once_make_one_slurm_job(world: World) -> None:
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(create(world, job_data("7")))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(200, {"responses": [{"id": "ucloud-7"}]})] * 20
    assert len(world.model.of("7")) == 1


def test_the_same_id_with_other_contents_is_refused(world: World) -> None:
    create(world, job_data("7"))
    status, body = create(world, job_data("7", replicas=2))
    assert status == 409
    assert "7" in body["why"]
    other_owner = job_data("7")
    other_owner["owner"]["createdBy"] = "mallory"
    assert create(world, other_owner)[0] == 409
    assert len(world.model.jobs) == 1


def test_a_submission_whose_answer_was_lost_is_found_and_not_repeated(world: World) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    assert world.row(job_id).phase is JobPhase.SUBMITTING
    world.work(1)
    assert world.row(job_id).slurm_id == world.slurm(job_id).run.id


def test_a_lost_submission_that_ended_meanwhile_is_found_in_sacct(world: World) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    job = world.slurm(job_id)
    world.model.begin_run(job)
    world.clock.advance(5)
    world.model.end(job)
    job.in_queue = False
    world.work(1)
    world.work(1)
    assert len(world.model.of(job_id)) == 1
    assert world.told(job_id)[-1] == "SUCCESS"


def test_a_submission_that_never_arrived_is_repeated_only_after_a_quiet_time(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    for _ in range(4):  # Slurm has answered since the first of these passes
        world.work(9)
        assert world.model.of(job_id) == []
    world.work(9)
    assert len(world.model.of(job_id)) == 1


def test_a_submission_is_not_repeated_while_the_accounting_lacks_records(world: World) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    job = world.slurm(job_id)
    world.model.begin_run(job)
    world.model.end(job)
    job.in_queue, job.in_accounting, world.model.backlog = False, False, 20_000
    for _ in range(5):
        world.work(60)
    assert len(world.model.of(job_id)) == 1
    world.model.backlog, job.in_accounting = 0, True
    world.work(1)
    world.work(1)
    assert len(world.model.of(job_id)) == 1
    assert world.told(job_id)[-1] == "SUCCESS"


def test_the_quiet_time_counts_only_while_slurm_answers(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    world.model.controller = False
    for _ in range(10):
        world.work(60)
    world.model.controller = True
    world.work(1)
    world.model.add(submission_of(world, job_id))  # the old request lands now
    for _ in range(5):
        world.work(20)
    assert len(world.model.of(job_id)) == 1


def submission_of(world: World, job_id: str, attempt: int | None = None) -> Submission:
    """The batch job of an attempt; by default the last one."""
    row = world.row(job_id)
    identity = world.provider.mapping.identity(row.owner, row.project)
    submission = build(world.provider, Lookup(world.provider), row.job, identity)
    return with_nonce(submission, row.secret, attempt or row.attempts)


def test_of_two_slurm_jobs_the_older_stays(world: World) -> None:
    world.model.lose_answers = 1
    job_id = world.submit()
    world.clock.advance(3)
    world.model.add(submission_of(world, job_id, attempt=2))  # its own second attempt, of which no answer came either
    world.provider.store.change("update jobs set attempts = 2 where id = ?", [job_id])
    world.work(1)
    first, second = world.model.of(job_id)
    assert world.row(job_id).slurm_id == first.run.id
    assert second.run.state_text == "CANCELLED"
    assert first.run.state_text == "PENDING"


def test_a_slurm_job_of_somebody_else_with_the_same_name_is_not_taken(world: World) -> None:
    world.model.drop_requests = 1
    job_id = world.submit()
    world.model.add(submission_of(world, job_id), user="mallory")
    world.work(1)
    assert world.row(job_id).slurm_id is None


CRASHES = [
    "ucloud_slurm.store.jobs.Jobs.accept",
    "ucloud_slurm.store.jobs.Jobs.claim",
    "ucloud_slurm.users.service.make_folder",
    "tests.support.model.Model.submit",
    "ucloud_slurm.store.jobs.Jobs.submitted",
    "ucloud_slurm.store.jobs.Jobs.acknowledge",
]


class Killed(BaseException):
    """The process is gone; nothing that catches exceptions runs."""


# With a bound on its pace a submission is claimed when its turn comes, else when the job is written down.
@pytest.mark.parametrize("pace", [None, 100.0])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("place", CRASHES)
def test_a_crash_at_any_point_leaves_one_slurm_job(
    world: World, open_provider: Open, serve: Serve, mocker: MockerFixture, place: str, moment: str, pace: float | None
) -> None:
    if pace is None and place.endswith("claim"):
        place = "ucloud_slurm.web.bulk.conclude"
    world.provider.close()
    world.provider = open_provider(slurm={"submit_per_second": pace}, jobs={"submit_within": "30s"})
    real = pkgutil.resolve_name(place)

    def killed(*arguments: Any, **named: Any) -> None:
        if moment == "after":
            real(*arguments, **named)
        raise Killed

    mocker.patch(place, killed)
    with pytest.raises(Killed):
        Create(world.provider).accept([job("7")])
    mocker.stopall()
    # The request that comes next waits that long for the claim of the one that was killed.
    world.provider = open_provider(jobs={"submit_within": "0.2s"})
    serve(world.provider)
    status, _ = create(world, job_data("7"))
    for _ in range(8):  # a claim must run out, and Slurm be asked for a while
        run_once(world.provider)
        world.clock.advance(20)
    assert status == 200
    assert len(world.model.of("7")) == 1
    assert world.row("7").phase is JobPhase.LIVE


def test_a_submission_that_outlived_its_claim_is_taken_back_when_it_lands(world: World, mocker: MockerFixture) -> None:
    real, first = world.model.submit, list[Submission]()

    def slow(submission: Submission, within: float) -> SlurmJobId:
        if not first:
            first.append(submission)
            for _ in range(8):  # long enough for the worker to look for it in vain, and to submit it itself
                world.work(20)
        return real(submission, within)

    mocker.patch.object(world.model, "submit", slow)
    create(world, job_data("7"))
    wait_until("the first one has landed", lambda: len(world.model.of("7")) == 2, seconds=30)
    let_threads_finish(world.provider)
    wait_until("one is cancelled", lambda: states(world) == ["CANCELLED", "PENDING"], seconds=30)
    (stays,) = (made for made in world.model.of("7") if made.run.state_text == "PENDING")
    assert (world.row("7").slurm_id, world.row("7").attempts) == (stays.run.id, 2)


def states(world: World) -> list[str]:
    return sorted(made.run.state_text for made in world.model.of("7"))


def test_the_outcome_of_an_attempt_says_nothing_about_the_next(world: World) -> None:
    jobs, now = world.provider.jobs, world.clock()
    jobs.accept([new_job("7", accepted_at=now)])
    assert jobs.claim(["7"], now, now) == {"7": 1}
    jobs.release_claim(["7"], 1)
    assert jobs.claim(["7"], now, now + 9) == {"7": 2}
    jobs.release_claim(["7"], 1)
    jobs.mark_outcome_unknown("7", 1, now)
    jobs.refused("7", 400, "no", now, attempt=1)
    assert not jobs.submitted("7", 5, None, attempt=1)
    row = world.row("7")
    assert (row.phase, row.claimed_until, row.slurm_id, row.attempts) == (JobPhase.SUBMITTING, now + 9, None, 2)
    assert jobs.submitted("7", 6, None, attempt=2)


@pytest.mark.parametrize("submit_within", ["2s"])
def test_a_folder_that_took_longer_than_the_claim_allows_sends_nothing(world: World, mocker: MockerFixture) -> None:
    mocker.patch("ucloud_slurm.provider.submission.CLAIM_MARGIN_SECONDS", -10.0)
    assert create(world, job_data("7"))[0] == 200
    assert (world.model.of("7"), world.row("7").phase) == ([], JobPhase.SUBMITTING)
    mocker.stopall()
    for _ in range(8):
        world.work(20)
    assert len(world.model.of("7")) == 1


def test_a_folder_that_fails_when_another_attempt_is_under_way_refuses_nothing(world: World, mocker: MockerFixture) -> None:
    def late(*_: Any) -> None:
        world.provider.jobs.release_claim(["7"], 1)  # the worker has given it up meanwhile, and is at it itself
        assert world.provider.jobs.claim(["7"], world.clock(), world.clock() + 60) == {"7": 2}
        raise StorageFullError("stale file handle")

    mocker.patch("ucloud_slurm.users.service.make_folder", late)
    assert create(world, job_data("7"))[0] == 200
    assert (world.row("7").phase, world.row("7").attempts) == (JobPhase.SUBMITTING, 2)
