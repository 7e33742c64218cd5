"""jobs.provider.create: accept durably, submit now if Slurm is quick, answer within the deadline."""

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence, Set
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial

from ucloud_slurm.bridge import naming
from ucloud_slurm.bridge.wallets import nothing_left
from ucloud_slurm.errors import Conflict, PaymentRequired, Problem, Refused, StorageTrouble
from ucloud_slurm.provider.cancellation import cancel
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.rendering import NotRendered
from ucloud_slurm.provider.submission import FIRST, FolderTrouble, build, claimed_until, new_job, submit
from ucloud_slurm.slurm.errors import SchedulerAway
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.store.breaker import OPEN_SECONDS, SLURM
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.system.executor import round_robin
from ucloud_slurm.ucloud.channel import Payer
from ucloud_slurm.ucloud.errors import CoreAway, CoreRefused
from ucloud_slurm.ucloud.jobs import Job

log = logging.getLogger(__name__)

LEAST = 0.5  # seconds that are left when no submission is begun any more
ROLL_BACK = 0.7  # seconds for taking the jobs of a refused bulk back
LOOK_AGAIN = 0.02  # seconds


class Create:
    """One call of create: all of its jobs, or none."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._deadline = time.monotonic() + provider.config.jobs.submit_within
        self._paced = provider.config.slurm.submit_per_second is not None
        self._local_users: dict[str, str] = {}
        self._alone = False
        self._fingerprints: dict[str, str] = {}
        self._new: Sequence[Job] = ()  # the jobs to be written
        self._built: Set[str] = frozenset()  # those of them that can be submitted
        self._writing = threading.Lock()
        self._mine: set[str] | None = None  # the jobs that were written by this call; None until then
        self._claimed: set[str] = set()  # those that were claimed as they were written
        self._failure: BaseException | None = None  # why they could not be written
        self._lock = threading.Lock()
        self._over = False  # nobody gathers what came too late any more
        self._too_late: list[str] = []  # jobs whose turn came when nothing was begun any more

    def accept(self, jobs: Sequence[Job]) -> list[str]:
        """Accepts the jobs and submits what can be submitted in time.

        :returns: our id of each job
        :raises Problem: none of them is accepted
        """
        unique: dict[str, Job] = {}
        for number, job in enumerate(jobs):
            other = unique.setdefault(job.id, job)
            if other is not job and naming.fingerprint(other) != naming.fingerprint(job):
                raise Conflict(f"items[{number}].id: {job.id} is there twice with different contents.")
        self._alone = len(unique) == 1
        self._fingerprints = {job.id: naming.fingerprint(job) for job in unique.values()}
        before = self._came_before(list(unique))
        self._new = [job for job in unique.values() if job.id not in before]
        places = {job.id: number for number, job in reversed(list(enumerate(jobs)))}
        self._submit(self._build(places if len(jobs) > 1 else {}))
        if self._mine is None or len(self._mine) < len(unique):
            self._wait(list(unique))
        refused = self._provider.jobs.acknowledge(list(unique), self._provider.now())
        if refused:
            self._roll_back(list(unique), refused[0])
            place = f"items[{places[refused[0].id]}] (job {refused[0].id}): " if len(jobs) > 1 else ""
            raise _answer(place, refused[0])
        return [naming.provider_id(job.id) for job in jobs]

    def _came_before(self, ids: Collection[str]) -> Collection[str]:
        """Which of these jobs are known; the same id with other contents is refused."""
        before = self._provider.jobs.fingerprints(ids) if ids else {}
        for job_id, fingerprint in before.items():
            if fingerprint != self._fingerprints[job_id]:
                raise Conflict(f"Job {job_id} came before with another owner or specification.")
        return before

    def _build(self, places: Mapping[str, int]) -> dict[str, Submission]:
        """Validates the jobs before anything is written.

        Jobs of which UCloud must tell us more and has no time to, and those whose templates must wait for this host,
        are accepted as they are and built by the worker; what is wrong with them becomes their FAILURE.

        :param places: for a bulk: where each job stands in the request
        """
        lookup = Lookup(self._provider, self._deadline)
        mapping = self._provider.mapping
        built: dict[str, Submission] = {}
        for job in self._new:
            try:
                identity = mapping.identity(job.owner.created_by, job.owner.project)
                self._local_users[job.id] = identity.person.user
                check_funds(self._provider, job)
                built[job.id] = build(self._provider, lookup, job, identity)
            except Problem as problem:
                raise _named(problem, places[job.id]) if places else problem from None
            except (CoreAway, CoreRefused, NotRendered, SchedulerAway) as error:
                log.warning("job %s: accepted, and built later: %s", job.id, error)
        return built

    def _submit(self, submissions: Mapping[str, Submission]) -> None:
        """Has the jobs written down, and those submitted that are built, in turns."""
        owners = {job.id: job.owner.created_by for job in self._new if job.id in submissions}
        self._built = owners.keys()
        if self._paced:
            self._write(frozenset())  # each is claimed when its turn comes
        given: dict[Future[None], str] = {}
        try:
            for job_id in round_robin(owners, lambda job_id: owners[job_id]):
                work = partial(self._submit_in_time, job_id, submissions[job_id])
                given[self._provider.executor.submit(owners[job_id], work)] = job_id
            self._finish(given)
        except BaseException:
            for each in given:
                each.cancel()
            raise

    def _write(self, claimed: Set[str]) -> None:
        """Writes those of the jobs down that nobody else has written since we looked, unless it was done before.

        The first submission does it while its command starts. Where none comes to that the request does.

        :param claimed: those that are claimed for submission in the same transaction
        """
        provider, jobs = self._provider, self._new
        with self._writing:
            if self._failure is not None:
                raise self._failure
            if self._mine is not None:
                return
            mine: set[str] = set()  # and it stays so if they cannot be written
            try:
                now = provider.now()
                new = [new_job(job, self._fingerprints[job.id], self._local_users[job.id], now) for job in jobs]
                with provider.store.writing():
                    for username in {job.owner.created_by for job in jobs}:
                        provider.link_states.named(username, provider.now())
                    until = claimed_until(provider, self._left())
                    written = provider.jobs.accept(new, claimed=claimed, attempted_at=now, claimed_until=until)
                    self._came_before([job.id for job in jobs if job.id not in written])
                mine = written
            except BaseException as error:
                self._failure = error
                raise
            finally:
                self._claimed = mine.intersection(claimed)
                self._mine = mine

    def _finish(self, given: Mapping[Future[None], str]) -> None:
        """Waits as long as there is time. What has been sent by then goes on; the worker does the rest."""
        provider = self._provider
        done, late = wait(given, max(self._left(), 0.0))
        sent = self._mine is not None  # else it is not Slurm that takes long
        self._write(frozenset())
        taken_back = [given[each] for each in late if each.cancel()]
        if sent and len(taken_back) < len(late):
            provider.breaker.open(SLURM, "a submission takes long", provider.now(), OPEN_SECONDS)
        with self._lock:
            self._over = True
            owed = self._claimed & {*taken_back, *self._too_late}
        if owed:
            provider.jobs.release_claim(owed, FIRST)
        for each in done:
            each.result()

    def _submit_in_time(self, job_id: str, submission: Submission) -> None:
        if self._mine is not None and job_id not in self._mine:
            return  # another request has it, or none could be written
        if not self._may_submit():
            self._give_back(job_id)
            return
        try:
            submit(
                self._provider,
                job_id,
                submission,
                claimed=None if self._paced else partial(self._is_claimed, job_id),
                promises=self._alone,
            )
        except FolderTrouble as trouble:
            self._provider.jobs.refused(job_id, trouble.status, trouble.why, self._provider.now(), attempt=FIRST)
        except StorageTrouble as trouble:
            # Slurm may have the job by now: it stays as it is, and the worker looks it up.
            log.warning("job %s: what became of its submission could not be written: %s", job_id, trouble)

    def _give_back(self, job_id: str) -> None:
        """The turn came too late: the worker has it."""
        with self._lock:
            if not self._over:
                self._too_late.append(job_id)
                return
        if job_id in self._claimed:
            self._provider.jobs.release_claim([job_id], FIRST)

    def _is_claimed(self, job_id: str) -> bool:
        with suppress(Exception):  # the request raises it
            self._write(self._built)
        return job_id in self._claimed

    def _may_submit(self) -> bool:
        return self._left() > LEAST and self._provider.breaker.allows(SLURM, self._provider.now())

    def _wait(self, ids: Sequence[str]) -> None:
        """Waits for submissions that another request or the worker has begun."""
        while self._left() > 0 and self._provider.jobs.any_claimed(ids):
            time.sleep(LOOK_AGAIN)

    def _roll_back(self, ids: Sequence[str], refused: JobRow) -> None:
        """Takes the whole bulk back. What cannot be cancelled in time the worker cancels."""
        provider = self._provider
        until = time.monotonic() + ROLL_BACK
        why = f"Job {refused.id} of the same request: {refused.refused_why or 'refused'}"
        for row in provider.jobs.roll_back(ids, 400, why, provider.now()):
            left = until - time.monotonic()
            if left <= 0 or not cancel(provider, row, left):
                break

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
