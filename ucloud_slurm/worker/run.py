"""One pass of the worker: look up, submit, watch, tell, stop.

What submits and registers jobs knows UCloud's messages, which take longer to load than most passes; it is loaded by
the passes that have such a job.
"""

import logging
from enum import Enum

from ucloud_slurm.provider.cancellation import stop_marked
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.linking import tell_owed
from ucloud_slurm.provider.lookup import PAUSE, Catalogue
from ucloud_slurm.provider.reconciliation import compare, confirm
from ucloud_slurm.slurm.errors import SchedulerAway
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.jobs import Phase
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.filelock import WORKER, alone
from ucloud_slurm.worker.delivery import drain
from ucloud_slurm.worker.poll import Watch
from ucloud_slurm.worker.retention import forget
from ucloud_slurm.worker.wallets import heed_locks

log = logging.getLogger(__name__)


class Result(Enum):
    """How a pass went."""

    DONE = "done"
    NOT_ALL = "Slurm or UCloud could not be reached"
    ELSEWHERE = "another pass is under way"


def one_pass(provider: Provider, *, wait: float = 0.0) -> Result:
    """Does one pass, unless another process is at one.

    :param wait: seconds that the other one has to end its own
    """
    with alone(provider.store.path, WORKER, wait) as mine:
        if not mine:
            log.info("another pass is under way; this one does nothing")
            return Result.ELSEWHERE
        return Result.DONE if _pass(provider) else Result.NOT_ALL


def _pass(provider: Provider) -> bool:
    catalogue = Catalogue(provider)
    # The rows are read before squeue is asked: a job that is in them and not in its answer is really absent.
    rows = provider.jobs.open()
    submitting = provider.jobs.in_phase(Phase.SUBMITTING)
    users = {row.local_user for row in (*rows, *submitting)}
    if provider.health.of(SLURM).failing_since is not None:
        users.add(own_account())  # nobody waits for Slurm, but whether it is back is wanted on the health page
    queue = _read_queue(provider, users if not provider.config.outside else None)
    whole = queue is not None
    asked: set[str] = set()
    whole &= heed_locks(provider, rows, queue, asked)
    if queue is not None:
        if submitting:
            from ucloud_slurm.worker.recovery import settle  # noqa: PLC0415

            settle(provider, submitting, queue)
        whole &= Watch(provider, catalogue).look([row for row in rows if row.phase is Phase.LIVE], queue)
        if provider.config.outside:
            from ucloud_slurm.worker.external_jobs import register_outside  # noqa: PLC0415

            whole &= register_outside(provider, queue)
    accepted = provider.jobs.in_phase(Phase.ACCEPTED)
    if accepted:
        from ucloud_slurm.provider.submission import submit_owed  # noqa: PLC0415

        submit_owed(provider, catalogue, accepted)
    whole &= compare(provider)
    whole &= confirm(provider)
    locked = provider.wallets.all_locked()
    whole &= drain(provider)
    if provider.wallets.all_locked() != locked:
        whole &= heed_locks(provider, provider.jobs.open(), queue, asked)
    whole &= tell_owed(provider)
    if queue is not None:
        whole &= stop_marked(provider, queue, asked)
        forget(provider, queue)
    return whole


def _read_queue(provider: Provider, users: set[str] | None) -> list[QueueRecord] | None:
    if users is not None and not users:
        return []
    try:
        queue = provider.scheduler.queue(users)
    except SchedulerAway as error:
        log.warning("squeue could not be asked: %s", error)
        provider.health.failed(SLURM, str(error), provider.now(), PAUSE)
        return None
    provider.health.answered(SLURM, provider.now())
    return queue
