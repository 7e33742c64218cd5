"""Pending jobs: accepted jobs that no submission has begun for are submitted, or ended where they were stopped."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import partial

from ucloud_slurm.errors import CorePausedError, CoreRefusedError, CoreUnavailableError, Forbidden, Problem, StorageError
from ucloud_slurm.provider.cancellation import end_unsubmitted
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.hooks import decided
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.maintenance import WAITING, sentence
from ucloud_slurm.provider.rendering import RenderingUnavailableError
from ucloud_slurm.provider.submission import FolderError, build, may_submit, submit_accepted
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.maintenance import covering
from ucloud_slurm.system.executor import round_robin
from ucloud_slurm.system.journal import isolate_errors
from ucloud_slurm.system.request_id import Served, serving
from ucloud_slurm.ucloud.reports import JobUpdate
from ucloud_slurm.users.mapping import IdentityUnavailableError

log = logging.getLogger(__name__)

FOLDER = "folder"  # the kind of reason of a job that waits for its folder
MAX_BUILT = 100  # batch jobs in memory that wait for a thread


def submit_pending(provider: Provider, lookup: Lookup, rows: Iterable[JobRow]) -> None:
    """Submits accepted jobs, round robin between owners, and ends those that were stopped before.

    Ends early when the circuit breaker of Slurm opens. Jobs that are held wait, those of machines under maintenance, and
    those of users whose own breaker is open.
    """
    tasks: deque[Future[None]] = deque()
    pace, remaining = provider.config.slurm.submit_per_second, dict[str, int]()
    for row in round_robin(_to_submit(provider, rows), lambda row: row.owner):
        user = row.local_user
        if not provider.breaker.allows(SLURM, provider.now()):
            break
        if not may_submit(provider, user):
            continue
        if pace is not None:
            if user not in remaining:
                remaining[user] = provider.jobs.rate_limit_remaining(user, provider.now(), pace)
            remaining[user] -= 1
            if remaining[user] < 0:
                continue  # a job that must wait is not built
        with serving(_create(row)), isolate_errors(row.id, "submitting it"):
            submission = _build_pending(provider, lookup, row)
            if submission is not None:
                work = partial(_submit_pending, provider, row, submission)
                tasks.append(provider.executor.submit(row.owner, work))
        if len(tasks) > MAX_BUILT:
            tasks.popleft().result()
    for task in tasks:
        task.result()


def _to_submit(provider: Provider, rows: Iterable[JobRow]) -> Iterator[JobRow]:
    """Those that neither end nor wait."""
    maintenance = provider.maintenance.on(provider.now())
    for row in rows:
        if row.stop is not None:
            end_unsubmitted(provider, row)
        elif window := covering(maintenance, row.category, row.product):
            _record_waiting(provider, row, WAITING, f"The job waits. {sentence(window)}")
        elif row.held_at is None:
            yield row


def _submit_pending(provider: Provider, row: JobRow, submission: Submission) -> None:
    with serving(_create(row)), isolate_errors(row.id, "submitting it"):
        try:
            submit_accepted(provider, row.id, row.secret, submission)
        except FolderError as error:
            log.error("job %s: not submitted yet: %s", row.id, error)
            _record_waiting(provider, row, FOLDER, f"The job waits. {error.why}")


def _record_waiting(provider: Provider, row: JobRow, kind: str, status: str) -> None:
    """UCloud hears why a job waits, unless it knows."""
    if row.waits_for != kind:
        provider.observations.record_waiting(row.id, kind, row.reasons, JobUpdate(None, status), provider.now())


def _create(row: JobRow) -> Served | None:
    """The create that the job came with."""
    return None if row.request_id is None else Served(row.request_id, row.owner)


def _build_pending(provider: Provider, lookup: Lookup, row: JobRow) -> Submission | None:
    """Builds the batch job; None when it cannot be built yet or will never be."""
    try:
        identity = provider.mapping.identity(row.owner, row.project)
        if identity.person.user != row.local_user:
            raise Forbidden(f"You are not connected with {row.local_user} any more, as which this job was to run.")
        return decided(build(provider, lookup, row.job, identity), row.decision)
    except StorageError:
        raise
    except CorePausedError:
        return None
    except (
        IdentityUnavailableError,
        CoreUnavailableError,
        CoreRefusedError,
        RenderingUnavailableError,
        SchedulerUnavailableError,
    ) as error:
        log.warning("job %s: not submitted yet: %s", row.id, error)
    except Problem as error:
        provider.jobs.refused(row.id, error.status, error.why, provider.now())
    return None
