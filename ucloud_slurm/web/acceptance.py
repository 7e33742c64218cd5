"""The last check of new jobs, in the transaction that writes them: nothing can change between it and their acceptance."""

from collections.abc import Callable, Collection, Sequence

from ucloud_slurm.bridge.limits import Limit, first_beyond, limits_of, too_many
from ucloud_slurm.errors import Problem, TooMany, UnderMaintenance
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.maintenance import check_in_service
from ucloud_slurm.store.job_rows import NewJob, count_open


class NotAcceptedError(Exception):
    """A job is not accepted, and so none of its request.

    :ivar job_id: UCloud's
    :ivar problem: the answer
    """

    def __init__(self, job_id: str, problem: Problem) -> None:
        super().__init__(job_id, problem.why)
        self.job_id = job_id
        self.problem = problem


def check_acceptable(provider: Provider, jobs: Sequence[NewJob], known: Callable[[], Collection[str]]) -> None:
    """Refuses new jobs of machines under maintenance, and those beyond a limit. It only reads the database.

    :param jobs: of a request, in their order
    :param known: gives the ids of those that came before; it is called where one could be refused
    :raises NotAcceptedError: for the first of them that is refused
    """
    windows, config = provider.maintenance.on(provider.now()), provider.config
    limits = [
        (job, [*limits_of(job.owner, job.project, config.limits, config.product(job.category, job.product))]) for job in jobs
    ]
    if not windows and not any(each for _, each in limits):
        return
    came_before = known()
    limits = [(job, each) for job, each in limits if job.id not in came_before]
    for job, _ in limits:
        try:
            check_in_service(windows, job.category, job.product)
        except UnderMaintenance as problem:
            raise NotAcceptedError(job.id, problem) from None

    def count(limit: Limit) -> int:
        return count_open(provider.store, limit.kind, limit.owner, limit.machine)

    if beyond := first_beyond(limits, count):
        job, limit, number = beyond
        raise NotAcceptedError(job.id, TooMany(too_many(limit, number)))
