"""Reconciliation of UCloud's view of the jobs with the database: which jobs it has, and in which states."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.provider.billing import bill_confirmed
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.store.caches import COMPARED, Cache
from ucloud_slurm.store.job_rows import JobRow, NewJob
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.reports import JobState, JobUpdate

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job

log = logging.getLogger(__name__)

ASK_SECONDS = 10.0  # of a pass, for the users of unknown jobs; the rest is asked for after the next comparison
FORGOTTEN_SECONDS = 30.0  # after the create, when UCloud has dropped a job that it does not list: it waits for 5
RECENT_SECONDS = 60.0  # of age in which the create of a job that UCloud lists may still be on its way
OPEN_STATES = (JobState.IN_QUEUE, JobState.RUNNING, JobState.SUSPENDED)
GIVEN_UP = "UCloud does not have this job: its create took too long, or its answer was lost."


def confirm(provider: Provider) -> bool:
    """Asks which new jobs UCloud has. Those that it has dropped are marked to end; the others are billed, if they have ended.

    :returns: False if UCloud could not be reached
    """
    if not provider.era.has_check_existence:
        return True
    now, lookup = provider.now(), Lookup(provider)
    while rows := provider.observations.unconfirmed(now):
        try:
            there = provider.core.existing([row.id for row in rows])
        except (CoreUnavailableError, CoreRefusedError) as error:
            log.log(error.severity, "UCloud does not say which jobs it has: %s", error)
            return False
        has = [row for row, exists in zip(rows, there, strict=True) if exists]
        with provider.store.writing():
            provider.observations.confirmed([row.id for row in has], now)
            for row in has:
                bill_confirmed(provider, lookup, row)
        missing = [row for row, exists in zip(rows, there, strict=True) if not exists]
        for row in missing:
            if now - row.accepted_at >= FORGOTTEN_SECONDS:
                log.warning("job %s: UCloud does not have it; it is cancelled", row.id)
                provider.observations.forgotten(row.id, GIVEN_UP, now)
        if any(now - row.accepted_at < FORGOTTEN_SECONDS for row in missing):
            break  # the others in the next pass
    return True


def reconcile(provider: Provider) -> bool:
    """Repairs the states of all jobs that are open at UCloud, at intervals, in eras in which it does not ask for it.

    :returns: False if UCloud could not be reached
    """
    if provider.era.asks_to_verify:
        return True
    now, last = provider.now(), Cache(provider.store, COMPARED, provider.config.ucloud.compare_every)
    if last.get("", now) is not None:
        return True
    try:
        jobs = [job for state in OPEN_STATES for job in provider.core.jobs(state)]
    except (CoreUnavailableError, CoreRefusedError) as error:
        log.log(error.severity, "UCloud does not list its jobs: %s", error)
        return False
    name = provider.config.provider.id
    # UCloud also lists jobs whose create is under way, and which it may still drop.
    old = [job for job in jobs if now - job.created_at / 1000 > RECENT_SECONDS and job.specification.product.provider == name]
    # Most passes compare nothing.
    from ucloud_slurm.provider.identities import missing_jobs

    new = missing_jobs(provider, old, time.monotonic() + ASK_SECONDS)
    repair(provider, old, new)
    last.put("", "done", now)
    return True


def repair(provider: Provider, jobs: Sequence[Job], new: Mapping[str, NewJob]) -> None:
    """Enqueues an update of each job whose state UCloud has wrong; adopts jobs that are not in the database.

    A job is adopted for lookup only: Slurm is asked for its name before it fails.

    :param new: the rows of jobs that may be adopted (:func:`.identities.missing_jobs`)
    """
    with provider.store.writing():
        unmapped = [job.id for job in jobs if not _repair(provider, job, new.get(job.id))]
    for job_id in unmapped:
        log.warning("job %s: it is unknown here, and the mapping does not say as which user it would run", job_id)


def _repair(provider: Provider, job: Job, new: NewJob | None) -> bool:
    """False where the job is neither in the database nor may be adopted."""
    row = provider.jobs.get(job.id)
    if row is None and new is not None:
        provider.observations.adopt(new, provider.now())
    elif row is not None and (row.phase in (JobPhase.ENDED, JobPhase.REFUSED) or (row.state and row.state != job.status.state)):
        repeat_update(provider, row)
    return row is not None or new is not None


def repeat_update(provider: Provider, row: JobRow) -> None:
    """Enqueues the current state of a job once more."""
    if row.phase is JobPhase.REFUSED:
        update = JobUpdate(JobState.FAILURE, row.refused_why or "The job was refused.")
    elif row.state is JobState.RUNNING and provider.era.restarts_clock:
        provider.observations.report_run(row.id)
        return
    elif row.state is not None:
        update = JobUpdate(row.state, row.reason or "The job is in the queue.")
    else:
        return
    provider.outbox.repeat_update(row.id, update, provider.now())
