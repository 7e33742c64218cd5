"""One pass of the worker: recover, poll, submit, deliver, cancel.

The modules that submit and register jobs and drives load the models of UCloud's messages, which takes longer than most passes:
they are imported only by a pass that has such a job.
"""

import gc
import logging
import os
from enum import Enum

from ucloud_slurm.provider.cancellation import stop_marked, stop_requeued
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.linking import deliver_link_changes
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.reconciliation import confirm, reconcile
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.caches import UNDECIDED, Cache
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.system.filelock import WORKER, exclusive_lock, last_released, record_release
from ucloud_slurm.worker.audit import audit_regularly
from ucloud_slurm.worker.delivery import deliver, record_outcome
from ucloud_slurm.worker.modules import refresh_modules
from ucloud_slurm.worker.poll import Poller
from ucloud_slurm.worker.retention import prune
from ucloud_slurm.worker.tasks import report_tasks
from ucloud_slurm.worker.wallets import enforce_wallets

log = logging.getLogger(__name__)

ASK_SECONDS = 60.0  # between two questions to Slurm while there are no jobs
UNDECIDED_SECONDS = 300.0  # between two comparisons that only the administrator can decide: each asks UCloud for all jobs
REQUEUE_SECONDS = 600.0  # after its end, in which slurmctld may still know a job and requeue it (MinJobAge)


class Result(Enum):
    """The result of a pass."""

    DONE = "done"
    NOT_ALL = "Slurm or UCloud could not be reached"
    ELSEWHERE = "another pass is under way"


def run_once(provider: Provider, *, wait: float = 0.0) -> Result:
    """Does one pass, unless another process does one.

    :param wait: seconds to wait for the end of that one
    """
    with exclusive_lock(provider.store.path, WORKER, wait) as mine:
        if not mine:
            log.info("another pass is under way; this one does nothing")
            return Result.ELSEWHERE
        if (why := provider.store.why_elsewhere()) is not None:
            log.warning("this pass does nothing: %s", why)
            return Result.NOT_ALL
        # What a pass reads lives until its end; there is nothing to be collected before.
        gc.disable()
        generation = Generation(provider.store)
        try:
            behind = generation.why_behind()
            whole = _pass(provider) if behind is None else _pass_behind(provider, behind)
        finally:
            gc.enable()
        record_release(provider.store.path, WORKER, provider.now())
        generation.advance(provider.now())
        provider.store.checkpoint()
    refresh_modules(provider)
    return Result.DONE if whole else Result.NOT_ALL


def _pass(provider: Provider) -> bool:
    lookup = Lookup(provider)
    # The rows are read before squeue is asked: a job that is in them and not in its answer is absent from the queue.
    cluster = provider.scheduler.cluster
    rows = provider.jobs.open(cluster)
    if cluster is not None and (elsewhere := provider.observations.on_another_cluster(cluster)):
        log.error("%d jobs are on another cluster than %s (slurm.conf); they are left as they are", elsewhere, cluster)
    unknown = provider.jobs.unknown(provider.now())
    uids = {row.uid for row in (*rows, *unknown)}
    if provider.breaker.of(SLURM).failing_since is not None or _is_new_minute(provider):
        uids.add(os.geteuid())  # also without jobs squeue is asked, so that the health page shows whether Slurm answers
    # A job of an earlier release may have no uid: all jobs are asked for.
    known = {uid for uid in uids if uid is not None}
    known |= provider.observations.ended_since(provider.now() - REQUEUE_SECONDS)
    queue = _read_queue(provider, None if provider.config.outside or None in uids else known)
    whole = queue is not None
    asked: set[str] = set()
    whole &= enforce_wallets(provider, rows, queue, asked)
    if queue is not None:
        if unknown:
            from ucloud_slurm.worker.recovery import recover_unknown

            recover_unknown(provider, unknown)
        whole &= Poller(provider, lookup).poll([row for row in rows if row.phase is JobPhase.LIVE], queue)
        if provider.config.outside:
            from ucloud_slurm.worker.external_jobs import register_external_jobs

            whole &= register_external_jobs(provider, queue)
    accepted = provider.jobs.in_phase(JobPhase.ACCEPTED)
    if accepted:
        from ucloud_slurm.worker.pending import submit_pending

        submit_pending(provider, lookup, accepted)
    whole &= reconcile(provider)
    whole &= confirm(provider)
    locked = provider.wallets.all_locked()
    delivered = deliver(provider)
    whole &= delivered
    if provider.wallets.all_locked() != locked:
        whole &= enforce_wallets(provider, provider.jobs.open(cluster), queue, asked)
    whole &= deliver_link_changes(provider)
    whole &= report_tasks(provider)
    if provider.offers_drives:
        from ucloud_slurm.worker.drives import register_drives

        whole &= register_drives(provider, projects=_is_new_minute(provider))
    whole &= record_outcome(provider, delivered=delivered)
    if queue is not None:
        whole &= stop_marked(provider, queue, asked)
        stop_requeued(provider, rows, queue)
        prune(provider, queue)
        audit_regularly(provider, rows)
    return whole


def _is_new_minute(provider: Provider) -> bool:
    """Whether no pass has ended yet in this minute: with nothing under way Slurm is asked once in each, by one of them."""
    ended = last_released(provider.store.path, WORKER)
    return ended is None or ended // ASK_SECONDS != provider.now() // ASK_SECONDS


def _catch_up(provider: Provider, behind: str) -> bool:
    """Reconciles a database that is older than what was reported from it.

    :param behind: what has happened to it
    :returns: False while it is still behind
    """
    from ucloud_slurm.worker.reconcile import UNAVAILABLE, reconcile

    undecided, now = Cache(provider.store, UNDECIDED, UNDECIDED_SECONDS), provider.now()
    if undecided.get("", now) is not None:
        return False
    try:
        found = reconcile(provider, attended=False)
    except UNAVAILABLE as error:
        log.error("%s, and nothing is reported to UCloud until ucloud-slurm reconcile has run: %s", behind, error)
        return False
    if not found.repaired:
        undecided.put("", "", now)
        number = len(found.without_trace)
        log.error("%s, and nothing is reported: Slurm has no trace of %d jobs; run ucloud-slurm reconcile", behind, number)
        return False
    log.warning("%s; it was reconciled with Slurm and UCloud: %d differences", behind, len(found.differences))
    for each in found.left:
        log.error("job %s: %s", each.job.id, each.what)
    return True


def _pass_behind(provider: Provider, behind: str) -> bool:
    """Reconciles; beside it what was terminated is looked up and cancelled. The next pass does everything.

    :param behind: what has happened to the database
    """
    whole = _catch_up(provider, behind)
    unknown = [row for row in provider.jobs.unknown(provider.now()) if row.lookup_only]
    if unknown:
        from ucloud_slurm.worker.recovery import recover_unknown

        recover_unknown(provider, unknown)
    uids = {row.uid for row in provider.jobs.to_stop()}
    queue = _read_queue(provider, None if None in uids else {uid for uid in uids if uid is not None})
    if queue is not None:
        whole &= stop_marked(provider, queue, set())
    return whole and queue is not None


def _read_queue(provider: Provider, uids: set[int] | None) -> list[QueueRecord] | None:
    if uids is not None and not uids:
        return []
    try:
        queue = provider.scheduler.queue(uids)
    except SchedulerUnavailableError as error:
        log.warning("squeue could not be asked: %s", error)
        provider.breaker.record_failure(SLURM, str(error), provider.now())
        return None
    provider.breaker.record_success(SLURM, provider.now())
    return queue
