"""Slurm jobs that may be one of ours: what a job is looked for by, and what proves that a found one is ours. Pure.

A name is only a search key: anybody can give it to any job.
"""

import re
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple

from ucloud_slurm.bridge import naming
from ucloud_slurm.provider.identities import NO_USER
from ucloud_slurm.slurm import parse
from ucloud_slurm.slurm.identity import BuiltJob
from ucloud_slurm.slurm.records import Candidate, RunFilter, RunRecord, SlurmJobId
from ucloud_slurm.store.job_rows import JobRow, NewJob

MAX_ATTEMPTS = 20
SUBMISSION_SKEW_SECONDS = 300.0  # that the clocks of this host and of slurmctld may differ (munge(7): its default TTL)
LATE_SECONDS = 24 * 3600.0  # that an earlier attempt of a job is looked for


class Proof(Enum):
    """What is known of a Slurm job that may be the one that is sought."""

    OURS = auto()
    OPEN = auto()  # it has our nonce, and another size or place: changed since, or copied; its command line says which
    FOREIGN = auto()
    UNCLAIMED = auto()  # it looks like ours, and nothing says at the moment as which user ours would run


class Found(NamedTuple):
    """A Slurm job that may be the one that is sought.

    :ivar nonce: the comment of the attempt that made it; None: it is not known which one did
    :ivar ended: seconds since the epoch; None while it has not ended, as far as the source says
    """

    id: SlurmJobId
    uid: int
    submitted: int
    nonce: str | None
    proof: Proof
    ended: int | None = None


class Sought(NamedTuple):
    """What is looked for, and how it is known. Times are seconds since the epoch.

    :ivar uid: of the user that it runs as; None: that is not known, or the job is of an earlier release
    :ivar since: what is sought may have been there since then
    :ivar lookup_only: it was lost with the database, so that nothing says what was submitted
    :ivar is_ownerless: it is not known as which user it runs: the mapping has no such owner either
    :ivar begins: the part of the comment that everybody knows
    :ivar comments: those of our attempts; empty where they are lost with the database
    """

    id: str
    name: str
    uid: int | None
    accepted_at: float
    since: float
    lookup_only: bool
    is_ownerless: bool
    built: BuiltJob | None
    begins: str
    comments: frozenset[str]

    @classmethod
    def of(cls, provider: str, row: JobRow, attempts: int) -> "Sought":
        """The Slurm job of a row.

        Of our own attempts an old one is not looked for; of a job that a lost database had, the end may be long ago.

        :param provider: our id
        :param attempts: how many there may have been
        """
        begins = naming.comment(provider, row.id)
        secret = None if row.lookup_only else row.secret
        nonces = (naming.nonce(secret, attempt) for attempt in range(1, attempts + 1)) if secret else ()
        since = max(0.0, row.accepted_at - SUBMISSION_SKEW_SECONDS)
        if not row.lookup_only:
            since = max(since, (row.attempted_at or since) - LATE_SECONDS)
        ownerless = row.uid is None and row.local_user == NO_USER.user
        comments = frozenset(f"{begins}:{nonce}" for nonce in nonces)
        built = BuiltJob.read(row.built)
        return cls(row.id, row.name, row.uid, row.accepted_at, since, row.lookup_only, ownerless, built, begins, comments)

    @classmethod
    def missing(cls, provider: str, job: NewJob) -> "Sought":
        """The Slurm job of a job that is not in the database any more."""
        begins, since = naming.comment(provider, job.id), max(0.0, job.accepted_at - SUBMISSION_SKEW_SECONDS)
        ownerless = job.uid is None and job.local_user == NO_USER.user
        return cls(job.id, job.name, job.uid, job.accepted_at, since, True, ownerless, None, begins, frozenset())

    def among(self, candidates: Iterable[Candidate]) -> list[Found]:
        """What squeue lists under the name of this job; of a job of a lost database also what has its comment."""
        return [
            Found(each.id, each.uid, each.submitted, each.comment, self._proof(each))
            for each in candidates
            if (each.name == self.name or (self.lookup_only and self._is_said_ours(each.comment)))
            and self._may_be(each.uid, each.submitted)
        ]

    def among_runs(self, runs: Iterable[RunRecord], listed: Sequence[Found]) -> list[Found]:
        """What sacct has of this job: the command line of a submission stays, whatever is changed of the job.

        :param listed: what squeue lists
        """
        before, found = {each.id: each for each in listed}, []
        for run in runs:
            if run.uid is None or not self._may_be(run.uid, run.submitted):
                continue
            known, proof = before.get(run.id), Proof.FOREIGN
            nonce = next((comment for comment in self.comments if f"--comment={comment}" in run.submit_line), None)
            if self.is_ownerless:
                proof = self._likeness(run.comment or (known.nonce if known else None), run.submit_line)
            elif run.submit_line and self.comments:
                ours = nonce is not None and (self.built is None or self.built.is_line_of(run.submit_line))
                proof = Proof.OURS if ours else Proof.FOREIGN
            elif known is not None:  # a Slurm that keeps no command lines; the nonce decides
                nonce, proof = known.nonce, Proof.FOREIGN if known.proof is Proof.FOREIGN else Proof.OURS
            elif run.name == self.name:
                nonce, proof = run.comment or None, self._proof(candidate_of(run))
            if nonce is not None or run.name == self.name:
                found.append(Found(run.id, run.uid, run.submitted, nonce, proof, run.ended))
        return found

    def _may_be(self, uid: int, submitted: int) -> bool:
        return self.uid in (None, uid) and submitted >= self.accepted_at - SUBMISSION_SKEW_SECONDS

    def _is_said_ours(self, comment: str | None) -> bool:
        """Whether a comment says of a job that it is this one, as everybody can write it."""
        return comment is not None and (comment == self.begins or comment.startswith(f"{self.begins}:"))

    def _likeness(self, comment: str | None, submit_line: str = "") -> Proof:
        """What is known of a job of our name where everybody's may be ours."""
        said = comment is not None or bool(submit_line)
        ours = self._is_said_ours(comment) or re.search(rf"--comment={re.escape(self.begins)}(?!\d)", submit_line)
        return Proof.UNCLAIMED if ours or not said else Proof.FOREIGN

    def _proof(self, found: Candidate) -> Proof:
        if self.is_ownerless:
            return self._likeness(found.comment)
        as_built = self.built is None or self.built.is_as_built(found)
        if found.comment is None:  # Slurm has forgotten the job, and the accounting does not keep comments
            return Proof.OURS if as_built else Proof.FOREIGN
        if found.comment not in self.comments if self.comments else not self._is_said_ours(found.comment):
            return Proof.FOREIGN
        return Proof.OURS if as_built else Proof.OPEN


def candidate_of(run: RunRecord) -> Candidate:
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


def by_attempt(found: Iterable[Found]) -> list[Found]:
    """Those that are provably ours, the one to keep first. An attempt makes one job: a second one with its nonce is foreign.

    Where the nonces are lost, a comment without one is ours only if there is none with one.
    """
    in_order = sorted(found, key=lambda each: (each.submitted, each.id))
    ours = {each.nonce: each for each in reversed(in_order) if each.proof is Proof.OURS}
    bare = {one for one in ours if one and any(other and other.startswith(f"{one}:") for other in ours)}
    return sorted((ours[nonce] for nonce in ours.keys() - bare), key=lambda each: (each.submitted, each.id))


def questions(sought: Sequence[Sought]) -> list[tuple[list[Sought], RunFilter]]:
    """What sacct is asked for. Users' jobs may have got other names; where the user or the nonces are not known, only the
    name is."""
    by_user = [each for each in sought if each.uid is not None and each.comments]
    by_name = [each for each in sought if each.uid is None or not each.comments]
    asked = [
        (by_user, RunFilter(uids=frozenset(each.uid for each in by_user if each.uid is not None))),
        (by_name, RunFilter(names=frozenset(each.name for each in by_name))),
    ]
    return [(some, which) for some, which in asked if some]
