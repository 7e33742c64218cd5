"""Recovery of submissions with an unknown outcome.

The Slurm job is looked up by name and user in squeue and in sacct. The submission is retried only if neither has it
after a quiet time in which Slurm answered.
"""

import logging
from collections.abc import Iterable, Sequence

from ucloud_slurm.provider.cancellation import cancel_duplicate, end_unsubmitted
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.ucloud.reports import JobState, JobUpdate

log = logging.getLogger(__name__)

CLOCK_SKEW_SECONDS = 120  # that the clocks of this host and of slurmctld may differ
MAX_ATTEMPTS = 20


def recover_unknown(provider: Provider, rows: Sequence[JobRow], queue: Sequence[QueueRecord]) -> None:
    """Finds the Slurm jobs of submissions with an unknown outcome, or makes the jobs ready for another attempt.

    :param rows: all jobs in the state *unknown*
    :param queue: what squeue answered after the rows were read
    """
    now = provider.now()
    waiting = {row.name: row for row in rows}
    _adopt(provider, waiting, queue)
    if not waiting:
        return
    since = max(0.0, min(row.accepted_at for row in waiting.values()) - CLOCK_SKEW_SECONDS)
    try:
        runs = provider.scheduler.runs_named(waiting, {row.local_user for row in waiting.values()}, since)
    except SchedulerUnavailableError as error:
        log.warning("submissions with an unknown outcome cannot be looked up yet: %s", error)
        return
    _adopt(provider, waiting, runs)
    answering = provider.breaker.of(SLURM).answering_since
    for row in waiting.values():
        begun = max(row.attempted_at or 0.0, row.claimed_until or 0.0)
        if answering is None or now - max(begun, answering) < provider.config.jobs.quiet:
            continue
        _never_arrived(provider, row)


def _adopt(provider: Provider, waiting: dict[str, JobRow], records: Iterable[QueueRecord | RunRecord]) -> None:
    """Adopts the Slurm jobs that are found and removes ours from ``waiting``; of several the oldest stays."""
    found: dict[str, set[tuple[int, SlurmJobId]]] = {}  # time of submission and id, by name
    for record in records:
        row = waiting.get(record.name)
        if row and record.user == row.local_user and record.submitted >= row.accepted_at - CLOCK_SKEW_SECONDS:
            found.setdefault(record.name, set()).add((record.submitted, record.id))
    for name, candidates in found.items():
        row = waiting.pop(name)
        (submitted, first), *others = sorted(candidates)
        log.info("job %s: is Slurm job %d, found by its name", row.id, first)
        provider.jobs.submitted(row.id, first, submitted)
        for _, other in others:
            if other != first:
                cancel_duplicate(provider, row.id, other, row.name, row.local_user)


def _never_arrived(provider: Provider, row: JobRow) -> None:
    now = provider.now()
    if row.stop is not None:
        end_unsubmitted(provider, row)
    elif row.lookup_only:
        log.warning("job %s: UCloud has it; neither this provider nor Slurm knows it", row.id)
        update = JobUpdate(JobState.FAILURE, "The provider does not know this job.")
        provider.jobs.end_unsubmitted(row.id, update, now, used=None)
    elif row.attempts >= MAX_ATTEMPTS:
        provider.jobs.refused(row.id, 500, "The cluster took the job in no attempt; please tell the provider's support.", now)
    else:
        log.info("job %s: its submission never reached Slurm; it is retried", row.id)
        provider.jobs.release_claim([row.id], row.attempts)
        # Its create ended long ago, and may have been answered: a refusal from now on is a FAILURE of the job.
        provider.jobs.acknowledge([row.id], now)
