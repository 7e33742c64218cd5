"""terminate and verify: UCloud and the provider agree on the state of jobs."""

from collections.abc import Mapping, Sequence

from ucloud_slurm.errors import Problem, Refused, one_line
from ucloud_slurm.provider.cancellation import cancel_marked, must_end
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identities import missing_jobs
from ucloud_slurm.provider.reconciliation import repair, repeat_update
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_rows import NewJob
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.ucloud.jobs import Job


def terminate(provider: Provider, jobs: Sequence[Job]) -> None:
    """Records that the jobs must end, and cancels those for which there is time; the worker cancels the rest.

    :raises Problem: some are not in the database, and the mapping does not say at the moment which users they run as;
        the others end
    """
    deadline = provider.deadline()
    check_provider(provider, jobs)
    new = missing_jobs(provider, jobs, deadline)
    with provider.store.writing():
        unknown = [job.id for job in jobs if not mark(provider, job, new)]
    cancel_marked(provider, [job.id for job in jobs], deadline)
    if unknown:
        named = one_line(", ".join(unknown), 200)
        raise Problem(f"The provider cannot tell at the moment whose jobs these are; please try again later: {named}")


def verify(provider: Provider, jobs: Sequence[Job]) -> None:
    """Sends UCloud the state of the jobs that it shows wrongly; those about which nothing is known wait for the next call.

    A database that is older than what UCloud knows decides nothing: the worker compares all of it.
    """
    deadline = provider.deadline()
    check_provider(provider, jobs)
    if Generation(provider.store).is_behind():
        return
    new = missing_jobs(provider, jobs, deadline)
    repair(provider, jobs, new)


def check_provider(provider: Provider, jobs: Sequence[Job]) -> None:
    """Refuses jobs of another provider.

    :raises Refused: names the item
    """
    for number, job in enumerate(jobs):
        owner = job.specification.product.provider
        if owner != provider.config.provider.id:
            named = one_line(owner, 60)
            raise Refused(f"items[{number}].specification.product.provider: {named} is not this provider.")


def mark(provider: Provider, job: Job, new: Mapping[str, NewJob]) -> bool:
    """Records that the job must end. The final state of an ended job is sent again.

    :param new: the rows of jobs that may be adopted (:func:`.identities.missing_jobs`)
    :returns: False where that could not be recorded
    """
    row = provider.jobs.get(job.id)
    if row is None:
        return job.id in new and provider.observations.adopt(new[job.id], provider.now(), Stop.TERMINATED)
    if row.phase in (JobPhase.ENDED, JobPhase.REFUSED):
        repeat_update(provider, row)
        return True
    must_end(provider, row, Stop.TERMINATED)
    return True
