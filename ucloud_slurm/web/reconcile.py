"""terminate and verify: UCloud and the provider agree on the state of jobs."""

import time
from collections.abc import Sequence

from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.provider.cancellation import cancel, end_unsubmitted
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.reconciliation import adopt, repair, repeat_update
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.ucloud.jobs import Job


def terminate(provider: Provider, jobs: Sequence[Job]) -> None:
    """Records that the jobs must end, and cancels those for which there is time; the worker cancels the rest."""
    check_provider(provider, jobs)
    with provider.store.writing():
        for job in jobs:
            mark(provider, job)
    deadline = time.monotonic() + provider.config.jobs.submit_within
    for job in jobs:
        row = provider.jobs.get(job.id)
        left = deadline - time.monotonic()
        if left <= 0 or not provider.breaker.allows(SLURM, provider.now()):
            return
        if row is not None and row.phase is JobPhase.LIVE and not cancel(provider, row, left):
            return


def verify(provider: Provider, jobs: Sequence[Job]) -> None:
    """Sends UCloud the state of the jobs that it shows wrongly."""
    check_provider(provider, jobs)
    with provider.store.writing():
        for job in jobs:
            repair(provider, job)


def check_provider(provider: Provider, jobs: Sequence[Job]) -> None:
    """Refuses jobs of another provider.

    :raises Refused: names the item
    """
    for number, job in enumerate(jobs):
        owner = job.specification.product.provider
        if owner != provider.config.provider.id:
            named = one_line(owner, 60)
            raise Refused(f"items[{number}].specification.product.provider: {named} is not this provider.")


def mark(provider: Provider, job: Job) -> None:
    """Records that the job must end. The final state of an ended job is sent again."""
    row = provider.jobs.get(job.id)
    if row is None:
        adopt(provider, job, stop=Stop.TERMINATED)
    elif row.phase in (JobPhase.ENDED, JobPhase.REFUSED):
        repeat_update(provider, row)
    else:
        provider.jobs.stop(row.id, Stop.TERMINATED, provider.now())
        if row.phase is JobPhase.ACCEPTED:
            end_unsubmitted(provider, row)
