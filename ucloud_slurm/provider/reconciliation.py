"""Comparing what UCloud thinks of our jobs with what we know: which it has, and what it has wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ucloud_slurm.bridge import naming
from ucloud_slurm.errors import Problem
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.ucloud.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.mapping import IdentityUnavailableError

if TYPE_CHECKING:
    from ucloud_slurm.ucloud.jobs import Job

log = logging.getLogger(__name__)

NOBODY = "nobody"  # has no job of ours: what is looked for as theirs is not found
FORGOTTEN = 30.0  # seconds after which a job that UCloud does not have has been given up by it: it waits for 5
YOUNG = 60.0  # seconds of age in which a job of UCloud's may still be on its way to us
OPEN = (JobState.IN_QUEUE, JobState.RUNNING, JobState.SUSPENDED)
GIVEN_UP = "UCloud does not have this job: its create took too long, or its answer was lost."


def confirm(provider: Provider) -> bool:
    """Finds out which new jobs UCloud has; what it has given up is withdrawn from the cluster.

    :returns: False when UCloud could not be reached
    """
    if not provider.era.has_check_existence:
        return True
    now = provider.now()
    while rows := provider.observations.unconfirmed(now):
        try:
            there = provider.core.existing([row.id for row in rows])
        except (CoreUnavailableError, CoreRefusedError) as error:
            log.warning("UCloud does not say which jobs it has: %s", error)
            return False
        provider.observations.confirmed([row.id for row, has in zip(rows, there, strict=True) if has], now)
        missing = [row for row, has in zip(rows, there, strict=True) if not has]
        for row in missing:
            if now - row.accepted_at >= FORGOTTEN:
                log.warning("job %s: UCloud does not have it; it is withdrawn", row.id)
                provider.observations.forgotten(row.id, GIVEN_UP, now)
        if any(now - row.accepted_at < FORGOTTEN for row in missing):
            break  # the others are asked about at the next pass
    return True


def reconcile(provider: Provider) -> bool:
    """From time to time, where UCloud does not ask for it: tells it what it has wrong about the jobs that it has open.

    :returns: False when UCloud could not be reached
    """
    if provider.era.asks_to_verify:
        return True
    now, done = provider.now(), Cache(provider.store, "compared", provider.config.ucloud.compare_every)
    if done.get("", now) is not None:
        return True
    try:
        jobs = [job for state in OPEN for job in provider.core.jobs(state)]
    except (CoreUnavailableError, CoreRefusedError) as error:
        log.warning("UCloud does not say how its jobs stand: %s", error)
        return False
    name = provider.config.provider.id
    # UCloud lists jobs too whose create is under way, and that it may still give up.
    old = [job for job in jobs if now - job.created_at / 1000 > YOUNG and job.specification.product.provider == name]
    provider.observations.confirmed([job.id for job in old], now)
    # One by one: a program of the site may be asked whose a job is, and requests must be able to write meanwhile.
    for job in old:
        repair(provider, job)
    done.put("", "done", now)
    return True


def repair(provider: Provider, job: Job) -> None:
    """Tells UCloud what it has wrong about a job."""
    row = provider.jobs.get(job.id)
    if row is None:
        try:
            adopt(provider, job)
        except IdentityUnavailableError:
            log.warning("job %s: it is not known here, and nobody can tell whose account it would run as", job.id)
    elif row.phase in (JobPhase.ENDED, JobPhase.REFUSED) or (row.state and row.state != job.status.state):
        repeat_update(provider, row)


def repeat_update(provider: Provider, row: JobRow) -> None:
    """Tells UCloud once more how a job stands."""
    if row.phase is JobPhase.REFUSED:
        update = JobUpdate(JobState.FAILURE, row.refused_why or "The job was refused.")
    elif row.state is not None:
        update = JobUpdate(row.state, row.reason or "The job is in the queue.")
    else:
        return
    provider.outbox.repeat_update(row.id, update, provider.now())


def adopt(provider: Provider, job: Job, stop: Stop | None = None) -> None:
    """A job that we do not know: Slurm is asked for it by name before UCloud is told that it is gone.

    :raises IdentityUnavailableError: the mapping does not say at the moment which user the job runs as
    """
    # Building jobs takes long to load, and most passes adopt none.
    from ucloud_slurm.provider.submission import new_job

    now = provider.now()
    try:
        local_user = provider.mapping.identity(job.owner.created_by, job.owner.project).person.user
    except IdentityUnavailableError:
        raise
    except Problem:
        local_user = NOBODY
    accepted_at = min(now, job.created_at / 1000)
    # Its create may have come meanwhile: then its row stays.
    provider.observations.adopt(new_job(job, naming.fingerprint(job), local_user, accepted_at), now, stop)
