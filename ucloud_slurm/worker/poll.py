"""Polling: what squeue and sacct say of our jobs becomes updates and charges in the outbox.

While squeue lists a job, its record is used; afterwards the record of sacct. If one of them could not be asked, or
does not have everything yet, the job stays as it is.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.job_page import ssh_line, target_line
from ucloud_slurm.bridge.states import final_update, queued_update
from ucloud_slurm.bridge.time_limit import clock_before, limit_update
from ucloud_slurm.bridge.usage import Accounting
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.provider.billing import accounting_of, bill
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identity import accounting_is_complete, by_number, identity_of, record_of
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.identity import BuiltJob
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.observations import NOTHING_NEW, Observation
from ucloud_slurm.system.journal import isolate_errors
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.worker import changes
from ucloud_slurm.worker.output_folders import output_folder

log = logging.getLogger(__name__)

STOPPED_FOR = {
    Stop.TERMINATED: "The job was cancelled.",
    Stop.CANCELLED: "The provider has cancelled the job.",
    Stop.NO_FUNDS: "Insufficient funds",
    Stop.ROLLED_BACK: "The job was withdrawn.",
}
# Slurm may requeue a job that sacct shows in one of these states; only a long absence makes them final.
MAY_BE_REQUEUED = frozenset({SlurmState.PREEMPTED, SlurmState.NODE_FAIL, SlurmState.BOOT_FAIL, SlurmState.REVOKED})
GONE = "The job disappeared from the cluster; nothing is known of how it ended."
MIN_READS = 2
RUNAWAY_SECONDS = 24 * 3600.0  # after which a job that only sacct still shows as running counts as ended


class Poller:
    """One poll of all live jobs."""

    def __init__(self, provider: Provider, lookup: Lookup) -> None:
        self._provider = provider
        self._lookup = lookup
        self._accountings: dict[tuple[str, str], Accounting | None] = {}
        self._is_complete: bool | None = None  # whether sacct has all; None: that was not needed yet

    def poll(
        self, rows: Sequence[OpenJob], queue: Iterable[QueueRecord], runs: Mapping[int, list[RunRecord]] | None = None
    ) -> bool:
        """Compares our live jobs with the cluster and records what has changed.

        :param rows: jobs in the phase ``live``, read before squeue was asked
        :param queue: squeue's answer
        :param runs: sacct's answer, by number; None: it is asked
        :returns: False when sacct was needed and could not be asked
        """
        listed, now, era = by_number(queue), self._provider.now(), self._provider.era
        pairs = []
        for row in rows:
            record = record_of(row, listed)
            waits = record is not None and record.state is not None and record.state.phase is Phase.WAITING
            if record is None or not waits or not changes.is_unchanged(row, record, era, now):
                pairs.append((row, record))
        if runs is None:
            runs = self._runs(
                {SlurmJobId(row.slurm_id) for row, record in pairs if row.slurm_id and changes.needs_runs(row, record)}
            )
        for row, record in pairs:
            with isolate_errors(row.id, "polling it"):
                try:
                    self._reconcile(row, record, runs)
                except (CoreUnavailableError, CoreRefusedError) as error:
                    log.log(error.severity, "job %s: its price is not known yet: %s", row.id, error)
        return runs is not None

    def _runs(self, wanted: set[SlurmJobId]) -> Mapping[int, list[RunRecord]] | None:
        found: dict[int, list[RunRecord]] = {}
        try:
            for run in self._provider.scheduler.runs(wanted):
                found.setdefault(run.id, []).append(run)
        except SchedulerUnavailableError as error:
            log.warning("sacct could not be asked: %s", error)
            return None
        return found

    def _reconcile(self, row: OpenJob, record: QueueRecord | None, runs: Mapping[int, list[RunRecord]] | None) -> None:
        identity = identity_of(row)
        # Without a number, which Slurm has given to another job, it is in neither.
        own = None if runs is None else identity.runs(runs.get(identity.id, [])) if identity is not None else []
        if own and not all(run.is_whole for run in own):
            own = self._without_parts(row, record, own)
        if record is not None and record.state is None:
            if row.slurm_state != record.state_text:
                log.warning("job %s: Slurm says %r, a state that is not known here", row.id, record.state_text)
                self._provider.observations.record_observation(row.id, Observation(slurm_state=record.state_text))
        elif record is not None and record.state is not None and record.state.phase is not Phase.ENDED:
            self._listed(row, record, own)
        elif own is not None:
            self._not_listed(row, record, own)

    def _without_parts(self, row: OpenJob, record: QueueRecord | None, own: list[RunRecord]) -> list[RunRecord] | None:
        """The runs of a job of which sacct has a row that is not whole; None while it may become so."""
        log.warning("job %s: sacct has a row of Slurm job %s that is not whole", row.id, row.slurm_id)
        if record is not None:
            return None
        if self._absent_for(row, self._provider.config.jobs.grace):
            return [run for run in own if run.is_whole] or [run for run in own if run.uid is not None]
        self._count_absence(row)
        return None

    def _listed(self, row: OpenJob, record: QueueRecord, own: list[RunRecord] | None) -> None:
        earlier = changes.ended_before(row, record, own)
        if not changes.is_unchanged(row, record, self._provider.era, self._provider.now()):
            self._record(row, record, own, earlier)
        allocated = record.state is not None and record.state.phase is Phase.ALLOCATED
        # While sacct does not have the sizes or the runs before, the use so far is not known.
        if row.visible_to_ucloud and allocated and earlier is not None:
            self._charge(
                row, record, self._times(row, changes.requested(row, record, own)), has_earlier=bool(row.ended_runs or earlier)
            )

    def _times(self, row: OpenJob, requested: str | None) -> int:
        """How many times what was bought a job requests (:func:`changes.requested`)."""
        built = self._built(row) if requested is not None else None
        return row.times if built is None or requested is None else built.times(requested)

    def _built(self, row: OpenJob) -> BuiltJob | None:
        whole = self._provider.jobs.get(row.id)
        return BuiltJob.read(whole.built) if whole is not None else None

    def _record(self, row: OpenJob, record: QueueRecord, own: list[RunRecord] | None, earlier: list[RunRecord] | None) -> None:
        """Records what is new of a job, and enqueues what UCloud must hear of it."""
        provider, now = self._provider, self._provider.now()
        times = self._times(row, changes.requested(row, record, own))
        observation = changes.observe(row, record, earlier, times)
        update = queued_update(record, provider.era) if row.visible_to_ucloud else None
        if update is not None and update.state is row.state:
            update = None
        before = None
        if update is not None and update.state is JobState.RUNNING:
            before = clock_before(record.minutes, record.elapsed, provider.era)
            left = self._time_left(row, record.minutes, before)
            update = update._replace(output_folder=output_folder(provider, row), new_time_allocation=left)
        reason = changes.new_reason(row, record, now) if row.visible_to_ucloud else None
        # An administrator has changed the limit, or we have and were interrupted before it was recorded.
        limit = record.minutes if row.visible_to_ucloud and row.time_limit not in (None, record.minutes) else None
        if observation == NOTHING_NEW and update is None and reason is None and not limit:
            return
        with provider.store.writing():
            if earlier:
                built = self._built(row)
                provider.charges.record_runs([changes.ended_run(row, run, built) for run in earlier])
            if observation != NOTHING_NEW:
                provider.observations.record_observation(row.id, observation)
            if update is not None:
                provider.outbox.enqueue_update(row.id, update, now)
                if update.state is JobState.RUNNING:
                    self._show_boxes(row, now)
            if before is not None:
                provider.observations.record_clock(row.id, before)
            if reason is not None:
                # The message of a new state says it already.
                said = JobUpdate(None, reason.sentence) if update is None else None
                heard = changes.reasons(row, reason.kind, now)
                provider.observations.record_waiting(row.id, reason.kind, heard, said, now)
            elif update is not None and row.waits_for is not None:
                provider.observations.record_waiting(row.id, None, row.reasons, None, now)
            if limit:
                update = limit_update(limit, self._clock_before(row), provider.era)
                provider.observations.record_time_limit(row.id, limit, update, now)

    def _show_boxes(self, row: OpenJob, now: float) -> None:
        """Enqueues what UCloud's page of a running job shows in boxes and buttons of their own."""
        if not self._provider.era.reads_lines:
            return
        command, built = self._provider.config.jobs.ssh, self._built(row)
        lines = [ssh_line(command, row.local_user)] if command is not None else []
        lines += [target_line(*page) for page in built.pages] if built is not None else []
        for line in lines:
            self._provider.outbox.enqueue_once(row.id, JobUpdate(None, line), now)

    def _clock_before(self, row: OpenJob) -> int:
        """The minutes of its limit that UCloud's clock of a job does not count."""
        whole = self._provider.jobs.get(row.id)
        return whole.clock_before if whole is not None else 0

    def _time_left(self, row: OpenJob, minutes: int | None, before: int) -> int | None:
        """What UCloud receives as the time that a job has left as it runs, in milliseconds; None: what it has is right."""
        if minutes is None or before == self._clock_before(row) == 0:
            return None
        return (minutes - before) * 60_000

    def _charge(self, row: OpenJob, record: QueueRecord, times: int, *, has_earlier: bool) -> None:
        accounting = self._accounting(row)
        if accounting is None:
            return
        present = changes.present_use(record, times)
        earlier = self._provider.charges.runs(row.id) if has_earlier else []
        uses = [*map(changes.use_of, earlier), present]
        bill(self._provider, row, record.id, uses=uses, accounting=accounting, final=False)

    def _accounting(self, row: OpenJob) -> Accounting | None:
        """How a job is charged; looked up once for each product."""
        product = row.category, row.product
        if product not in self._accountings:
            self._accountings[product] = accounting_of(self._provider, self._lookup, row)
        return self._accountings[product]

    def _not_listed(self, row: OpenJob, record: QueueRecord | None, own: list[RunRecord]) -> None:
        provider, grace = self._provider, self._provider.config.jobs.grace
        last = own[-1] if own else None
        if last is not None and record is not None and last.submitted < record.submitted:
            last = None  # sacct does not have the run that squeue shows
        if last is None:
            if record is None:
                self._missing(row, grace)
            return
        update = final_update(last, provider.era, STOPPED_FOR[row.stop] if row.stop else None)
        if update is None:
            if record is None and last.state is not None and last.ended is None:
                self._without_end(row)
            elif record is None and last.state is not None:  # requeued, and not in the queue
                self._missing(row, grace)
            return
        if record is None and last.state in MAY_BE_REQUEUED and not self._absent_for(row, grace):
            self._missing(row, grace)
            return
        self._end(row, own, update)

    def _missing(self, row: OpenJob, grace: float) -> None:
        if self._absent_for(row, grace):
            self._give_up(row)
        else:
            self._count_absence(row)

    def _without_end(self, row: OpenJob) -> None:
        """Slurm has lost the end of a job that sacct shows as running. Answers without its row in between say nothing."""
        since, now = row.missing_since if row.missing_reads == 0 else None, self._provider.now()
        if since is not None and now - since >= RUNAWAY_SECONDS:
            self._give_up(row)
        else:
            self._provider.observations.record_absence(row.id, now, begun=True)

    def _give_up(self, row: OpenJob) -> None:
        log.warning("job %s: squeue has no Slurm job %s, sacct no end of it (sacctmgr show runawayjobs)", row.id, row.slurm_id)
        self._provider.observations.record_end(row.id, JobUpdate(JobState.FAILURE, GONE), None, self._provider.now())

    def _count_absence(self, row: OpenJob) -> None:
        """The first one counts when sacct is complete: what squeue had forgotten before is in sacct from then on."""
        if not row.missing_reads and self._is_complete is None:
            self._is_complete = accounting_is_complete(self._provider)
        if row.missing_reads or self._is_complete:
            self._provider.observations.record_absence(row.id, self._provider.now())

    def _absent_for(self, row: OpenJob, seconds: float) -> bool:
        absent = self._provider.now() - row.missing_since if row.missing_since is not None else 0.0
        return row.missing_reads >= MIN_READS and absent >= seconds

    def _end(self, row: OpenJob, own: Sequence[RunRecord], update: JobUpdate) -> None:
        provider, now = self._provider, self._provider.now()
        accounting = self._accounting(row) if row.visible_to_ucloud else None
        built = self._built(row)
        ended = [changes.ended_run(row, run, built) for run in own]
        uses = [changes.use_of(run) for run in ended]
        used = charges.total(uses, accounting.tariff) if accounting else None
        log.info("job %s: Slurm job %s has ended: %s", row.id, row.slurm_id, own[-1].state_text)
        queued = row.visible_to_ucloud and row.state is JobState.IN_QUEUE
        ran = queued and any(run.started and run.elapsed for run in own)
        running = None
        if ran:  # It ran and ended between two polls: UCloud hears both, in order.
            running = JobUpdate(JobState.RUNNING, "The job is now running.", output_folder=output_folder(provider, row))
        elif queued and any(run.started for run in own):  # for less than a second
            update = update._replace(output_folder=output_folder(provider, row))
        with provider.store.writing():
            provider.charges.record_runs(ended)
            seen = Observation(slurm_state=own[-1].state_text, submitted_at=own[0].submitted)
            provider.observations.record_observation(row.id, seen)
            if running is not None:
                provider.outbox.enqueue_update(row.id, running, now)
            if accounting is not None:
                bill(provider, row, own[-1].id, uses=uses, accounting=accounting, final=True)
            provider.observations.record_end(row.id, update, used, now)
