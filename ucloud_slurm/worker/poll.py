"""Watching: what squeue and sacct say of our jobs, as updates and charges in the outbox.

squeue wins while it lists a job; sacct completes the end. Ignorance is not an event: where one of them could not
be asked, or has not written everything down yet, the job stays as it is.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ucloud_slurm.bridge import charges
from ucloud_slurm.bridge.charges import Use
from ucloud_slurm.bridge.script.inputs import shown_at
from ucloud_slurm.bridge.states import final_update, queued_state, queued_update
from ucloud_slurm.bridge.time_limit import limit_update
from ucloud_slurm.bridge.usage import Accounting
from ucloud_slurm.errors import Forbidden, Refused
from ucloud_slurm.provider.billing import accounting_of, bill
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.isolation import isolate_errors
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase as SlurmPhase
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.ucloud.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.mapping import slurm_account

log = logging.getLogger(__name__)

STOPPED_FOR = {
    Stop.TERMINATED: "The job was cancelled.",
    Stop.NO_FUNDS: "Insufficient funds",
    Stop.ROLLED_BACK: "The job was withdrawn.",
}
# Slurm may queue a job again that sacct shows with one of these; only a long absence makes them final.
MAY_RETURN = frozenset({SlurmState.PREEMPTED, SlurmState.NODE_FAIL, SlurmState.BOOT_FAIL, SlurmState.REVOKED})
GONE = "The job disappeared from the cluster; nothing is known of how it ended."
FEWEST_READS = 2
RUNAWAY = 24 * 3600.0  # seconds after which a job that only sacct still shows as running is given up


class Poller:
    """One look at all live jobs."""

    def __init__(self, provider: Provider, lookup: Lookup) -> None:
        self._provider = provider
        self._lookup = lookup
        self._accountings: dict[tuple[str, str], Accounting | None] = {}

    def poll(self, rows: Sequence[OpenJob], queue: Iterable[QueueRecord]) -> bool:
        """Compares our live jobs with the cluster and writes down what changed.

        :param rows: jobs in the phase ``live``, read before squeue was asked
        :param queue: squeue's answer
        :returns: False when sacct was needed and could not be asked
        """
        listed = {record.id: record for record in queue}
        places = [(row, _ours(row, listed)) for row in rows]
        wanted = {SlurmJobId(row.slurm_id) for row, record in places if row.slurm_id and _needs_runs(row, record)}
        runs = self._runs(wanted)
        for row, record in places:
            waits = record is not None and record.state is not None and record.state.phase is SlurmPhase.WAITING
            if record is not None and waits and self._is_as_before(row, record):
                continue
            with isolate_errors(row.id, "watching it"):
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
                self._provider.jobs.seen(row.id, slurm_state=record.state_text)
        elif record is not None and record.state is not None and record.state.phase is not SlurmPhase.ENDED:
            self._listed(row, record, own)
        elif own is not None:
            self._not_listed(row, record, own)

    def _is_as_before(self, row: OpenJob, record: QueueRecord) -> bool:
        """Whether all that squeue says is known, but for what a job uses: so it is for most jobs in most passes."""
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

    # -- a job that squeue lists ----------------------------------------------------------------------------

    def _listed(self, row: OpenJob, record: QueueRecord, own: list[RunRecord] | None) -> None:
        if not self._is_as_before(row, record):
            self._record(row, record, own)
        if row.visible_to_ucloud and record.state is not None and record.state.phase is SlurmPhase.ALLOCATED:
            self._charge(row, record)

    def _record(self, row: OpenJob, record: QueueRecord, own: list[RunRecord] | None) -> None:
        """Writes down what is new of a job, and what is to be told of it."""
        provider, now = self._provider, self._provider.now()
        changes = self._changes(row, record, own)
        update = queued_update(record, provider.era) if row.visible_to_ucloud else None
        if update is not None and update.state is row.state:
            update = None
        if update is not None and update.state is JobState.RUNNING:
            update = replace(update, output_folder=self._folder(row))
        # An administrator changed the limit, or we did and were stopped before we could say so.
        limit = record.minutes if row.visible_to_ucloud and row.time_limit not in (None, record.minutes) else None
        if changes or update or limit:
            with provider.store.writing():
                if changes:
                    provider.jobs.seen(row.id, **changes)
                if update:
                    provider.jobs.enqueue_update(row.id, update, now)
                if limit:
                    provider.jobs.limited(row.id, limit, limit_update(limit, provider.era), now)

    def _changes(self, row: OpenJob, record: QueueRecord, own: list[RunRecord] | None) -> dict[str, object]:
        """The columns that squeue's record makes other than they are."""
        changes: dict[str, object] = {}
        if row.run_submitted != record.submitted:
            earlier = [run for run in own or [] if run.submitted < record.submitted and run.ended is not None]
            # A requeued job: its use goes on from the runs before, as soon as sacct has the end of the last one.
            if row.run_submitted is None or any(run.submitted == row.run_submitted for run in earlier):
                changes["run_submitted"] = record.submitted
                self._provider.jobs.keep_runs(row.id, [_kept(run) for run in earlier])
        if row.submitted_at is None:
            changes["submitted_at"] = record.submitted
        if row.missing_since is not None:
            changes |= {"missing_since": None, "missing_reads": 0}
        if row.slurm_state != record.state_text:
            changes["slurm_state"] = record.state_text
        if row.time_limit is None and record.minutes is not None:
            changes["time_limit"] = record.minutes
        return changes

    def _folder(self, row: OpenJob) -> str | None:
        """UCloud's path of the job's folder, where ``[[files]]`` has one."""
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
            return shown_at(provider.job_folder(row), provider.config.files, places)
        except (Forbidden, Refused):
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
            used += charges.total(self._earlier(row), tariff)
        bill(self._provider, row, record.id, used=used, weight=weight, accounting=accounting, final=False)

    def _accounting(self, row: OpenJob) -> Accounting | None:
        """How a job is counted; found out once for each product."""
        product = row.category, row.product
        if product not in self._accountings:
            self._accountings[product] = accounting_of(self._provider, self._lookup, row)
        return self._accountings[product]

    def _earlier(self, row: OpenJob) -> list[Use]:
        return [Use(run["seconds"], run["nodes"], run["cpus"]) for run in self._provider.jobs.runs(row.id)]

    # -- a job that squeue does not list, or lists as ended -------------------------------------------------

    def _not_listed(self, row: OpenJob, record: QueueRecord | None, own: list[RunRecord]) -> None:
        provider = self._provider
        last = own[-1] if own else None
        if last is not None and record is not None and last.submitted < record.submitted:
            last = None  # sacct has not heard of the run that squeue shows
        if last is None:
            if record is None:
                self._missing(row, provider.config.jobs.grace)
            return
        update = final_update(last, provider.era, STOPPED_FOR[row.stop] if row.stop else None)
        if update is None:
            if record is None and last.state is not None:
                # Queued again and not in the queue; or, without an end, a record that Slurm lost the end of.
                self._missing(row, provider.config.jobs.grace if last.ended is not None else RUNAWAY)
            return
        grace = provider.config.jobs.grace
        if record is None and last.state in MAY_RETURN and not self._absent_for(row, grace):
            self._missing(row, grace)
            return
        self._end(row, own, update)

    def _missing(self, row: OpenJob, grace: float) -> None:
        provider, now = self._provider, self._provider.now()
        if self._absent_for(row, grace):
            log.warning(
                "job %s: Slurm job %s is not in the queue, and sacct has no end of it (see also: sacctmgr show "
                "runawayjobs)",
                row.id,
                row.slurm_id,
            )
            with provider.store.writing():
                if row.visible_to_ucloud:
                    provider.jobs.enqueue_update(row.id, JobUpdate(JobState.FAILURE, GONE), now)
                self._close(row, None)
            return
        provider.jobs.seen(row.id, missing_since=row.missing_since or now, missing_reads=row.missing_reads + 1)

    def _absent_for(self, row: OpenJob, seconds: float) -> bool:
        absent = self._provider.now() - row.missing_since if row.missing_since is not None else 0.0
        return row.missing_reads >= FEWEST_READS and absent >= seconds

    def _end(self, row: OpenJob, own: Sequence[RunRecord], update: JobUpdate) -> None:
        provider, now = self._provider, self._provider.now()
        accounting = self._accounting(row) if row.visible_to_ucloud else None
        uses = [Use(run.elapsed, run.nodes, run.cpus) for run in own]
        used = charges.total(uses, accounting.tariff) if accounting else None
        log.info("job %s: Slurm job %s has ended: %s", row.id, row.slurm_id, own[-1].state_text)
        with provider.store.writing():
            provider.jobs.keep_runs(row.id, [_kept(run) for run in own])
            provider.jobs.seen(row.id, slurm_state=own[-1].state_text, submitted_at=own[0].submitted)
            if (
                row.visible_to_ucloud
                and row.state is JobState.IN_QUEUE
                and any(run.started and run.elapsed for run in own)
            ):
                # It ran and ended between two looks: UCloud is told both, in order.
                running = JobUpdate(JobState.RUNNING, "The job is now running.", output_folder=self._folder(row))
                provider.jobs.enqueue_update(row.id, running, now)
            if accounting is not None and used is not None:
                weight = accounting.tariff.weight(uses[-1])
                bill(provider, row, own[-1].id, used=used, weight=weight, accounting=accounting, final=True)
            if row.visible_to_ucloud:
                provider.jobs.enqueue_update(row.id, update, now)
            self._close(row, used)

    def _close(self, row: OpenJob, used: int | None) -> None:
        self._provider.jobs.ended(row.id, used, self._provider.now())
        if not row.visible_to_ucloud:
            self._provider.jobs.seen(row.id, phase=JobPhase.REFUSED)


def _ours(row: OpenJob, listed: Mapping[SlurmJobId, QueueRecord]) -> QueueRecord | None:
    """The record of our job: ids are used again, so that name and owner must be right too."""
    record = listed.get(SlurmJobId(row.slurm_id or 0))
    return record if record and (record.name, record.user) == (row.name, row.local_user) else None


def _needs_runs(row: OpenJob, record: QueueRecord | None) -> bool:
    if record is None:
        return True
    if record.state is None:
        return False
    requeued = row.run_submitted is not None and row.run_submitted != record.submitted
    return record.state.phase is SlurmPhase.ENDED or requeued


def _kept(run: RunRecord) -> dict[str, object]:
    return {
        "submitted": run.submitted,
        "started": run.started,
        "ended": run.ended,
        "seconds": run.elapsed,
        "nodes": run.nodes,
        "cpus": run.cpus,
        "state": run.state_text,
        "exit_code": run.exit_code,
        "signal": run.signal,
    }
