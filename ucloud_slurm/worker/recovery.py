"""Recovery of submissions with an unknown outcome.

The Slurm job is looked up by its name in squeue and in sacct. A name is only a search key: anybody can give it to any
job. What is found is adopted if it is provably ours; the rest stays untouched, and the owner hears of it. The
submission is retried only if neither has ours after a quiet time in which Slurm answered.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ucloud_slurm.bridge import naming
from ucloud_slurm.errors import Problem
from ucloud_slurm.provider.cancellation import cancel_duplicate, end_unsubmitted
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.identities import NO_USER
from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.identity import BuiltJob
from ucloud_slurm.slurm.records import Candidate, RunFilter, RunRecord, SlurmJobId
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.users.mapping import IdentityUnavailableError

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 20
SUBMISSION_SKEW_SECONDS = 300.0  # that the clocks of this host and of slurmctld may differ (munge(7): its default TTL)
LATE_SECONDS = 24 * 3600.0  # that an earlier attempt of a job is looked for
IMITATION = "imitation"  # as the kind of reason for which a job waits
UNKNOWN = "The provider does not know this job."
LOST = (
    "The job has ended on the cluster. The provider has lost its record of it, and you are not connected with an account on "
    "the cluster, so it cannot tell how."
)
IMITATED = (
    "A job with the name of this one ({id}) is on the cluster, but it was not submitted by this provider. It is left as "
    "it is; please cancel it if you do not need it."
)


class _Proof(Enum):
    """What is known of a Slurm job that may be the one that is sought."""

    OURS = auto()
    OPEN = auto()  # it has our nonce, and another size or place: changed since, or copied; its command line says which
    FOREIGN = auto()
    UNCLAIMED = auto()  # it looks like ours, and nothing says at the moment as which user ours would run


@dataclass(frozen=True, slots=True)
class _Found:
    """A Slurm job that may be the one that is sought.

    :ivar nonce: the comment of the attempt that made it; None: it is not known which one did
    :ivar ended: seconds since the epoch; None while it has not ended, as far as the source says
    """

    id: SlurmJobId
    uid: int
    submitted: int
    nonce: str | None
    proof: _Proof
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class _Sought:
    """What is looked for, and how it is known.

    :ivar begins: the part of the comment that everybody knows
    :ivar comments: those of our attempts; empty where they are lost with the database
    """

    row: JobRow
    built: BuiltJob | None
    begins: str
    comments: frozenset[str]

    @classmethod
    def of(cls, provider: Provider, row: JobRow) -> "_Sought":
        begins = naming.comment(provider.config.provider.id, row.id)
        secret = None if row.lookup_only else row.secret
        nonces = (naming.nonce(secret, attempt) for attempt in range(1, row.attempts + 1)) if secret else ()
        return cls(row, BuiltJob.read(row.built), begins, frozenset(f"{begins}:{nonce}" for nonce in nonces))

    @property
    def is_ownerless(self) -> bool:
        """Whether it is not known as which user the job runs: the database is lost, and the mapping has no such owner."""
        return self.row.uid is None and self.row.local_user == NO_USER.user

    @property
    def since(self) -> float:
        """What is sought may have been there since then, in seconds since the epoch.

        Of our own attempts an old one is not looked for; of a job that a lost database had, the end may be long ago.
        """
        accepted = max(0.0, self.row.accepted_at - SUBMISSION_SKEW_SECONDS)
        return accepted if self.row.lookup_only else max(accepted, (self.row.attempted_at or accepted) - LATE_SECONDS)

    def among(self, candidates: Iterable[Candidate]) -> list[_Found]:
        """What squeue lists under the name of this job; of a job of a lost database also what has its comment."""
        return [
            _Found(each.id, each.uid, each.submitted, each.comment, self._proof(each))
            for each in candidates
            if (each.name == self.row.name or (self.row.lookup_only and self._is_said_ours(each.comment)))
            and self._may_be(each.uid, each.submitted)
        ]

    def among_runs(self, runs: Iterable[RunRecord], listed: Sequence[_Found]) -> list[_Found]:
        """What sacct has of this job: the command line of a submission stays, whatever is changed of the job.

        :param listed: what squeue lists
        """
        before, found = {each.id: each for each in listed}, []
        for run in runs:
            if run.uid is None or not self._may_be(run.uid, run.submitted):
                continue
            known, proof = before.get(run.id), _Proof.FOREIGN
            nonce = next((comment for comment in self.comments if f"--comment={comment}" in run.submit_line), None)
            if self.is_ownerless:
                proof = self._likeness(run.comment or (known.nonce if known else None), run.submit_line)
            elif run.submit_line and self.comments:
                ours = nonce is not None and (self.built is None or self.built.is_line_of(run.submit_line))
                proof = _Proof.OURS if ours else _Proof.FOREIGN
            elif known is not None:  # a Slurm that keeps no command lines; the nonce decides
                nonce, proof = known.nonce, _Proof.FOREIGN if known.proof is _Proof.FOREIGN else _Proof.OURS
            elif run.name == self.row.name:
                nonce, proof = run.comment or None, self._proof(_candidate(run))
            if nonce is not None or run.name == self.row.name:
                found.append(_Found(run.id, run.uid, run.submitted, nonce, proof, run.ended))
        return found

    def _may_be(self, uid: int, submitted: int) -> bool:
        return self.row.uid in (None, uid) and submitted >= self.row.accepted_at - SUBMISSION_SKEW_SECONDS

    def _is_said_ours(self, comment: str | None) -> bool:
        """Whether a comment says of a job that it is this one, as everybody can write it."""
        return comment is not None and (comment == self.begins or comment.startswith(f"{self.begins}:"))

    def _likeness(self, comment: str | None, submit_line: str = "") -> _Proof:
        """What is known of a job of our name where everybody's may be ours."""
        said = comment is not None or bool(submit_line)
        ours = self._is_said_ours(comment) or re.search(rf"--comment={re.escape(self.begins)}(?!\d)", submit_line)
        return _Proof.UNCLAIMED if ours or not said else _Proof.FOREIGN

    def _proof(self, found: Candidate) -> _Proof:
        if self.is_ownerless:
            return self._likeness(found.comment)
        as_built = self.built is None or self.built.is_as_built(found)
        if found.comment is None:  # Slurm has forgotten the job, and the accounting does not keep comments
            return _Proof.OURS if as_built else _Proof.FOREIGN
        if found.comment not in self.comments if self.comments else not self._is_said_ours(found.comment):
            return _Proof.FOREIGN
        return _Proof.OURS if as_built else _Proof.OPEN


def recover_unknown(provider: Provider, rows: Sequence[JobRow]) -> None:
    """Finds the Slurm jobs of submissions with an unknown outcome, or makes the jobs ready for another attempt.

    :param rows: all jobs in the state *unknown*
    """
    sought = [_Sought.of(provider, row) for row in rows]
    try:
        # A job of a lost database may have got another name.
        names = None if any(row.lookup_only for row in rows) else {row.name for row in rows}
        candidates = provider.scheduler.queue_named(names)
    except SchedulerUnavailableError as error:
        log.warning("submissions with an unknown outcome cannot be looked up yet: %s", error)
        return
    listed = {each.row.id: each.among(candidates) for each in sought}
    waiting = [each for each in sought if not _adopt(provider, each.row, listed[each.row.id])]
    # Users' jobs may have got other names; where the user or the nonces are not known, only the name is.
    by_user = [each for each in waiting if each.row.uid is not None and each.comments]
    for some in (by_user, [each for each in waiting if each not in by_user]):
        if some:
            _look_up(provider, some, listed, by_user=some is by_user)


def _look_up(provider: Provider, waiting: Sequence[_Sought], listed: Mapping[str, Sequence[_Found]], *, by_user: bool) -> None:
    """Asks sacct."""
    uids, names = {each.row.uid for each in waiting}, {each.row.name for each in waiting}
    which = RunFilter(uids=frozenset(uid for uid in uids if uid is not None)) if by_user else RunFilter(names=frozenset(names))
    try:
        runs = provider.scheduler.runs_since(min(each.since for each in waiting), which)
    except SchedulerUnavailableError as error:
        log.warning("submissions with an unknown outcome cannot be looked up yet: %s", error)
        return
    now, answering = provider.now(), provider.breaker.of(SLURM).answering_since
    for each in waiting:
        row, seen = each.row, listed[each.row.id]
        found = each.among_runs(runs, seen)
        if _adopt(provider, row, found):
            continue
        unclaimed = [one for one in (*found, *seen) if one.proof is _Proof.UNCLAIMED]
        if unclaimed and _wait_for_owner(provider, row, unclaimed):
            continue
        numbers = {one.id for one in found}
        undecided = [one for one in seen if one.proof is _Proof.OPEN and one.id not in numbers]
        foreign = [one.id for one in (*found, *seen) if one.proof is _Proof.FOREIGN]
        _report_imitations(provider, row, foreign)
        begun = max(row.attempted_at or 0.0, row.claimed_until or 0.0)
        quiet = answering is not None and now - max(begun, answering) >= provider.config.jobs.quiet
        if quiet and not undecided:
            _never_arrived(provider, row, LOST if unclaimed else UNKNOWN)


def _wait_for_owner(provider: Provider, row: JobRow, unclaimed: Sequence[_Found]) -> bool:
    """Slurm has a job that looks like this one: it is adopted as soon as the mapping says as which user ours runs.

    :returns: False when it has ended long ago, and its owner has not come back
    """
    try:
        person = provider.mapping.identity(row.owner, row.project).person
    except IdentityUnavailableError:
        return True
    except Problem:
        ended = {one.id: one.ended for one in unclaimed if one.ended is not None}
        if all(one.id in ended for one in unclaimed) and provider.now() - max(ended.values()) >= LATE_SECONDS:
            return False
        numbers = ", ".join(str(number) for number in dict.fromkeys(one.id for one in unclaimed))
        log.warning("job %s: Slurm job %s looks like it; it waits until %s is connected", row.id, numbers, row.owner)
        return True
    if person.uid is not None:
        provider.observations.record_user(row.id, person.user, person.uid)
    return True


def _candidate(run: RunRecord) -> Candidate:
    requested = parse.tres(run.requested)
    return Candidate(
        id=run.id,
        name=run.name,
        uid=run.uid or 0,
        submitted=run.submitted,
        comment=run.comment or None,
        partition=run.partition,
        account=run.account,
        nodes=requested.nodes or run.nodes,
        cpus=requested.cpus or run.cpus,
        folder=run.folder,
    )


def _adopt(provider: Provider, row: JobRow, found: Sequence[_Found]) -> bool:
    """Adopts the Slurm job that is ours; of those of several attempts the first stays, and the others are cancelled.

    An attempt makes one job: a second one with the same nonce was submitted by somebody else, and is not touched.

    :returns: False when there is none
    """
    in_order = sorted(found, key=lambda each: (each.submitted, each.id))
    ours = {each.nonce: each for each in reversed(in_order) if each.proof is _Proof.OURS}
    if not ours:
        return False
    kept = {each.id for each in ours.values()}
    _report_imitations(provider, row, [each.id for each in in_order if each.id not in kept])
    first, *later = sorted(ours.values(), key=lambda each: (each.submitted, each.id))
    log.info("job %s: is Slurm job %d, found by its name", row.id, first.id)
    provider.jobs.submitted(row.id, first.id, None, cluster=provider.scheduler.cluster, uid=first.uid)
    for each in later:
        if each.id != first.id and each.nonce is not None:
            cancel_duplicate(provider, row.id, each.id, each.uid)
    return True


def _report_imitations(provider: Provider, row: JobRow, others: Sequence[int]) -> None:
    before = provider.jobs.get(row.id) if others else None
    if before is None or before.waits_for == IMITATION:
        return
    numbers = ", ".join(str(number) for number in dict.fromkeys(others))
    log.warning("job %s: Slurm job %s has its name, but is not ours; it is left as it is", row.id, numbers)
    update = JobUpdate(None, IMITATED.format(id=numbers))
    provider.observations.record_waiting(row.id, IMITATION, row.reasons, update, provider.now())


def _never_arrived(provider: Provider, row: JobRow, why: str) -> None:
    now = provider.now()
    if row.stop is not None:
        end_unsubmitted(provider, row)
    elif row.lookup_only:
        log.warning("job %s: UCloud has it; neither this provider nor Slurm knows it", row.id)
        update = JobUpdate(JobState.FAILURE, why)
        provider.jobs.end_unsubmitted(row.id, update, now, used=None)
    elif row.attempts >= MAX_ATTEMPTS:
        provider.jobs.refused(row.id, 500, "The cluster took the job in no attempt; please tell the provider's support.", now)
    else:
        log.info("job %s: its submission never reached Slurm; it is retried", row.id)
        provider.jobs.release_claim([row.id], row.attempts)
        # Its create ended long ago, and may have been answered: a refusal from now on is a FAILURE of the job.
        provider.jobs.acknowledge([row.id], now)
