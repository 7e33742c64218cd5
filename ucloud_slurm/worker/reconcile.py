"""Reconciliation of database, Slurm and UCloud: everything is asked first, then compared, then repaired.

Nothing is written before all three have answered. Each repair is a transaction of its own and true by itself: after an
interruption the next run does the rest. While the database is behind (:mod:`ucloud_slurm.store.generation`) nothing is
reported, so that what is enqueued meanwhile can be taken back.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError
from ucloud_slurm.provider.billing import accounting_of
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identities import missing_jobs
from ucloud_slurm.provider.identity import accounting_is_complete, by_number, identity_of, record_of
from ucloud_slurm.provider.lookup import Lookup
from ucloud_slurm.provider.reconciliation import OPEN_STATES, repeat_update
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import QueueRecord, RunRecord, SlurmJobId
from ucloud_slurm.slurm.states import Phase
from ucloud_slurm.store.acts import RECONCILE
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.job_rows import JobRow, NewJob
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.worker.candidates import MAX_ATTEMPTS, Found, Proof, Sought, by_attempt, questions
from ucloud_slurm.worker.comparison import UNSUBMITTED, Act, Circumstances, ClusterJob, Difference, JobSides, compare
from ucloud_slurm.worker.poll import Poller
from ucloud_slurm.worker.recovery import adopt

log = logging.getLogger(__name__)

ASK_SECONDS = 60.0  # for the users of missing jobs
FEW_JOBS = 3  # of which neither side has a trace are what happens; more are another cluster, or an emptied accounting
HAD = "UCloud has had this before the database was restored."
UNAVAILABLE = (CoreUnavailableError, CoreRefusedError, SchedulerUnavailableError)


class Outcome(NamedTuple):
    """What a reconciliation has found and done.

    :ivar behind: what had happened to the database; None while it is not behind
    :ivar repaired: everything that can be is repaired, and the database is not behind any more
    """

    differences: Sequence[Difference]
    behind: str | None
    repaired: bool

    @property
    def left(self) -> list[Difference]:
        """Those that need somebody."""
        return [each for each in self.differences if each.act is Act.LEAVE]

    @property
    def without_trace(self) -> list[Difference]:
        """Those whose job ends because nobody knows how it ended."""
        return [each for each in self.differences if each.act is Act.END]


@dataclass(slots=True)
class _Answers:
    """What the three have answered."""

    open: dict[str, Job]
    rows: dict[str, JobRow]
    new: dict[str, NewJob]
    states: dict[str, str]
    is_complete: bool = False  # whether sacct has all that squeue has forgotten
    queue: list[QueueRecord] = field(default_factory=list)
    found: dict[str, list[Found]] = field(default_factory=dict)
    runs: dict[int, list[RunRecord]] = field(default_factory=dict)


def reconcile(
    provider: Provider, *, gone: frozenset[str] = frozenset(), dry_run: bool = False, attended: bool = True
) -> Outcome:
    """Compares, and repairs. The caller has the lock of the worker.

    :param gone: clusters that are not used any more: their jobs end
    :param dry_run: write nothing
    :param attended: somebody has asked for it: jobs without a trace end, however many they are
    :raises CoreUnavailableError: UCloud does not answer, and nothing was changed
    :raises CoreRefusedError: likewise
    :raises SchedulerUnavailableError: Slurm does not answer, and nothing was changed
    """
    generation = Generation(provider.store)
    behind = generation.why_behind()
    answers = _ask(provider)
    here = Circumstances(provider.now(), behind is not None, provider.scheduler.cluster, gone)
    differences = compare(_sides(provider, answers), here)
    outcome = Outcome(differences, behind, repaired=False)
    if not dry_run and not answers.is_complete and outcome.without_trace:
        number = len(outcome.without_trace)
        raise SchedulerUnavailableError(
            f"sacct does not have everything yet, and has no trace of {number} jobs; try again in a minute (sdiag: DBD Agent)"
        )
    if dry_run or (not attended and len(outcome.without_trace) > max(FEW_JOBS, len(answers.open) // 20)):
        return outcome
    _learn_prices(provider, answers)
    if attended and (differences or behind is not None):
        _record(provider, outcome, gone)
    for each in differences:
        _repair(provider, each, answers)
    _finish(provider, differences, answers, behind=behind is not None)
    if behind is not None:
        generation.confirm(provider.now())
    return outcome._replace(repaired=True)


def _record(provider: Provider, outcome: Outcome, gone: frozenset[str]) -> None:
    """Records the act before the repairs, which are transactions of their own."""
    what = f"reconciliation of {len(outcome.differences)} differences"
    what += f"; {outcome.behind}" if outcome.behind is not None else ""
    what += f"; end of the jobs of {', '.join(sorted(gone))}" if gone else ""
    provider.acts.record(RECONCILE, what, provider.now())


def _ask(provider: Provider) -> _Answers:
    """Asks UCloud, the database and Slurm, in this order: what begins meanwhile is on the later sides, and is recent."""
    name = provider.config.provider.id
    listed = [job for state in OPEN_STATES for job in provider.core.jobs(state)]
    open_ = {job.id: job for job in listed if job.specification.product.provider == name}
    known = provider.jobs.in_phase(JobPhase.ACCEPTED, JobPhase.SUBMITTING, JobPhase.LIVE)
    rows = {row.id: row for row in known}
    for job_id in sorted((open_.keys() | provider.outbox.of_waiting()) - rows.keys()):
        if row := provider.jobs.get(job_id):
            rows[job_id] = row
    outside = {(rule.application, rule.version) for rule in provider.config.outside}
    for job in list(open_.values()):
        # A job from outside UCloud is registered again by the key of its Slurm job, and so gets its row.
        if job.id not in rows and (job.specification.application.name, job.specification.application.version) in outside:
            del open_[job.id]
    new = missing_jobs(provider, [job for job in open_.values() if job.id not in rows], time.monotonic() + ASK_SECONDS)
    states = {job.id: job.status.state for job in open_.values()} | provider.core.states([*rows.keys() - open_.keys()])
    answers = _Answers(open_, rows, new, states)
    _ask_slurm(provider, answers)
    return answers


def _ask_slurm(provider: Provider, answers: _Answers) -> None:
    scheduler, name, now = provider.scheduler, provider.config.provider.id, provider.now()
    answers.queue = scheduler.queue(None)
    sought = [Sought.missing(name, job) for job in answers.new.values()]
    sought += [
        Sought.of(name, row, MAX_ATTEMPTS)
        for row in answers.rows.values()
        if row.phase in UNSUBMITTED and (row.claimed_until is None or row.claimed_until < now)
    ]
    candidates = scheduler.queue_named(None) if sought else []
    answers.found = {each.id: each.among(candidates) for each in sought}
    answers.is_complete = accounting_is_complete(provider)
    for some, which in questions([each for each in sought if not by_attempt(answers.found[each.id])]):
        runs = scheduler.runs_since(min(each.since for each in some), which)
        for each in some:
            answers.found[each.id] += each.among_runs(runs, answers.found[each.id])
    here = (None, scheduler.cluster)
    numbers = {row.slurm_id for row in answers.rows.values() if row.phase is JobPhase.LIVE and row.cluster in here}
    numbers |= {each.id for found in answers.found.values() for each in by_attempt(found)}
    for run in scheduler.runs({SlurmJobId(number) for number in numbers if number is not None}):
        answers.runs.setdefault(run.id, []).append(run)


def _sides(provider: Provider, answers: _Answers) -> list[JobSides]:
    """Each job on the three sides, by its id."""
    queue, waiting, now = by_number(answers.queue), provider.outbox.of_waiting(), provider.now()
    sides = []
    for job_id in sorted({*answers.rows, *answers.open}, key=lambda id_: (len(id_), id_)):
        row, job = answers.rows.get(job_id), answers.open.get(job_id)
        found = answers.found.get(job_id, [])
        sides.append(
            JobSides(
                id=job_id,
                row=row,
                ucloud=answers.states.get(job_id),
                slurm=_on_cluster(row, found, queue, answers.runs),
                since=row.accepted_at if row else min(now, job.created_at / 1000) if job else now,
                waiting=job_id in waiting,
                alike=tuple(dict.fromkeys(each.id for each in found if each.proof in (Proof.UNCLAIMED, Proof.OPEN))),
                can_adopt=row is not None or job_id in answers.new,
            )
        )
    return sides


def _on_cluster(
    row: JobRow | None, found: Sequence[Found], queue: Mapping[SlurmJobId, QueueRecord], runs: Mapping[int, list[RunRecord]]
) -> ClusterJob | None:
    """The Slurm job of a job, by the number in its row or as it was found."""
    ours = by_attempt(found)
    identity = identity_of(row) if row is not None and row.phase is JobPhase.LIVE else None
    if identity is not None and row is not None:
        number, record, own = identity.id, record_of(row, queue), identity.runs(runs.get(identity.id, []))
    elif ours:
        number = ours[0].id
        listed = queue.get(number)
        record = listed if listed is not None and listed.uid == ours[0].uid else None
        own = [run for run in runs.get(number, []) if run.uid == ours[0].uid and run.submitted >= ours[0].submitted]
    else:
        return None
    if record is not None and (record.state is None or record.state.phase is not Phase.ENDED):
        return ClusterJob(number, record.state_text, ended=False)
    if own:
        return ClusterJob(number, own[-1].state_text, ended=own[-1].ended is not None)
    return None if record is None else ClusterJob(number, record.state_text, ended=False)


def _learn_prices(provider: Provider, answers: _Answers) -> None:
    """Asks UCloud for the prices that the bills need, so that nothing is asked between two repairs."""
    lookup = Lookup(provider)
    jobs: list[JobRow | NewJob] = [*answers.rows.values(), *answers.new.values()]
    for job in {(job.category, job.product): job for job in jobs}.values():
        accounting_of(provider, lookup, job)


def _repair(provider: Provider, found: Difference, answers: _Answers) -> None:
    """Does what a difference says, but for what follows from Slurm's records (:func:`_finish`)."""
    job, now = found.job, provider.now()
    log.info("job %s: %s", job.id, found.what)
    if job.row is None and found.act is not Act.LEAVE:
        provider.observations.adopt(answers.new[job.id], now)
    row = provider.jobs.get(job.id)
    if row is None:
        return
    if found.act in (Act.ADOPT, Act.FOUND, Act.CLOSE, Act.STATE) and job.ucloud is not None:
        with provider.store.writing():
            provider.outbox.drop_updates(job.id, HAD, now)
            provider.observations.record_known_state(job.id, job.ucloud)
    match found.act:
        case Act.ADOPT | Act.FOUND | Act.CLOSE if row.phase in UNSUBMITTED:
            provider.observations.look_up(job.id)
            adopt(provider, row, answers.found.get(job.id, []))
        case Act.REPEAT:
            repeat_update(provider, row)
        case Act.FORGET:
            provider.outbox.drop(job.id, HAD, now)
        case Act.END:
            provider.outbox.drop_updates(job.id, HAD, now)
            _end(provider, row, JobUpdate(JobState.FAILURE, found.why))
        case _:
            pass


def _end(provider: Provider, row: JobRow, update: JobUpdate) -> None:
    if row.phase in UNSUBMITTED:
        provider.jobs.end_unsubmitted(row.id, update, provider.now(), used=None)
    else:
        provider.observations.record_end(row.id, update, None, provider.now())


def _finish(provider: Provider, differences: Sequence[Difference], answers: _Answers, *, behind: bool) -> None:
    """Bills and ends jobs by Slurm's records; then takes back what UCloud has had."""
    closed = {each.job.id: each.job.ucloud for each in differences if each.act is Act.CLOSE and each.job.ucloud}
    asked = answers.rows.keys() | answers.new.keys()
    rows = [row for row in provider.jobs.open(provider.scheduler.cluster) if row.phase is JobPhase.LIVE and row.id in asked]
    Poller(provider, Lookup(provider)).poll([row for row in rows if behind or row.id in closed], answers.queue, answers.runs)
    for job_id, state in closed.items():
        with provider.store.writing():
            if (row := provider.jobs.get(job_id)) is not None:
                _end(provider, row, JobUpdate(JobState(state), row.reason or ""))
            provider.outbox.drop(job_id, HAD, provider.now())
            provider.observations.record_known_state(job_id, state)
    if behind:
        provider.outbox.assume_sent()
        provider.tasks.give_up(provider.now())
        provider.wallets.forget_locks()
