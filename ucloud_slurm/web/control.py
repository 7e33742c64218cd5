"""extend, suspend and unsuspend: changes of jobs that Slurm has, all of a request or none."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from ucloud_slurm.bridge import time_limit
from ucloud_slurm.bridge.errors import action
from ucloud_slurm.errors import Conflict, NotFound, Problem, Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identity import find
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.slurm.errors import ActionRefusedError, SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.slurm.scheduler import Changes
from ucloud_slurm.slurm.states import Phase as SlurmPhase
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.breaker import FAIR_TRIAL_SECONDS, SLURM
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.jobs import ExtendItem, Job, JobItem

log = logging.getLogger(__name__)


class _Item(Protocol):
    @property
    def job(self) -> Job: ...


ItemT = TypeVar("ItemT", bound=_Item)
NOT_YET = "The job has not reached the cluster yet; please try again in a minute."


class Control(ABC, Generic[ItemT]):
    """One request. All jobs are checked before the first one is changed; a refusal half-way rolls the changes back."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._begun = time.monotonic()
        self._deadline = provider.deadline()
        self._slurm: Changes = provider.scheduler

    def bulk(self, items: Sequence[ItemT]) -> None:
        """Changes all jobs.

        :raises Problem: for the first refused job; the others stay as they were
        :raises SchedulerUnavailableError: Slurm does not answer
        """
        if not self._provider.breaker.allows(SLURM, self._provider.now()):
            raise SchedulerUnavailableError("Slurm did not answer a moment ago")
        rows: list[JobRow] = []
        for item in items:
            with _named(items, item):
                rows.append(_live(self._provider, item.job))
        try:
            with self._provider.scheduler.changing() as self._slurm:
                self._change(items, rows)
        except SchedulerUnavailableError as error:
            if time.monotonic() - self._begun >= FAIR_TRIAL_SECONDS:
                self._provider.breaker.record_failure(SLURM, str(error), self._provider.now())
            raise

    def _change(self, items: Sequence[ItemT], rows: Sequence[JobRow]) -> None:
        records = find(self._provider, rows, self.left())
        found: list[tuple[ItemT, JobRow, QueueRecord]] = []
        done: list[tuple[ItemT, JobRow, QueueRecord]] = []
        for item, row in zip(items, rows, strict=True):
            with _named(items, item):
                found.append((item, row, _unended(records.get(row.id))))
                self.check(*found[-1])
        try:
            for each in found:
                with _named(items, each[0]):
                    self._act(*each)
                done.append(each)
        except Problem:
            self._undo(done)
            raise

    def left(self) -> float:
        """Seconds until the answer must be given.

        :raises SchedulerUnavailableError: no time is left
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise SchedulerUnavailableError("Slurm answers too slowly")
        return left

    def _act(self, item: ItemT, row: JobRow, record: QueueRecord) -> None:
        try:
            self.act(item, row, record)
        except ActionRefusedError as refusal:
            log.warning("job %s: Slurm refuses the change of Slurm job %d: %s", row.id, record.id, refusal.reason)
            raise action(refusal.reason) from None

    def _undo(self, done: Sequence[tuple[ItemT, JobRow, QueueRecord]]) -> None:
        for item, row, record in reversed(done):
            try:
                self.undo(item, row, record)
            except (ActionRefusedError, SchedulerUnavailableError) as error:
                log.warning("job %s: its change could not be rolled back: %s", row.id, error)

    @abstractmethod
    def check(self, item: ItemT, row: JobRow, record: QueueRecord) -> None:
        """Refuses a job that cannot be changed.

        :raises Problem: says why
        """

    @abstractmethod
    def act(self, item: ItemT, row: JobRow, record: QueueRecord) -> None:
        """Changes one job. Idempotent."""

    @abstractmethod
    def undo(self, item: ItemT, row: JobRow, record: QueueRecord) -> None:
        """Rolls the change of one job back."""


class Extend(Control[ExtendItem]):
    """Gives jobs more time."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self._partitions = Lookup(provider, self._deadline).partitions()

    def check(self, item: ExtendItem, row: JobRow, record: QueueRecord) -> None:
        """Compares the new limit with those of the partition and of the product."""
        target = self._wanted(item, row, record).target
        partition = (self._partitions or {}).get(record.partition.partition(",")[0])
        product = self._provider.config.product(row.category, row.product)
        if partition is not None:
            time_limit.check(target, row.product, partition.minutes, f"the limit of the partition {partition.name}")
        if product is not None and product.time_max is not None:
            time_limit.check(target, row.product, int(product.time_max // 60), "the limit of the product")

    def act(self, item: ExtendItem, row: JobRow, record: QueueRecord) -> None:
        """Sets the limit, and writes an update for UCloud."""
        provider, wanted = self._provider, self._wanted(item, row, record)
        self._slurm.set_time_limit(record.id, wanted.target, self.left())
        now = provider.now()
        with provider.store.writing():
            provider.observations.record_extension(row.id, wanted.key, now)
            update = time_limit.limit_update(wanted.target, row.clock_before, provider.era)
            provider.observations.record_time_limit(row.id, wanted.target, update, now)
        log.info("job %s: may now run for %d minutes", row.id, wanted.target)

    def undo(self, item: ExtendItem, row: JobRow, record: QueueRecord) -> None:
        """Sets the old limit. The worker observes it and updates UCloud."""
        if record.minutes is not None:
            self._slurm.set_time_limit(record.id, record.minutes, self.left())

    def _wanted(self, item: ExtendItem, row: JobRow, record: QueueRecord) -> time_limit.Extension:
        return time_limit.extension(
            known=item.job.specification.time_allocation.total,
            requested=item.requested_time.total,
            limit=record.minutes,
            before=row.clock_before,
            last=row.extension,
            since=None if row.extended_at is None else self._provider.now() - row.extended_at,
            era=self._provider.era,
        )


class Suspend(Control[JobItem]):
    """Suspends jobs. The worker observes it and updates UCloud; a suspended job is not charged."""

    def check(self, item: JobItem, row: JobRow, record: QueueRecord) -> None:
        """Only a running job can be suspended."""
        if record.state not in (SlurmState.RUNNING, SlurmState.SUSPENDED):
            raise Conflict("Only a running job can be suspended; this one waits in the queue.")

    def act(self, item: JobItem, row: JobRow, record: QueueRecord) -> None:
        """Suspends a job that runs."""
        if record.state is not SlurmState.SUSPENDED:
            self._slurm.suspend(record.id, self.left())

    def undo(self, item: JobItem, row: JobRow, record: QueueRecord) -> None:
        """Resumes the job."""
        if record.state is not SlurmState.SUSPENDED:
            self._slurm.resume(record.id, self.left())


class Resume(Control[JobItem]):
    """Resumes suspended jobs."""

    def check(self, item: JobItem, row: JobRow, record: QueueRecord) -> None:
        """Accepts every job: one that is not suspended runs already."""

    def act(self, item: JobItem, row: JobRow, record: QueueRecord) -> None:
        """Resumes a job that is suspended."""
        if record.state is SlurmState.SUSPENDED:
            self._slurm.resume(record.id, self.left())

    def undo(self, item: JobItem, row: JobRow, record: QueueRecord) -> None:
        """Suspends it again."""
        if record.state is SlurmState.SUSPENDED:
            self._slurm.suspend(record.id, self.left())


@contextmanager
def _named(items: Sequence[_Item], item: _Item) -> Iterator[None]:
    """Adds the item of a bulk to the reason of a refusal."""
    try:
        yield
    except Problem as problem:
        if len(items) > 1:
            problem.why = f"items[{items.index(item)}] (job {item.job.id}): {problem.why}"
        raise


def present(provider: Provider, job: Job, within: float) -> tuple[JobRow, QueueRecord]:
    """The row of a job, and Slurm's present record of it.

    :param within: seconds that Slurm has for its answer
    :raises NotFound: the job is unknown
    :raises Refused: the job has ended
    :raises Conflict: the job has not reached the cluster yet
    :raises SchedulerUnavailableError: Slurm does not answer
    """
    row = _live(provider, job)
    return row, _unended(find(provider, [row], within).get(row.id))


def _live(provider: Provider, job: Job) -> JobRow:
    row = provider.jobs.get(job.id)
    if row is None or row.phase is JobPhase.REFUSED:
        raise NotFound(f"This provider does not know job {job.id}.")
    if row.phase is JobPhase.ENDED or row.stop is not None:
        raise Refused("The job has ended.")
    if row.phase is not JobPhase.LIVE:
        raise Conflict(NOT_YET)
    return row


def _unended(record: QueueRecord | None) -> QueueRecord:
    if record is None or record.state is None or record.state.phase is SlurmPhase.ENDED:
        raise Refused("The job has ended.")
    if record.state is SlurmState.COMPLETING:
        raise Refused("The job has ended.")
    return record
