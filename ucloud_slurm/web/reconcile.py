"""terminate and verify: bringing what UCloud thinks of a job and what we know of it together."""

import time
from collections.abc import Sequence

from ucloud_slurm.errors import Problem, Refused
from ucloud_slurm.provider import Provider
from ucloud_slurm.store.health import SLURM
from ucloud_slurm.store.jobs import JobRow, Phase, Stop
from ucloud_slurm.ucloud.control import JobState, JobUpdate
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.web.create import row_of
from ucloud_slurm.worker.stop import cancel
from ucloud_slurm.worker.submit import end_unsubmitted

NOBODY = "nobody"  # has no job of ours: what is looked for as theirs is not found


def terminate(provider: Provider, jobs: Sequence[Job]) -> None:
    """Writes down that the jobs are to end, and cancels what can be cancelled in time; the worker does the rest."""
    ours(provider, jobs)
    with provider.store.writing():
        for job in jobs:
            mark(provider, job)
    deadline = time.monotonic() + provider.config.jobs.submit_within
    for job in jobs:
        row = provider.jobs.get(job.id)
        left = deadline - time.monotonic()
        if left <= 0 or not provider.health.may_ask(SLURM, provider.now()):
            return
        if row is not None and row.phase is Phase.LIVE and not cancel(provider, row, left):
            return


def verify(provider: Provider, jobs: Sequence[Job]) -> None:
    """Tells UCloud what it has wrong about the jobs."""
    ours(provider, jobs)
    with provider.store.writing():
        for job in jobs:
            correct(provider, job)


def ours(provider: Provider, jobs: Sequence[Job]) -> None:
    """Refuses jobs of another provider.

    :raises Refused: naming the item; nothing has been done
    """
    for number, job in enumerate(jobs):
        owner = job.specification.product.provider
        if owner != provider.config.provider.id:
            raise Refused(f"items[{number}].specification.product.provider: {owner} is not this provider.")


def mark(provider: Provider, job: Job) -> None:
    """Writes down that the job is to end. One that has ended is told again."""
    row = provider.jobs.get(job.id)
    if row is None:
        _look_for(provider, job, stop=Stop.TERMINATED)
    elif row.phase in (Phase.ENDED, Phase.REFUSED):
        _tell_again(provider, row)
    else:
        provider.jobs.stop(row.id, Stop.TERMINATED, provider.now())
        if row.phase is Phase.ACCEPTED:
            end_unsubmitted(provider, row)


def correct(provider: Provider, job: Job) -> None:
    """Tells UCloud what it has wrong about a job."""
    row = provider.jobs.get(job.id)
    if row is None:
        _look_for(provider, job)
    elif row.phase in (Phase.ENDED, Phase.REFUSED) or (row.state and row.state != job.status.state):
        _tell_again(provider, row)


def _tell_again(provider: Provider, row: JobRow) -> None:
    if row.phase is Phase.REFUSED:
        update = JobUpdate(JobState.FAILURE, row.refused_why or "The job was refused.")
    elif row.state is not None:
        update = JobUpdate(row.state, row.reason or "The job is in the queue.")
    else:
        return
    provider.jobs.tell_again(row.id, update, provider.now())


def _look_for(provider: Provider, job: Job, stop: Stop | None = None) -> None:
    """A job that we do not know: Slurm is asked for it by name before UCloud is told that it is gone."""
    now = provider.now()
    try:
        local_user = provider.mapping.identity(job.owner.created_by, job.owner.project).person.user
    except Problem:
        local_user = NOBODY
    row = row_of(
        provider,
        job,
        local_user,
        phase=Phase.SUBMITTING,
        found_only=True,
        accepted_at=min(now, job.created_at / 1000),
        promised_at=now,
        answered_at=now,
        attempted_at=now,
    )
    if stop is not None:
        row |= {"stop": stop, "stop_at": now}
    provider.jobs.accept([row])
