"""The Scheduler that uses pyslurm where it is faster than Slurm's commands, and the commands for everything else."""

import importlib.util
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ucloud_slurm.slurm import errors
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.complaints import Complaints
from ucloud_slurm.slurm.pyslurm import translation
from ucloud_slurm.slurm.pyslurm.process import AnswerLostError, NotSentError, PySlurmPool, PySlurmProcess
from ucloud_slurm.slurm.pyslurm.translation import UnsupportedError
from ucloud_slurm.slurm.records import QueueRecord, SlurmJobId, Submission
from ucloud_slurm.slurm.sbatch import Sbatch, read_id
from ucloud_slurm.slurm.scheduler import Changes, PendingSubmission
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.ipc import Message
from ucloud_slurm.system.process import Start

log = logging.getLogger(__name__)

PROCESSES = 2  # slurmctld accepts one request while it works on another
CALLS_BEFORE_START = 3  # a pass of the worker with fewer calls ends before the process would be ready
LEAST_SECONDS = 1.0  # with less pyslurm is not asked
SHARE = 0.5  # of a call's time for pyslurm; the rest is for the command that replaces it


class PySlurm(Commands):
    """Submits jobs of its own account, reads and changes single jobs through pyslurm; the rest as :class:`Commands`.

    Lists are read with the commands, which are faster, and so are runs, which pyslurm cannot list. The processes of
    pyslurm are started in the background; no call waits for their start. Safe for several threads.
    """

    def __init__(
        self,
        folder: Path,
        conf: Path,
        timeout: float,
        complaints: Complaints | None = None,
        *,
        level: int = logging.INFO,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """See :class:`Commands`.

        :param level: of the log line that says that pyslurm cannot be used
        :param now: monotonic seconds, for the backoff between starts of the process
        """
        super().__init__(folder, conf, timeout, complaints)
        self._own = own_account()
        self._processes = PySlurmPool(lambda: PySlurmProcess(folder, self._env, level=level, now=now), PROCESSES)
        self._calls = 0
        spec = importlib.util.find_spec("pyslurm")
        self._file = spec.origin if spec else None

    @property
    def reason(self) -> str | None:
        """Why pyslurm is not used at the moment, None if it is."""
        return self._processes.first.reason

    def begin(self) -> None:
        super().begin()
        self._calls = CALLS_BEFORE_START
        self._processes.first.begin()

    def ready(self, within: float) -> bool:
        """Waits until pyslurm can be used.

        :param within: seconds
        :returns: whether it can
        """
        self._calls = CALLS_BEFORE_START
        return self._processes.first.ready(within)

    def close(self) -> None:
        super().close()
        self._processes.close()

    def start(self, submission: Submission, as_user: Start) -> PendingSubmission:
        """See :class:`Scheduler`.

        Slurm lets nobody but root submit for another user: the programs that act as these do (:mod:`.own_pyslurm`).
        """
        if submission.user != self._own:
            sbatch = self._sbatch(submission, as_user, self._by_library(submission))
            return _OthersSubmission(self, sbatch, lambda: self._sbatch(submission, as_user))
        if self._is_worth_it():
            return _PySlurmSubmission(self, submission, lambda: self._sbatch(submission, as_user))
        return super().start(submission, as_user)

    def _by_library(self, submission: Submission) -> Message | None:
        """What :mod:`ucloud_slurm.users.own_pyslurm` submits; None where only sbatch can."""
        if self._file is None or not self._processes.usable():
            return None
        try:
            description = translation.description(submission)
        except UnsupportedError as error:
            log.debug("sbatch submits %s: %s", submission.name, error)
            return None
        del description["script"]
        return {"file": self._file, "description": description}

    def ask_to_submit(self, submission: Submission, within: float) -> Message | None:
        """Has pyslurm submit a job of this process's own account.

        :param within: seconds
        :returns: its answer; None when pyslurm has not been asked
        :raises OutcomeUnknownError: there may be a job or not
        """
        within = min(within, self._timeout)
        try:
            message = {"call": "submit", "description": translation.description(submission)}
            answer = self._processes.ask(message, waits=within * SHARE, within=within)
        except UnsupportedError as error:
            log.debug("sbatch submits %s: %s", submission.name, error)
            return None
        except NotSentError as error:
            log.debug("sbatch submits %s: pyslurm was not asked: %s", submission.name, error)
            return None
        except AnswerLostError as error:
            self.count("submit")
            raise errors.OutcomeUnknownError(f"pyslurm gave no answer: {error}") from None
        self.count("submit")
        return answer

    def job(self, job: SlurmJobId, within: float) -> QueueRecord | None:
        until = time.monotonic() + within
        try:
            return self._load(job, within)
        except _UseCommandsError as error:
            return super().job(job, error.left(until))

    def _load(self, job: SlurmJobId, within: float) -> QueueRecord | None:
        answer = self._ask_process("job", job, within, attributes=[name.name for name in translation.JOB])
        if answer.get("errno") == translation.UNKNOWN_JOB:
            return None
        if "done" not in answer:
            raise _UseCommandsError(translation.text(answer))
        try:
            found = translation.record(answer["done"])
        except UnsupportedError as error:
            raise _UseCommandsError(str(error)) from None
        if found.id != job:
            raise _UseCommandsError("it is one of a job array")
        return found

    def cancel(self, jobs: Collection[SlurmJobId], within: float) -> Mapping[SlurmJobId, errors.ActionRefusedError]:
        until = time.monotonic() + within
        others = [job for job in jobs if not self._cancelled(job, until - time.monotonic())]
        return super().cancel(others, _left(until, "others of these jobs were cancelled")) if others else {}

    def _cancelled(self, job: SlurmJobId, within: float) -> bool:
        try:
            # The module reads the error number that libslurm left, maybe after an earlier call, so that an error says
            # nothing here; scancel decides.
            return "done" in self._ask_process("cancel", job, within)
        except _UseCommandsError:
            return False

    def changing(self) -> AbstractContextManager[Changes]:
        return nullcontext(self) if self.reason is None else super().changing()

    def set_time_limit(self, job: SlurmJobId, minutes: int, within: float) -> None:
        until = time.monotonic() + within
        try:
            if minutes < 1:
                raise _UseCommandsError("it is no limit")
            self._act("time", job, within, time_limit=translation.clock(minutes))
        except _UseCommandsError as error:
            super().set_time_limit(job, minutes, error.left(until))

    def suspend(self, job: SlurmJobId, within: float) -> None:
        self._act_or("suspend", job, within, super().suspend)

    def resume(self, job: SlurmJobId, within: float) -> None:
        self._act_or("resume", job, within, super().resume)

    def hold(self, job: SlurmJobId, within: float) -> None:
        self._act_or("hold", job, within, super().hold)

    def release(self, job: SlurmJobId, within: float) -> None:
        self._act_or("release", job, within, super().release)

    def _act_or(self, call: str, job: SlurmJobId, within: float, command: Callable[[SlurmJobId, float], None]) -> None:
        until = time.monotonic() + within
        try:
            self._act(call, job, within)
        except _UseCommandsError as error:
            command(job, error.left(until))

    def _act(self, call: str, job: SlurmJobId, within: float, **more: object) -> None:
        """:raises _UseCommandsError: it may have been done or not; it is idempotent"""
        answer = self._ask_process(call, job, within, **more)
        if "done" in answer:
            return
        if translation.refused(answer):
            raise errors.ActionRefusedError(f"{translation.text(answer)} for job {job}")
        raise _UseCommandsError(translation.text(answer))

    def _ask_process(self, call: str, job: SlurmJobId, within: float, **more: object) -> Message:
        if not self._is_worth_it():
            raise _UseCommandsError("few calls are made with the commands")
        limit = min(within, self._timeout) * SHARE
        if limit < LEAST_SECONDS:
            raise _UseCommandsError("the time is so short that a slow controller would have the process killed")
        try:
            answer = self._processes.ask({"call": call, "id": job, **more}, waits=limit * SHARE, within=limit)
        except (NotSentError, AnswerLostError) as error:
            raise _UseCommandsError(str(error)) from None
        self.count(call)
        return answer

    def _is_worth_it(self) -> bool:
        self._calls += 1
        return self._calls >= CALLS_BEFORE_START

    def count(self, call: str) -> None:
        """Counts a call of pyslurm's."""
        with self._lock:
            self.counts[f"pyslurm {call}"] += 1


class _UseCommandsError(Exception):
    """The call is to be made with the command."""

    def left(self, until: float) -> float:
        """The seconds that are left for the command.

        :raises SchedulerUnavailableError: there are none
        """
        return _left(until, str(self))


def _left(until: float, why: str) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise errors.SchedulerUnavailableError(f"pyslurm gave no answer in time: {why}")
    return left


class _PySlurmSubmission:
    """A submission through pyslurm, or through sbatch where pyslurm has not been asked. See :class:`Scheduler`."""

    def __init__(self, slurm: PySlurm, submission: Submission, sbatch: Callable[[], PendingSubmission]) -> None:
        self._slurm = slurm
        self._submission = submission
        self._sbatch = sbatch

    def send(self, within: float) -> SlurmJobId:
        """See :class:`PendingSubmission`. What may have reached pyslurm is never given to sbatch as well."""
        until = time.monotonic() + within
        answer = self._slurm.ask_to_submit(self._submission, within)
        # A refusal made no job. The controller explains it to sbatch, and pyslurm does not pass that on.
        if answer is not None and (not translation.refused(answer) or until <= time.monotonic()):
            return translation.submitted(answer)
        return self._sbatch().send(until - time.monotonic())

    def abandon(self) -> None:
        """See :class:`PendingSubmission`. Nothing has been prepared."""


class _OthersSubmission:
    """A submission by the program that acts as its user, through pyslurm where it has that. See :class:`Scheduler`."""

    def __init__(self, slurm: PySlurm, first: Sbatch, again: Callable[[], Sbatch]) -> None:
        self._slurm = slurm
        self._first = first
        self._again = again

    def send(self, within: float) -> SlurmJobId:
        """See :class:`PendingSubmission`."""
        until = time.monotonic() + within
        done = self._first.finish(within)
        if done.answer is None:
            return read_id(done)
        self._slurm.count("submit as user")
        if not translation.refused(done.answer) or until <= time.monotonic():
            return translation.submitted(done.answer)
        return self._again().send(until - time.monotonic())  # it is sbatch that the controller explains a refusal to

    def abandon(self) -> None:
        """See :class:`PendingSubmission`."""
        self._first.abandon()
