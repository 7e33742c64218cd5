"""What holds of every job in the end, whatever has happened: one Slurm job, the right bill, one true end, no lost message."""

from collections.abc import Collection, Iterable, Mapping

from tests.conftest import World
from tests.support.model import ModelJob
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.wire import from_data

FINAL = ("SUCCESS", "FAILURE", "EXPIRED")
PROGRAM_FAILED = (SlurmState.FAILED, SlurmState.OUT_OF_MEMORY)
TRUTH = {
    SlurmState.COMPLETED: "SUCCESS",
    SlurmState.CANCELLED: "SUCCESS",
    SlurmState.TIMEOUT: "EXPIRED",
    SlurmState.NODE_FAIL: "FAILURE",
}
PASSES = 40  # after which everything has reached UCloud


def finish(world: World) -> None:
    """Nothing fails any more, and every job runs to its end; ends when UCloud has heard everything."""
    for _ in range(6):
        world.work(40)
        for job in world.model.jobs:
            world.model.begin_run(job)
            if job.run.state is SlurmState.SUSPENDED:
                world.model.resume(job.run.id, 1.0)
    world.clock.advance(45)
    for job in world.model.jobs:
        world.model.end(job)
    for _ in range(PASSES):
        world.work(20)
        if not world.provider.jobs.open() and not world.provider.outbox.waiting():
            break
    world.work(61)  # and once more what UCloud may have forgotten
    world.work(20)


def check(
    world: World,
    job_ids: Collection[str],
    *,
    forged: Collection[ModelJob] = (),
    poor: bool = False,
    restored: Collection[str] = (),
    lost_rests: int = 0,
) -> None:
    """The invariants of these jobs, after :func:`finish`.

    :param forged: Slurm jobs that somebody else made
    :param poor: wallets went dry: what they could not pay is not booked
    :param restored: jobs that there were when an older database was put back, which has not all that was written of them
    :param lost_rests: how often it had an older rest of a unit of a wallet
    """
    assert world.provider.outbox.waiting() == 0, "every message has arrived"
    assert world.provider.jobs.open() == [], "every job has ended"
    kept = [job_id for job_id in job_ids if job_id in {job.id for job in world.core.jobs}]
    for job_id in job_ids:
        slurm = [job for job in world.model.of(job_id) if job not in forged]
        assert len([job for job in slurm if not _is_duplicate(job)]) <= 1, f"job {job_id} is one Slurm job"
        if job_id in kept:
            _check_end(world, job_id, slurm, restored=job_id in restored)
            _check_messages(world, job_id, restored=job_id in restored)
        else:
            _check_withdrawn(world, job_id, slurm)
    if not poor:
        _check_bills(
            world, {job_id: [job for job in world.model.of(job_id) if job not in forged] for job_id in kept}, lost_rests
        )


def _is_duplicate(job: ModelJob) -> bool:
    """Whether a second attempt landed late, and was cancelled before it ran."""
    return job.run.state is SlurmState.CANCELLED and all(run.started is None for run in job.runs)


def _check_withdrawn(world: World, job_id: str, slurm: Iterable[ModelJob]) -> None:
    """UCloud does not have the job: nothing of it may run."""
    row = world.provider.jobs.get(job_id)
    assert row is None or row.phase is JobPhase.REFUSED, f"job {job_id} is withdrawn"
    assert all(job.run.state is SlurmState.CANCELLED for job in slurm), f"job {job_id} is withdrawn, its Slurm job cancelled"


def _check_end(world: World, job_id: str, slurm: Collection[ModelJob], *, restored: bool) -> None:
    row, job = world.provider.jobs.get(job_id), world.core.job(job_id)
    states = [change.state for change in job.states]
    # One that has come and ended since the backup is nobody's any more: UCloud lists what is open.
    assert row is not None or restored, f"job {job_id} is known"
    assert row is None or row.phase is JobPhase.ENDED
    assert [state for state in states if state in FINAL] == [job.state], f"job {job_id} ends once"
    told = [state for state in world.told(job_id) if state in FINAL]
    assert set(told) == {job.state}
    assert world.told(job_id)[-len(told) :] == told, "a final state is the last"
    if not slurm:
        assert job.state in ("SUCCESS", "FAILURE")
        return
    last = _followed(world, job_id, slurm)
    assert last is not None
    assert last.run.state is not None
    assert last.run.state.phase is Phase.ENDED
    by_era = "FAILURE" if world.provider.era.exit_code_is_failure else "SUCCESS"
    assert job.state == (by_era if last.run.state in PROGRAM_FAILED else TRUTH[last.run.state]), f"the end of {job_id} is true"
    if row is not None and not (restored and row.used is None):
        assert row.used == world.model.cpu_seconds(last), f"the use of {job_id} is Slurm's"


def _followed(world: World, job_id: str, slurm: Collection[ModelJob]) -> ModelJob | None:
    """The Slurm job of a job, by its row; of one that has none, the one that was not one too many."""
    row = world.provider.jobs.get(job_id)
    if row is None:
        return min(slurm, key=_is_duplicate, default=None)
    return next((each for each in slurm if each.run.id == row.slurm_id), None)


def _check_messages(world: World, job_id: str, *, restored: bool) -> None:
    """What was written for UCloud has arrived, in order, and has had its effect once."""
    job, messages = world.core.job(job_id), world.provider.outbox.of(job_id)
    arrived = {MessageOutcome.DELIVERED, MessageOutcome.NO_FUNDS, MessageOutcome.DOUBTFUL}
    assert {message.outcome for message in messages} <= (arrived | {MessageOutcome.DROPPED} if restored else arrived)
    charges = [charge.charge_id for charge in job.charges]
    assert len(charges) == len(set(charges))
    if restored:
        return  # what was written since the backup is not in the database
    updates = [message.content["update"] for message in messages if message.kind == "update"]
    written = [update["state"] for update in updates if update.get("state")]
    effect = [change.state for change in job.states]
    expected = ["IN_QUEUE"]
    for state in written:
        if state != expected[-1]:
            expected.append(state)
    assert effect == expected, f"the states of {job_id} at UCloud are those that were written"
    heard = [update["status"] for update in job.updates]
    for update in updates:
        if not update.get("state"):
            assert update["status"] in heard


def _check_bills(world: World, jobs: Mapping[str, Collection[ModelJob]], lost_rests: int) -> None:
    """What each wallet was charged is what Slurm has counted for it, to half a unit.

    An older database has an older rest of a unit of each wallet, and nobody knows what the jobs that have ended since
    then have left of it: it may be half a unit off on either side.
    """
    used: dict[tuple[str, str | None], int] = {}
    booked: dict[tuple[str, str | None], int] = {}
    for job_id, slurm in jobs.items():
        job = world.core.job(job_id)
        wallet: tuple[str, str | None] = ("", job.project) if job.project else (job.owner, None)
        followed = _followed(world, job_id, slurm)
        used[wallet] = used.get(wallet, 0) + (world.model.cpu_seconds(followed) if followed is not None else 0)
        booked[wallet] = booked.get(wallet, 0) + units(world, job_id)
    for wallet, seconds in used.items():
        minutes = booked[wallet]
        assert abs(60 * minutes - seconds) <= 30 + 60 * lost_rests, f"wallet {wallet}: {minutes} minutes for {seconds} s"


def units(world: World, job_id: str) -> int:
    """The CPU-minutes of a job in UCloud's books."""
    if world.provider.reports_usage:
        return world.core.accounts.used(f"example/example-compute/job/{job_id}")
    return sum(charge.units * charge.multiplier for charge in world.core.job(job_id).charges)


def known(world: World, job_id: str) -> Job:
    """A job as UCloud sends it."""
    return from_data(Job, world.core.rendered(job_id))
