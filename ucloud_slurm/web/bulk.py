"""A bulk: the jobs of one create, written in one transaction, submitted until a deadline, rolled back in one transaction."""

import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from ucloud_slurm.errors import Conflict, StorageError
from ucloud_slurm.provider.cancellation import AT_ONCE, cancel
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.submission import (
    FolderError,
    StartedSubmission,
    SubmissionOutcome,
    abandon,
    conclude,
    lease,
    may_submit,
    start,
    submit_accepted,
    with_nonce,
)
from ucloud_slurm.slurm.records import Submission
from ucloud_slurm.store.breaker import SLURM, person
from ucloud_slurm.store.job_rows import JobRow, NewJob
from ucloud_slurm.system import deadline
from ucloud_slurm.system.executor import round_robin
from ucloud_slurm.system.journal import isolate_errors
from ucloud_slurm.web.acceptance import check_acceptable

log = logging.getLogger(__name__)

START_SECONDS = 1.0  # until a runner must have taken the start of a submission, before rows are written
MIN_SUBMIT_SECONDS = 0.5  # with less left until the deadline no submission begins
CROWD_SHARE = 0.5  # of the time of a request; where it has waited for longer, none of its submissions begins
CROWD_QUEUE = 2  # submissions that wait for each thread; a further request is answered before its job is submitted
MOST_QUEUED = 200  # batch jobs in memory that wait for a thread; a further one is left to the worker
WINDOW_JOBS = 32  # that are claimed in one transaction
RELEASE_SECONDS = 0.2  # at least, in which other writers must let claims be released
ROLL_BACK_SECONDS = 0.7  # for cancelling the jobs of a refused bulk

Task = Future[SubmissionOutcome | None]  # None: it has not begun after all


class Bulk:
    """The jobs of one request, all of them accepted or none; a single job is a bulk of one.

    The thread of the request writes and claims; the threads of the executor submit. A job that has not begun when the
    time is over, or when Slurm has refused another one, is left accepted: its claim is released in one UPDATE.
    """

    def __init__(
        self,
        provider: Provider,
        new: Sequence[NewJob],
        submissions: Mapping[str, Submission],
        deadline: float,
        *,
        acknowledge: bool,
    ) -> None:
        """Nothing is done yet.

        :param new: the jobs, in the order of the request
        :param submissions: the batch jobs that can be submitted now, by id
        :param deadline: monotonic seconds; no waiting after that
        :param acknowledge: create is answered with success as soon as Slurm has the job, or no time is left to wait for it
        """
        self._provider = provider
        self._new = {job.id: job for job in new}
        self._submissions = submissions
        self._deadline = deadline
        self._acknowledge = acknowledge
        self._started: dict[str, StartedSubmission] = {}  # by job
        self._tasks: dict[Task, str] = {}  # not done
        self._done: SimpleQueue[Task] = SimpleQueue()
        self._claims: dict[str, int] = {}  # attempts that have not begun, by job
        self._stopped = False
        self._error: BaseException | None = None

    def submit(self) -> Collection[str]:
        """Writes the jobs and submits those that can be submitted in time.

        :returns: the jobs that were written; the others are another request's
        :raises Conflict: one of them came before with other contents, and nothing is written
        :raises NotAcceptedError: one of them is refused, and nothing is written
        :raises StorageError: nothing is written
        """
        if self._is_one_of_a_crowd():
            written = self._write()
            self._leave_to_threads(written)
            return written
        pace = self._provider.config.slurm.submit_per_second
        order = deque(round_robin(self._submissions, lambda job_id: self._new[job_id].owner))
        # Where a pace is set, it is asked for at each claim.
        first = dict.fromkeys(_next(order, WINDOW_JOBS) if pace is None else (), 1)
        try:
            expires_at, send_by = lease(self._provider, self._left())
            self._start(first)
            written = self._write(first, expires_at)
            self._claims = {job_id: attempt for job_id, attempt in first.items() if job_id in written}
            self._queue(self._claims, send_by)
            self._submit_in_windows(deque(job_id for job_id in order if job_id in written), pace)
        finally:
            self._finish()
        if self._error is not None:
            raise self._error
        return written

    def _is_one_of_a_crowd(self) -> bool:
        """Whether so many requests came that waiting for Slurm would keep the threads from those that come later."""
        left, config, executor = self._left(), self._provider.config, self._provider.executor
        if left < MIN_SUBMIT_SECONDS or not self._acknowledge:
            return left < MIN_SUBMIT_SECONDS
        most = CROWD_QUEUE * config.slurm.submit_at_once
        late = left < CROWD_SHARE * config.jobs.submit_within
        return late or any(executor.ahead(job.owner) >= most for job in self._new.values())

    def _leave_to_threads(self, written: Collection[str]) -> None:
        """Queues the job of a single create, which is acknowledged; the worker submits what is not queued or fails."""
        for job_id in written if self._acknowledge else ():
            job, submission = self._new[job_id], self._submissions.get(job_id)
            if submission is not None and self._provider.executor.ahead(job.owner) < MOST_QUEUED:
                with suppress(RuntimeError):  # no thread
                    self._provider.executor.submit(job.owner, partial(_submit_later, self._provider, job, submission))

    def _write(self, claimed: Collection[str] = (), expires_at: float | None = None) -> Collection[str]:
        """Writes the jobs; create is acknowledged with them where Slurm is not waited for."""
        provider, now = self._provider, self._provider.now()
        at_once = now if self._acknowledge and expires_at is None else None
        fingerprints = {job.id: job.fingerprint for job in self._new.values()}
        with provider.store.writing():
            check_acceptable(provider, [*self._new.values()], lambda: check_known(provider, fingerprints))
            for owner in {job.owner for job in self._new.values()}:
                provider.link_states.named(owner, now)
            written = provider.jobs.accept(
                self._new.values(), claimed=claimed, attempted_at=now, claimed_until=expires_at, acknowledged_at=at_once
            )
            # Another request may have written some of them meanwhile.
            check_known(provider, {job_id: text for job_id, text in fingerprints.items() if job_id not in written})
        return written

    def _submit_in_windows(self, waiting: deque[str], pace: float | None) -> None:
        """Claims and submits window by window, until the time is over or one submission has failed."""
        provider, until = self._provider, self._deadline - MIN_SUBMIT_SECONDS
        at_once = provider.config.slurm.submit_at_once
        window = WINDOW_JOBS if pace is None else at_once  # what is claimed counts for the pace
        while (waiting or self._tasks) and not self._stopped and time.monotonic() < until:
            if waiting and len(self._tasks) <= at_once + window // 2:
                expires_at, send_by = lease(provider, self._left())
                try:
                    ids, within = _next(waiting, window), until - time.monotonic()
                    claims = provider.jobs.claim(ids, provider.now(), expires_at, pace, within=within)
                except StorageError as error:
                    log.warning("jobs are left to the worker, because they cannot be claimed: %s", error)
                    waiting.clear()
                    continue
                self._claims |= claims
                if time.monotonic() < until:
                    self._queue(claims, send_by)
            elif not self._take_done(until):
                break

    def _queue(self, claims: Mapping[str, int], send_by: float) -> None:
        for job_id, attempt in claims.items():
            task = self._provider.executor.submit(self._new[job_id].owner, partial(self._conclude, job_id, attempt, send_by))
            self._tasks[task] = job_id
            task.add_done_callback(self._done.put)

    def _start(self, claims: Mapping[str, int]) -> None:
        """Has Slurm's command of the first job load while the rows are written; those of others load beside one another.

        It is not waited for, but where a busy runner does not take it. Where it would have to wait for a thread it is not
        started: until then it would keep a program of its user's.
        """
        if not claims or not self._provider.executor.is_free():
            return
        job_id, attempt = next(iter(claims.items()))
        submission = self._attempt(job_id, attempt)
        with deadline.ending(time.monotonic() + START_SECONDS):
            started = start(self._provider, submission) if self._may_submit(submission) else None
        if started is not None:
            self._started[job_id] = started

    def _attempt(self, job_id: str, attempt: int) -> Submission:
        return with_nonce(self._submissions[job_id], self._new[job_id].secret, attempt)

    def _conclude(self, job_id: str, attempt: int, send_by: float) -> SubmissionOutcome | None:
        provider, submission, allowed = self._provider, self._attempt(job_id, attempt), False
        started = self._started.pop(job_id, None)
        try:
            allowed = self._left() >= MIN_SUBMIT_SECONDS and (started is not None or self._may_submit(submission))
        finally:
            if not allowed:
                abandon(started)
        try:
            if not allowed:
                provider.jobs.release_claim([job_id], attempt)
                return None
            return conclude(provider, job_id, submission, attempt, send_by, started, acknowledge=self._acknowledge)
        except FolderError as error:
            provider.jobs.refused(job_id, error.status, error.why, provider.now(), attempt=attempt)
            return SubmissionOutcome.REFUSED
        except StorageError as error:
            # Slurm may have the job by now: its row stays as it is, and the worker looks the job up.
            log.warning("job %s: the outcome of its submission could not be written: %s", job_id, error)
            return SubmissionOutcome.UNKNOWN

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _may_submit(self, submission: Submission) -> bool:
        with suppress(StorageError):
            return may_submit(self._provider, submission.user)
        return False

    def _take_done(self, until: float) -> bool:
        """Waits until then, in monotonic seconds, for the next task that is done; False when there was none."""
        try:
            task = self._done.get(timeout=max(until - time.monotonic(), 0.0))
        except Empty:
            return False
        job_id = self._tasks.pop(task)
        if not task.cancelled():
            self._claims.pop(job_id, None)  # it is released, its outcome is in its row, or it is looked up
            self._error = self._error or task.exception()
            self._stopped |= (None if task.exception() else task.result()) in (None, SubmissionOutcome.REFUSED)
        return True

    def _finish(self) -> None:
        """Cancels what has not begun, waits for the rest until the deadline, and releases the claims that remain."""
        begun = {job_id for task, job_id in self._tasks.items() if not task.cancel()}
        for job_id in self._started.keys() - begun:
            abandon(self._started.pop(job_id))
        while self._tasks and self._take_done(self._deadline):
            pass
        provider = self._provider
        unsent = {job_id: self._claims[job_id] for job_id in self._claims.keys() - set(self._tasks.values())}
        if not unsent and not self._tasks:
            return
        try:
            with provider.store.writing(within=max(self._left(), RELEASE_SECONDS)):
                for attempt in set(unsent.values()):
                    provider.jobs.release_claim([job_id for job_id in unsent if unsent[job_id] == attempt], attempt)
                for user in {self._submissions[job_id].user for job_id in self._tasks.values()}:
                    part = SLURM if user == provider.account else person(user)
                    provider.breaker.open(part, "a submission takes long", provider.now())
        except StorageError as error:
            log.warning("the claims of %d jobs expire, because they cannot be released: %s", len(unsent), error)


def _submit_later(provider: Provider, job: NewJob, submission: Submission) -> None:
    with isolate_errors(job.id, "submitting it"):
        try:
            submit_accepted(provider, job.id, job.secret, submission)
        except StorageError as error:
            log.warning("job %s: left to the worker: %s", job.id, error)


def check_known(provider: Provider, fingerprints: Mapping[str, str]) -> Collection[str]:
    """The ids of those of these jobs that came before.

    :param fingerprints: of their contents (:func:`.naming.fingerprint`), by id
    :raises Conflict: a job came before with other contents
    """
    known = provider.jobs.fingerprints(fingerprints) if fingerprints else {}
    for job_id, fingerprint in known.items():
        if fingerprint != fingerprints[job_id]:
            raise Conflict(f"Job {job_id} came before with another owner or specification.")
    return known


def roll_back(provider: Provider, ids: Collection[str], refused: JobRow) -> None:
    """Rolls back a bulk that contains a refused job: in one transaction, then with scancel while there is time.

    The worker cancels what is left. A job that another request has acknowledged stays.
    """
    until = time.monotonic() + deadline.left(ROLL_BACK_SECONDS)
    why = f"Job {refused.id} of the same request: {refused.refused_why or 'refused'}"
    jobs = provider.jobs.roll_back(ids, 400, why, provider.now())
    for first in range(0, len(jobs), AT_ONCE):
        seconds = until - time.monotonic()
        if seconds <= 0 or not cancel(provider, jobs[first : first + AT_ONCE], seconds):
            break


def _next(waiting: deque[str], window: int) -> list[str]:
    return [waiting.popleft() for _ in range(min(window, len(waiting)))]
