"""jobs.provider.create: accept durably, submit now if Slurm is quick, answer within the deadline."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.locks import nothing_left
from ucloud_slurm.errors import Conflict, PaymentRequired, Problem, Refused, StorageTrouble
from ucloud_slurm.provider import Provider
from ucloud_slurm.rendering import NotRendered
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.slurm.scheduler import SchedulerAway
from ucloud_slurm.store.health import SLURM
from ucloud_slurm.store.jobs import JobRow, Phase, Stop
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.trouble import CoreAway, CoreRefused
from ucloud_slurm.worker.accept import row_of
from ucloud_slurm.worker.catalogue import Catalogue
from ucloud_slurm.worker.stop import cancel
from ucloud_slurm.worker.submit import FolderTrouble, build, submit

log = logging.getLogger(__name__)

LEAST = 0.5  # seconds that are left when no submission is begun any more
ROLL_BACK = 0.7  # seconds for taking the jobs of a refused bulk back
LOOK_AGAIN = 0.02  # seconds
AT_ONCE = 4  # submissions of one bulk that are under way at a time


class Create:
    """One call of create: all of its jobs, or none."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._deadline = time.monotonic() + provider.config.jobs.submit_within
        self._local_users: dict[str, str] = {}

    def accept(self, jobs: Sequence[Job]) -> list[str]:
        """Accepts the jobs and submits what can be submitted in time.

        :returns: our id of each job
        :raises Problem: none of them is accepted
        """
        unique: dict[str, Job] = {}
        for number, job in enumerate(jobs):
            other = unique.setdefault(job.id, job)
            if naming.fingerprint(other) != naming.fingerprint(job):
                raise Conflict(f"items[{number}].id: {job.id} is there twice with different contents.")
        new = [job for job in unique.values() if not self._known(job)]
        places = {job.id: number for number, job in reversed(list(enumerate(jobs)))}
        submissions = self._build(new, places if len(jobs) > 1 else {})
        self._write(new)
        self._submit_all(submissions)
        self._wait(list(unique))
        refused = self._provider.jobs.promise(list(unique), self._provider.now())
        if refused:
            self._roll_back(list(unique), refused[0])
            place = f"items[{places[refused[0].id]}] (job {refused[0].id}): " if len(jobs) > 1 else ""
            raise _answer(place, refused[0])
        return [naming.provider_id(job.id) for job in jobs]

    def _known(self, job: Job) -> bool:
        """Whether the job came before; the same id with other contents is refused."""
        row = self._provider.jobs.get(job.id)
        if row is None:
            return False
        if row.fingerprint != naming.fingerprint(job):
            raise Conflict(f"Job {job.id} came before with another owner or specification.")
        return True

    def _build(self, jobs: Sequence[Job], places: Mapping[str, int]) -> dict[str, Submission]:
        """Validates the jobs before anything is written.

        Jobs of which UCloud must tell us more and has no time to, and those whose templates must wait for this host,
        are accepted as they are and built by the worker; what is wrong with them becomes their FAILURE.

        :param places: for a bulk: where each job stands in the request
        """
        catalogue = Catalogue(self._provider, self._deadline)
        mapping = self._provider.mapping
        built: dict[str, Submission] = {}
        for job in jobs:
            try:
                identity = mapping.identity(job.owner.created_by, job.owner.project)
                self._local_users[job.id] = identity.person.user
                check_funds(self._provider, job)
                built[job.id] = build(self._provider, catalogue, job, identity)
            except Problem as problem:
                raise _named(problem, places[job.id]) if places else problem from None
            except (CoreAway, CoreRefused, NotRendered, SchedulerAway) as error:
                log.warning("job %s: accepted, and built later: %s", job.id, error)
        return built

    def _write(self, jobs: Sequence[Job]) -> None:
        provider = self._provider
        with provider.store.writing():
            for username in {job.owner.created_by for job in jobs}:
                provider.connections.named(username, provider.now())
            # Somebody may have written the same job since we looked.
            provider.jobs.accept(
                [row_of(provider, job, self._local_users[job.id]) for job in jobs if not self._known(job)]
            )

    def _submit_all(self, submissions: Mapping[str, Submission]) -> None:
        if len(submissions) < 2:
            for job_id, submission in submissions.items():
                self._submit(job_id, submission)
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(submissions)), "submit") as pool:
            for done in [pool.submit(self._submit, job_id, each) for job_id, each in submissions.items()]:
                done.result()

    def _submit(self, job_id: str, submission: Submission) -> None:
        left = self._left()
        if left > LEAST and self._provider.health.may_ask(SLURM, self._provider.now()):
            try:
                submit(self._provider, job_id, submission, left)
            except FolderTrouble as trouble:
                self._provider.jobs.refused(job_id, trouble.status, trouble.why, self._provider.now())
            except StorageTrouble as trouble:
                # Slurm may have the job by now: it stays as it is, and the worker looks it up.
                log.warning("job %s: what became of its submission could not be written: %s", job_id, trouble)

    def _wait(self, ids: Sequence[str]) -> None:
        """Waits for submissions that another request or the worker has begun."""
        while self._left() > 0:
            rows = [self._provider.jobs.get(job_id) for job_id in ids]
            if not any(row and row.phase is Phase.SUBMITTING and row.claimed_until is not None for row in rows):
                return
            time.sleep(LOOK_AGAIN)

    def _roll_back(self, ids: Sequence[str], refused: JobRow) -> None:
        """Takes the whole bulk back. What cannot be cancelled in time the worker cancels."""
        provider = self._provider
        until = time.monotonic() + ROLL_BACK
        why = refused.refused_why or "refused"
        for job_id in ids:
            row = provider.jobs.get(job_id)
            if row is not None and row.phase is not Phase.REFUSED and row.promised_at is None:
                provider.jobs.rolled_back(job_id, 400, f"Job {refused.id} of the same request: {why}", provider.now())
                after = provider.jobs.get(job_id)
                left = until - time.monotonic()
                live = after is not None and after.phase is Phase.LIVE and after.stop is Stop.ROLLED_BACK
                if after is not None and live and left > 0 and not cancel(provider, after, left):
                    until = 0.0

    def _left(self) -> float:
        return self._deadline - time.monotonic()


def check_funds(provider: Provider, job: Job) -> None:
    """Refuses a job that nobody can pay.

    :raises PaymentRequired: the wallet that would pay is locked
    """
    payer = Payer.of(job.owner.created_by, job.owner.project, job.specification.product.category)
    if provider.era.has_channel and provider.wallets.locked(payer):
        raise PaymentRequired(nothing_left(payer))


def _answer(place: str, refused: JobRow) -> Problem:
    answer = Problem(place + (refused.refused_why or "refused"))
    answer.status = refused.refused_status or 400
    return answer


def _named(problem: Problem, number: int) -> Problem:
    named = Refused(f"items[{number}]: {problem.why}", error_code=problem.error_code)
    named.status = problem.status
    return named
