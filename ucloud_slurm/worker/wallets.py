"""Locked wallets: the jobs that they pay for are cancelled, or held in the queue until there are funds again.

Every pass decides again from the wallets as they are stored, so that nothing is lost while Slurm is away. A hold is
written before Slurm is asked for it: only our own holds are released here.
"""

import logging
from collections.abc import Sequence

from ucloud_slurm.bridge import wallets
from ucloud_slurm.bridge.wallets import BilledJob, Stage, WalletAction
from ucloud_slurm.provider.cancellation import stop_marked
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identity import by_number, record_of
from ucloud_slurm.slurm.errors import ActionRefusedError, SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.system.journal import isolate_errors
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.reports import JobUpdate

log = logging.getLogger(__name__)


def enforce_wallets(provider: Provider, rows: Sequence[OpenJob], queue: Sequence[QueueRecord] | None, asked: set[str]) -> bool:
    """Stops, holds and releases jobs as the wallets demand. Jobs that are not submitted need no Slurm for that.

    :param rows: all jobs that have not ended, read before squeue was asked
    :param queue: squeue's answer; None when it could not be asked
    :param asked: see :func:`stop_marked`
    :returns: False when Slurm could not be asked to do something
    """
    # Without a channel UCloud would not say that a wallet is unlocked.
    locked = provider.wallets.all_locked() if provider.era.has_channel else frozenset[Payer]()
    if not locked and all(row.held_at is None for row in rows):
        return True
    listed = by_number(queue or [])
    jobs: dict[str, tuple[OpenJob, QueueRecord | None]] = {}
    standings = []
    for row in rows:
        record = record_of(row, listed)
        standing = _standing(row, record)
        if standing is not None:
            standings.append(standing)
            jobs[row.id] = row, record
    todo = dict(wallets.decide(standings, locked, provider.config.accounting.locked_queued))
    ending = [jobs[job_id][0] for job_id, what in todo.items() if what is WalletAction.STOP]
    for row in ending:
        log.info("job %s: its owner has nothing left in %s; it is stopped", row.id, row.category)
        provider.jobs.stop(row.id, Stop.NO_FUNDS, provider.now())
    # Before the rest of the pass, which may take long.
    whole = not ending or stop_marked(provider, queue or [], asked)
    for job_id, what in todo.items():
        with isolate_errors(job_id, "enforcing its wallet"):
            if what is not WalletAction.STOP and not _switch(provider, *jobs[job_id], what):
                return False
    return whole


def _switch(provider: Provider, row: OpenJob, record: QueueRecord | None, what: WalletAction) -> bool:
    """Holds a job or releases it.

    :returns: False when Slurm could not be asked; the next pass retries
    """
    payer, now = Payer.of(row.owner, row.project, row.category), provider.now()
    try:
        if what is WalletAction.HOLD:
            provider.jobs.held(row.id, JobUpdate(None, wallets.held_sentence(payer)), now)
            if record is not None:
                log.info("job %s: its owner has nothing left in %s; it is held", row.id, row.category)
                provider.scheduler.hold(record.id, provider.config.slurm.timeout)
        else:
            waiting = record is None or wallets.stage(record) is Stage.WAITING
            if record is not None and waiting and wallets.is_held(record):
                provider.scheduler.release(record.id, provider.config.slurm.timeout)
            log.info("job %s: its owner has something in %s again; it is released", row.id, row.category)
            provider.jobs.released(row.id, JobUpdate(None, wallets.released_sentence(payer)) if waiting else None, now)
    except ActionRefusedError as error:
        log.error("job %s: Slurm does not %s Slurm job %s: %s", row.id, what.value, row.slurm_id, error)
    except SchedulerUnavailableError as error:
        log.warning("job %s: could not %s Slurm job %s yet: %s", row.id, what.value, row.slurm_id, error)
        provider.breaker.record_failure(SLURM, str(error), now)
        return False
    return True


def _standing(row: OpenJob, record: QueueRecord | None) -> BilledJob | None:
    """What the decision depends on; None if that is not known at the moment, or does not matter any more."""
    if row.stop is not None or row.phase is JobPhase.SUBMITTING:
        return None
    stage: Stage | None = Stage.UNSUBMITTED
    if row.phase is JobPhase.LIVE:
        stage = wallets.stage(record) if record is not None else None
    held = record is not None and wallets.is_held(record)
    payer = Payer.of(row.owner, row.project, row.category)
    return None if stage is None else BilledJob(row.id, payer, stage, held, row.held_at is not None)
