"""Polling: what squeue and sacct say of our jobs becomes updates and charges in the outbox.

While squeue lists a job, its record is used; afterwards the record of sacct. If one of them could not be asked, or
does not have everything yet, the job stays as it is.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.charges import Use
from ucloud_slurm.bridge.script.inputs import ucloud_path
from ucloud_slurm.bridge.states import final_update, queued_state, queued_update
from ucloud_slurm.bridge.time_limit import limit_update
from ucloud_slurm.bridge.usage import Accounting
from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, Problem
from ucloud_slurm.provider.billing import accounting_of, bill
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase, SlurmState
from ucloud_slurm.store.charges import EndedRun
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.observations import NOTHING_NEW, Observation
from ucloud_slurm.system.journal import isolate_errors
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.mapping import slurm_account

log = logging.getLogger(__name__)

STOPPED_FOR = {
    Stop.TERMINATED: "The job was cancelled.",
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

    def poll(self, rows: Sequence[OpenJob], queue: Iterable[QueueRecord]) -> bool:
        """Compares our live jobs with the cluster and records what has changed.

        :param rows: jobs in the phase ``live``, read before squeue was asked
        :param queue: squeue's answer
        :returns: False when sacct was needed and could not be asked
        """
        listed = {record.id: record for record in queue}
        pairs = [(row, _record_of(row, listed)) for row in rows]
        wanted = {SlurmJobId(row.slurm_id) for row, record in pairs if row.slurm_id and _needs_runs(row, record)}
        runs = self._runs(wanted)
        for row, record in pairs:
            waits = record is not None and record.state is not None and record.state.phase is Phase.WAITING
            if record is not None and waits and self._is_unchanged(row, record):
                continue
            with isolate_errors(row.id, "polling it"):
                try:
                    self._reconcile(row, record, runs)
                except (CoreUnavailableError, CoreRefusedError) as error:
                    log.warning("job %s: its price is not known yet: %s", row.id, error)
        return runs is not None

    def _runs(self, wanted: set[SlurmJobId]) -> dict[int, list[RunRecord]] | None:
        found: dict[int, list[RunRecord]] = {}
        try:
            for run in self._provider.scheduler.runs(wanted):
                found.setdefault(run.id, []).append(run)
        except SchedulerUnavailableError as error:
            log.warning("sacct could not be asked: %s", error)
            return None
        return found

    def _reconcile(self, row: OpenJob, record: QueueRecord | None, runs: Mapping[int, list[RunRecord]] | None) -> None:
        own = None
        if runs is not None:
            own = sorted(
                (r for r in runs.get(row.slurm_id or 0, []) if (r.name, r.user) == (row.name, row.local_user)),
                key=lambda run: run.submitted,
            )
        if record is not None and record.state is None:
            if row.slurm_state != record.state_text:
                log.warning("job %s: Slurm says %r, a state that is not known here", row.id, record.state_text)
                self._provider.observations.record_observation(row.id, Observation(slurm_state=record.state_text))
        elif record is not None and record.state is not None and record.state.phase is not Phase.ENDED:
            self._listed(row, record, own)
        elif own is not None:
            self._not_listed(row, record, own)

    def _is_unchanged(self, row: OpenJob, record: QueueRecord) -> bool:
        """Whether all that squeue says, except the usage, is recorded, as it is for most jobs in most passes."""
        shown = queued_state(record.state, self._provider.era)
        return (
            shown is not None
            and shown is row.state
            and record.state_text == row.slurm_state
            and record.submitted == row.run_submitted
            and record.minutes == row.time_limit
            and row.missing_since is None
            and row.submitted_at is not None
        )

    def _listed(self, row: OpenJob, record: QueueRecord, own: list[RunRecord] | None) -> None:
        if not self._is_unchanged(row, record):
            self._record(row, record, own)
        if row.visible_to_ucloud and record.state is not None and record.state.phase is Phase.ALLOCATED:
            self._charge(row, record)

    def _record(self, row: OpenJob, record: QueueRecord, own: list[RunRecord] | None) -> None:
        """Records what is new of a job, and enqueues what UCloud must hear of it."""
        provider, now = self._provider, self._provider.now()
        earlier = _before_new_run(row, record, own or [])
        observation = _observe(row, record, new_run=earlier is not None)
        update = queued_update(record, provider.era) if row.visible_to_ucloud else None
        if update is not None and update.state is row.state:
            update = None
        if update is not None and update.state is JobState.RUNNING:
            update = replace(update, output_folder=self._folder(row))
        # An administrator has changed the limit, or we have and were interrupted before it was recorded.
        limit = record.minutes if row.visible_to_ucloud and row.time_limit not in (None, record.minutes) else None
        if observation == NOTHING_NEW and update is None and not limit:
            return
        with provider.store.writing():
            if earlier:
                provider.charges.record_runs([_ended_run(row, run) for run in earlier])
            if observation != NOTHING_NEW:
                provider.observations.record_observation(row.id, observation)
            if update is not None:
                provider.outbox.enqueue_update(row.id, update, now)
            if limit:
                provider.observations.record_time_limit(row.id, limit, limit_update(limit, provider.era), now)

    def _folder(self, row: OpenJob) -> str | None:
        """UCloud's path of the job's folder, if ``[[files]]`` has one."""
        provider = self._provider
        if row.external or not provider.config.files:
            return None
        product = provider.config.product(row.category, row.product)
        try:
            person = provider.mapping.person(row.local_user)
            account = slurm_account(provider.config.users, provider.people, row.project, row.local_user)
            places = {
                "home": person.home,
                "user": person.user,
                "project": row.project,
                "account": account or (product.account if product else None),
            }
            return ucloud_path(provider.job_paths(row).folder, provider.config.files, places)
        except Problem:
            return None

    def _charge(self, row: OpenJob, record: QueueRecord) -> None:
        accounting = self._accounting(row)
        if accounting is None:
            return
        tariff = accounting.tariff
        present = Use(record.elapsed, record.nodes, record.cpus)
        weight = tariff.weight(present)
        used = present.seconds * weight
        if row.submitted_at is not None and row.submitted_at < record.submitted:
            earlier = self._provider.charges.runs(row.id)
            used += charges.total([Use(run.seconds, run.nodes, run.cpus) for run in earlier], tariff)
        bill(self._provider, row, record.id, used=used, weight=weight, accounting=accounting, final=False)

    def _accounting(self, row: OpenJob) -> Accounting | None:
        """How a job is charged; looked up once for each product."""
        product = row.category, row.product
        if product not in self._accountings:
            self._accountings[product] = accounting_of(self._provider, self._lookup, row)
        return self._accountings[product]

    def _not_listed(self, row: OpenJob, record: QueueRecord | None, own: list[RunRecord]) -> None:
        provider = self._provider
        last = own[-1] if own else None
        if last is not None and record is not None and last.submitted < record.submitted:
            last = None  # sacct does not have the run that squeue shows
        if last is None:
            if record is None:
                self._missing(row, provider.config.jobs.grace)
            return
        update = final_update(last, provider.era, STOPPED_FOR[row.stop] if row.stop else None)
        if update is None:
            if record is None and last.state is not None:
                # Requeued and not in the queue; or, without an end, a record whose end Slurm has lost.
                self._missing(row, provider.config.jobs.grace if last.ended is not None else RUNAWAY_SECONDS)
            return
        grace = provider.config.jobs.grace
        if record is None and last.state in MAY_BE_REQUEUED and not self._absent_for(row, grace):
            self._missing(row, grace)
            return
        self._end(row, own, update)

    def _missing(self, row: OpenJob, grace: float) -> None:
        provider, now = self._provider, self._provider.now()
        if self._absent_for(row, grace):
            log.warning(
                "job %s: Slurm job %s is not in the queue, and sacct has no end of it (see also: sacctmgr show runawayjobs)",
                row.id,
                row.slurm_id,
            )
            provider.observations.record_end(row.id, JobUpdate(JobState.FAILURE, GONE), None, now)
        else:
            provider.observations.record_absence(row.id, now)

    def _absent_for(self, row: OpenJob, seconds: float) -> bool:
        absent = self._provider.now() - row.missing_since if row.missing_since is not None else 0.0
        return row.missing_reads >= MIN_READS and absent >= seconds

    def _end(self, row: OpenJob, own: Sequence[RunRecord], update: JobUpdate) -> None:
        provider, now = self._provider, self._provider.now()
        accounting = self._accounting(row) if row.visible_to_ucloud else None
        uses = [Use(run.elapsed, run.nodes, run.cpus) for run in own]
        used = charges.total(uses, accounting.tariff) if accounting else None
        log.info("job %s: Slurm job %s has ended: %s", row.id, row.slurm_id, own[-1].state_text)
        with provider.store.writing():
            provider.charges.record_runs([_ended_run(row, run) for run in own])
            seen = Observation(slurm_state=own[-1].state_text, submitted_at=own[0].submitted)
            provider.observations.record_observation(row.id, seen)
            ran = any(run.started and run.elapsed for run in own)
            if row.visible_to_ucloud and row.state is JobState.IN_QUEUE and ran:
                # It ran and ended between two polls: UCloud hears both, in order.
                running = JobUpdate(JobState.RUNNING, "The job is now running.", output_folder=self._folder(row))
                provider.outbox.enqueue_update(row.id, running, now)
            if accounting is not None and used is not None:
                weight = accounting.tariff.weight(uses[-1])
                bill(provider, row, own[-1].id, used=used, weight=weight, accounting=accounting, final=True)
            provider.observations.record_end(row.id, update, used, now)


def _record_of(row: OpenJob, listed: Mapping[SlurmJobId, QueueRecord]) -> QueueRecord | None:
    """The record of our job. Slurm uses ids again, so that name and user are compared too."""
    record = listed.get(SlurmJobId(row.slurm_id or 0))
    return record if record and (record.name, record.user) == (row.name, row.local_user) else None


def _needs_runs(row: OpenJob, record: QueueRecord | None) -> bool:
    if record is None:
        return True
    if record.state is None:
        return False
    requeued = row.run_submitted is not None and row.run_submitted != record.submitted
    return record.state.phase is Phase.ENDED or requeued


def _before_new_run(row: OpenJob, record: QueueRecord, own: Sequence[RunRecord]) -> list[RunRecord] | None:
    """The ended runs of a requeued job before the one that squeue shows; None while nothing is to be recorded.

    Its use goes on from these, as soon as sacct has the end of the last one.
    """
    if row.run_submitted == record.submitted:
        return None
    earlier = [run for run in own if run.submitted < record.submitted and run.ended is not None]
    complete = row.run_submitted is None or any(run.submitted == row.run_submitted for run in earlier)
    return earlier if complete else None


def _observe(row: OpenJob, record: QueueRecord, *, new_run: bool) -> Observation:
    """What of squeue's record is not in the row."""
    return Observation(
        slurm_state=record.state_text if row.slurm_state != record.state_text else None,
        submitted_at=record.submitted if row.submitted_at is None else None,
        run_submitted=record.submitted if new_run else None,
        time_limit=record.minutes if row.time_limit is None else None,
        found=row.missing_since is not None,
    )


def _ended_run(row: OpenJob, run: RunRecord) -> EndedRun:
    return EndedRun(
        job_id=row.id, submitted=run.submitted, started=run.started, ended=run.ended, seconds=run.elapsed,
        nodes=run.nodes, cpus=run.cpus, state=run.state_text, exit_code=run.exit_code, signal=run.signal,
    )  # fmt: skip
