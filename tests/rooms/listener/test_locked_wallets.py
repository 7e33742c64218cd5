"""A locked wallet ends what its owner runs, and holds what waits, until there is something again."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from pytest_mock import MockerFixture

from tests.conftest import Clock, Open, Serve, World
from tests.rooms.listener import records
from tests.rooms.listener.conftest import MakeWorld, hear, running
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.errors import CoreError
from tests.support.factories import job_data
from tests.support.model import Model
from ucloud_slurm.provider import submission
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.errors import ActionRefusedError
from ucloud_slurm.slurm.records import SlurmJobId
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import CHANNEL
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.system.filelock import LISTENER, exclusive_lock
from ucloud_slurm.ucloud.core import ChargeAnswer, Core
from ucloud_slurm.ucloud.reports import JobState
from ucloud_slurm.worker.run import Result, run_once

LOCKED, UNLOCKED = records.of_user("user", locked=True), records.of_user("user", locked=False)
CANCEL = {"accounting": {"locked_queued": "cancel"}}


def said(world: World, job_id: str) -> list[str]:
    return [update["status"] for update in world.core.job(job_id).updates]


def test_a_lock_ends_the_running_job_of_its_owner_with_insufficient_funds(channel_world: World) -> None:
    world = channel_world
    job_id = running(world)
    assert hear(world, LOCKED)
    assert world.work(1) is Result.DONE
    assert world.row(job_id).stop is Stop.NO_FUNDS
    assert world.slurm(job_id).run.state is SlurmState.CANCELLED
    assert world.model.counts["scancel"] == 1
    world.work(15)
    assert world.told(job_id)[-1] == "SUCCESS"
    assert said(world, job_id)[-1] == "Insufficient funds"


def test_a_lock_of_a_project_touches_neither_personal_jobs_nor_other_categories(channel_world: World) -> None:
    world = channel_world
    personal, of_project, of_other = running(world), running(world, project="p-1"), running(world, project="p-2")
    hear(world, records.of_project("p-1", locked=True))
    hear(world, records.project(0, "p-2") + records.category(0, "gpu") + records.wallet(0, of_project=True))
    hear(world, records.user(0, "user") + records.category(0, "gpu") + records.wallet(0))
    world.work(1)
    assert [world.row(job_id).stop for job_id in (personal, of_project, of_other)] == [None, Stop.NO_FUNDS, None]


def test_a_lock_of_a_user_does_not_touch_what_they_run_in_a_project(channel_world: World) -> None:
    world = channel_world
    job_id = running(world, project="p-1")
    hear(world, LOCKED)
    world.work(1)
    assert world.row(job_id).stop is None


@pytest.mark.parametrize(
    "message",
    [
        records.user(0, "user") + records.category(0, provider="other") + records.wallet(0),
        records.of_project("nobody-knows", locked=True),
        records.of_user("Nobody#1", locked=True),
    ],
)
def test_wallets_of_other_providers_and_of_strangers_touch_nothing(channel_world: World, message: bytes) -> None:
    job_id = running(channel_world)
    hear(channel_world, message)
    channel_world.work(1)
    assert channel_world.row(job_id).stop is None


def test_an_era_without_a_channel_has_no_locks(world: World) -> None:
    job_id = running(world)
    hear(world, LOCKED)
    world.work(1)
    assert world.row(job_id).stop is None
    world.submit()


def test_what_was_held_is_released_in_an_era_without_a_channel(channel_world: World) -> None:
    world = channel_world
    waits, unsubmitted = world.submit(), accepted(world)
    world.work(0)
    hear(world, LOCKED)
    world.work(15)
    era = world.provider.era._replace(has_channel=False)
    run_once(replace(world.provider, era=era))
    assert world.slurm(waits).held is None
    assert world.row(unsubmitted).phase is JobPhase.LIVE


def test_without_a_channel_an_empty_wallet_ends_what_is_told_of_and_keeps_nobody_out_for_ever(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock, mocker: MockerFixture
) -> None:
    provider = open_provider(accounting={"mode": "report-usage"})
    world = World(core, provider, model, clock, serve(provider))
    job_id, waits = running(world), world.submit()
    mocker.patch.object(Core, "report_usage", lambda _core, items: [False] * len(items))
    world.work(60)
    world.work(1)
    assert world.told(job_id)[-1] == "SUCCESS"
    assert said(world, job_id)[-1] == "Insufficient funds"
    mocker.patch.object(Core, "report_usage", lambda _core, items: [True] * len(items))
    world.work(3600)
    assert world.slurm(waits).held is None
    world.model.begin_run(world.slurm(waits))
    world.work(60)
    assert world.row(waits).stop is None
    world.submit()


# ---- jobs that wait


def test_a_waiting_job_is_held_and_its_owner_told_once_until_there_is_something_again(channel_world: World) -> None:
    world = channel_world
    job_id = world.submit()
    world.work(15)
    hear(world, LOCKED)
    for _ in range(3):
        world.work(15)
    assert world.slurm(job_id).held is not None
    assert world.model.counts["hold"] == 1
    waits = "You have no resources left in example-compute. The job waits until there are some again."
    assert said(world, job_id).count(waits) == 1
    assert world.core.job(job_id).state == "IN_QUEUE"
    hear(world, UNLOCKED)
    for _ in range(2):
        world.work(15)
    assert world.slurm(job_id).held is None
    assert world.model.counts["release"] == 1
    assert said(world, job_id)[-1] == "There are resources in example-compute again. The job is released."
    world.model.begin_run(world.slurm(job_id))
    world.work(15)
    assert world.told(job_id)[-1] == "RUNNING"


def test_a_hold_of_somebody_else_stays_when_the_wallet_is_unlocked(channel_world: World) -> None:
    world = channel_world
    job_id = world.submit()
    world.work(15)
    world.slurm(job_id).held = "JobHeldUser"
    for message in (LOCKED, UNLOCKED):
        hear(world, message)
        world.work(15)
    assert world.slurm(job_id).held == "JobHeldUser"
    assert (world.model.counts["hold"], world.model.counts["release"]) == (0, 0)


def test_a_job_that_others_let_go_is_held_again_while_the_lock_stands(channel_world: World) -> None:
    world = channel_world
    job_id = world.submit()
    world.work(15)
    hear(world, LOCKED)
    world.work(15)
    world.slurm(job_id).held = None
    world.work(15)
    assert world.slurm(job_id).held is not None
    assert sum("waits until" in each for each in said(world, job_id)) == 1


def test_jobs_that_wait_end_with_the_sentence_where_it_is_configured(make_world: MakeWorld) -> None:
    world = make_world(**CANCEL)
    job_id = world.submit()
    world.work(15)
    hear(world, LOCKED)
    for _ in range(2):
        world.work(15)
    assert world.slurm(job_id).run.state is SlurmState.CANCELLED
    assert (world.told(job_id)[-1], said(world, job_id)[-1]) == ("SUCCESS", "Insufficient funds")


def accepted(world: World) -> str:
    """A job that was accepted while Slurm was away, and is not submitted yet."""
    world.model.drop_requests = 1
    job_id = world.submit()
    world.provider.jobs.release_claim([job_id], 1)
    assert world.row(job_id).phase is JobPhase.ACCEPTED
    return job_id


def test_a_job_that_was_not_submitted_yet_is_submitted_after_the_lock(channel_world: World) -> None:
    world = channel_world
    job_id = accepted(world)
    hear(world, LOCKED)
    for _ in range(2):
        world.work(60)
    assert world.model.of(job_id) == []
    assert sum("waits until" in each for each in said(world, job_id)) == 1
    hear(world, UNLOCKED)
    world.work(60)
    assert world.row(job_id).phase is JobPhase.LIVE
    assert world.slurm(job_id).held is None


def test_a_job_that_is_held_is_neither_built_nor_claimed(channel_world: World, mocker: MockerFixture) -> None:
    world = channel_world
    job_id = accepted(world)
    hear(world, LOCKED)
    build = mocker.spy(submission, "build")
    world.work(60)
    assert build.call_count == 0
    assert not world.provider.jobs.claim([job_id], world.clock(), world.clock() + 60)


def test_a_job_that_was_not_submitted_yet_ends_with_the_sentence_where_it_is_configured(make_world: MakeWorld) -> None:
    world = make_world(**CANCEL)
    job_id = accepted(world)
    hear(world, LOCKED)
    world.work(60)
    assert world.model.of(job_id) == []
    assert (world.told(job_id), said(world, job_id)[-1]) == (["SUCCESS"], "Insufficient funds")


def test_a_held_job_that_its_user_terminates_ends(channel_world: World) -> None:
    world = channel_world
    waiting, job_id = world.submit(), accepted(world)
    world.work(0)
    hear(world, LOCKED)
    world.work(15)
    for each in (waiting, job_id):
        world.core.terminate(each)
    world.work(15)
    world.work(15)
    assert [world.told(each)[-1] for each in (waiting, job_id)] == ["SUCCESS", "SUCCESS"]
    assert "Insufficient funds" not in said(world, waiting) + said(world, job_id)


def test_a_job_that_is_to_end_anyway_is_not_held(channel_world: World) -> None:
    world = channel_world
    job_id = world.submit()
    world.work(15)
    world.model.cancels_reach = False
    world.core.terminate(job_id)
    hear(world, LOCKED)
    world.work(15)
    assert world.model.counts["hold"] == 0
    assert world.row(job_id).stop is Stop.TERMINATED


# ---- Slurm is away, or unwilling


def test_a_lock_that_comes_while_slurm_is_away_is_minded_when_it_is_back(channel_world: World) -> None:
    world = channel_world
    runs, waits = running(world), world.submit()
    world.work(15)
    world.model.controller = False
    hear(world, LOCKED)
    assert world.work(15) is Result.NOT_ALL
    assert world.slurm(runs).run.state is SlurmState.RUNNING
    world.model.controller = True
    world.work(60)
    assert world.slurm(runs).run.state is SlurmState.CANCELLED
    assert world.slurm(waits).held is not None


def test_a_hold_without_an_answer_is_still_ours(channel_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm holds the job, and we end before we hear of it."""
    world = channel_world
    job_id = world.submit()
    world.work(15)
    hold = world.model.hold

    def killed(*arguments: object) -> None:
        hold(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(world.model, "hold", killed)
    hear(world, LOCKED)
    with pytest.raises(KeyboardInterrupt):
        world.work(15)
    hear(world, UNLOCKED)
    world.work(15)
    assert world.slurm(job_id).held is None
    assert world.row(job_id).held_at is None


def test_one_job_that_slurm_does_not_hold_does_not_keep_others_from_it(
    channel_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = channel_world
    first, second = world.submit(), world.submit()
    world.work(15)
    hold = world.model.hold

    def unwilling(job: object, within: float) -> None:
        if job == world.slurm(first).run.id:
            raise ActionRefusedError("Access/permission denied")
        hold(job, within)  # type: ignore[arg-type]

    monkeypatch.setattr(world.model, "hold", unwilling)
    hear(world, LOCKED)
    assert world.work(15) is Result.DONE
    assert (world.slurm(first).held, world.slurm(second).held) == (None, "JobHeldAdmin")


def test_jobs_are_stopped_before_ucloud_is_told_anything(channel_world: World, mocker: MockerFixture) -> None:
    """UCloud may be slow, and a pass talks to it for a minute."""
    world = channel_world
    job_id = running(world)
    hear(world, LOCKED)
    found = []

    def charge(_: object) -> ChargeAnswer:
        found.append(world.slurm(job_id).run.state)
        return ChargeAnswer(frozenset(), frozenset())

    mocker.patch.object(world.provider.core, "charge", charge)
    world.work(60)
    assert found == [SlurmState.CANCELLED]


# ---- new jobs


def test_a_new_job_that_nobody_can_pay_is_refused_with_402_and_nothing_is_written(channel_world: World) -> None:
    world = channel_world
    hear(world, LOCKED + records.project(1, "p-1") + records.wallet(1, of_project=True))
    for project, whose in ((None, "You have"), ("p-1", "This project has")):
        with pytest.raises(CoreError) as refusal:
            world.submit(project=project)
        assert refusal.value.status == 402
        assert f"{whose} no resources left in example-compute." in str(refusal.value)
    assert world.provider.jobs.newest(1000) == []
    assert world.model.jobs == []
    hear(world, UNLOCKED)
    assert world.row(world.submit()).state is JobState.IN_QUEUE


def test_the_same_job_again_is_answered_as_before_although_its_owner_has_nothing_left(channel_world: World) -> None:
    def create() -> object:
        return channel_world.core.call("POST", "/ucloud/example/jobs", {"items": [job_data("7")]})

    first = create()
    hear(channel_world, LOCKED)
    assert create() == first == (200, {"responses": [{"id": "ucloud-7"}]})


def test_a_job_of_a_bulk_that_nobody_can_pay_is_named_and_takes_the_others_along(channel_world: World) -> None:
    hear(channel_world, records.of_project("p-1", locked=True))
    unpaid = job_data("8")
    unpaid["owner"]["project"] = "p-1"
    status, answer = channel_world.core.call("POST", "/ucloud/example/jobs", {"items": [job_data("7"), unpaid]})
    assert status == 402
    assert answer["why"].startswith("items[1]: This project has no resources left")
    assert channel_world.provider.jobs.newest(1000) == []


# ---- the shell around it


def test_slurm_is_asked_to_hold_and_release_by_number(tmp_path: Path) -> None:
    (tmp_path / "scontrol").write_text('#!/bin/sh\ncat >> "${0%/*}/asked"\n')
    (tmp_path / "scontrol").chmod(0o755)
    slurm = Commands(tmp_path, tmp_path / "slurm.conf", 10.0)
    slurm.hold(SlurmJobId(17), 10.0)
    slurm.release(SlurmJobId(17), 10.0)
    assert (tmp_path / "asked").read_text().splitlines() == ["hold 17", "release 17"]
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho 'Access/permission denied for job 17' >&2; exit 1\n")
    with pytest.raises(ActionRefusedError):
        slurm.hold(SlurmJobId(17), 10.0)


def test_the_health_page_has_the_channel_where_there_is_one(channel_world: World) -> None:
    world = channel_world

    def shown() -> tuple[int, list[str], str]:
        ready = requests.get(f"{world.url}/readyz", timeout=10)
        metrics = requests.get(f"{world.url}/metrics", timeout=10).text
        (line,) = (line for line in metrics.splitlines() if 'part="channel"' in line)
        return ready.status_code, ready.json()["reasons"], line.split()[1]

    nobody = "channel: the listener does not run; systemctl start ucloud-slurm-listener"
    world.work()
    assert shown() == (500, [nobody], "0.0")
    with exclusive_lock(world.provider.store.path, LISTENER) as mine:
        assert mine
        assert shown() == (200, [], "1.0")
        world.provider.breaker.record_failure(CHANNEL, "it is silent", world.clock(), 0.0)
        assert shown() == (500, ["channel: it is silent"], "0.0")
    assert shown() == (500, [nobody], "0.0")


def test_the_health_page_has_no_channel_where_there_is_none(world: World) -> None:
    world.work()
    world.provider.breaker.record_failure(CHANNEL, "it is silent", world.clock(), 0.0)
    assert requests.get(f"{world.url}/readyz", timeout=10).json() == {"ready": True, "reasons": []}
    assert "channel" not in requests.get(f"{world.url}/metrics", timeout=10).text


def test_a_pass_can_wait_for_another_one_to_end(channel_world: World, mocker: MockerFixture) -> None:
    provider = channel_world.provider
    other = os.open(f"{provider.store.path}.worker", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert run_once(provider) is Result.ELSEWHERE
    mocker.patch("ucloud_slurm.system.filelock.time.sleep", side_effect=lambda _: fcntl.flock(other, fcntl.LOCK_UN))
    assert run_once(provider, wait=60.0) is Result.DONE
    os.close(other)
