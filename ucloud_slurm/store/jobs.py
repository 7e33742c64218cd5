"""The table jobs: reading it, accepting jobs, submission, and the marks of jobs that must end or are held.

Each method that changes a state is an event of :mod:`ucloud_slurm.store.job_state`; what UCloud must hear of it is
enqueued in the same transaction. What is seen of jobs on the cluster is in :mod:`ucloud_slurm.store.observations`.
"""

import json
from collections.abc import Collection, Iterable

from ucloud_slurm.store.job_rows import JobRow, NewJob, OpenJob, insert, lean, take_number, whole
from ucloud_slurm.store.job_state import END, IS_UNKNOWN, OPEN, JobPhase, Stop
from ucloud_slurm.store.maintenance import CLOSED
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.sqlite import BUSY_SECONDS, Store
from ucloud_slurm.ucloud.reports import JobState, JobUpdate

RATE_WINDOW_SECONDS = 10.0  # over which the rate of submissions is counted
_IDS = "id in (select value from json_each(?))"
# By their ids: SQLite would rather read all jobs of the phase.
_SUBMITTING = f"+phase = 'submitting' and {_IDS}"
_HOLDABLE = "phase in ('accepted', 'live')"
# UCloud hears that the job was refused: its create has been, or will be, answered with success.
_REPORTED = "promised_at is not null and stop is not 'rolled-back'"


class Jobs:
    """The table jobs. Every change is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outbox = Outbox(store)

    def get(self, job_id: str) -> JobRow | None:
        """The job with this id of UCloud's."""
        found = whole(self._store, "where id = ?", [job_id])
        return found[0] if found else None

    def in_phase(self, *phases: JobPhase) -> list[JobRow]:
        """All jobs in these phases, oldest first."""
        marks = ",".join("?" * len(phases))
        return whole(self._store, f"where phase in ({marks}) order by accepted_at, id", phases)

    def unknown(self, now: float) -> list[JobRow]:
        """All jobs whose submission has an unknown outcome, oldest first."""
        return whole(self._store, f"where {IS_UNKNOWN} order by accepted_at, id", [now])

    def open(self, cluster: str | None = None) -> list[OpenJob]:
        """All jobs that have not ended, oldest first.

        :param cluster: without those that were submitted to another one; None: all
        """
        # Without its name SQLite takes the index of all phases, and sorts.
        here = "(?1 is null or cluster is null or cluster = ?1)"
        return lean(self._store, f"indexed by jobs_open where {OPEN} and {here} order by accepted_at, id", [cluster])

    def to_stop(self) -> list[OpenJob]:
        """Jobs that Slurm has and that must end, oldest first."""
        # Without its name SQLite takes another index, and reads all that is live.
        which = "indexed by jobs_to_stop where phase = 'live' and stop is not null order by accepted_at, id"
        return lean(self._store, which)

    def newest(self, most: int) -> list[JobRow]:
        """The jobs that were written last, newest first."""
        # By rowid: there is no index for what only the command line asks.
        return whole(self._store, "order by rowid desc limit ?", [most])

    def count(self) -> dict[str, int]:
        """How many jobs are in each phase."""
        return {row["phase"]: row["jobs"] for row in self._store.rows("select phase, jobs from phases")}

    def fingerprints(self, ids: Collection[str]) -> dict[str, str]:
        """The fingerprints of those of these jobs that exist, by id."""
        sql = f"select id, fingerprint from jobs where {_IDS}"
        return {row["id"]: row["fingerprint"] for row in self._store.rows(sql, [json.dumps(list(ids))])}

    def accept(
        self,
        new: Iterable[NewJob],
        *,
        claimed: Collection[str] = (),
        attempted_at: float | None = None,
        claimed_until: float | None = None,
        acknowledged_at: float | None = None,
    ) -> set[str]:
        """Writes new jobs in one transaction; those that exist stay as they are.

        :param claimed: ids of those whose first submission is claimed by the caller
        :param attempted_at: when these submissions begin, in seconds since the epoch
        :param claimed_until: when these claims expire
        :param acknowledged_at: their create is answered with success now
        :returns: the ids of those that were written
        """
        claim = {"attempts": 1, "attempted_at": attempted_at, "claimed_until": claimed_until}
        written = set()
        with self._store.writing():
            for job in new:
                begun = job.id in claimed
                phase = JobPhase.SUBMITTING if begun else JobPhase.ACCEPTED
                if insert(self._store, job, phase, promised_at=acknowledged_at, **(claim if begun else {})):
                    written.add(job.id)
        return written

    def acknowledge(self, ids: Collection[str], now: float) -> list[JobRow]:
        """Decides to answer create with success, unless one of the jobs has been refused or rolled back.

        :returns: these; if there are none, a later refusal of a job is its FAILURE
        """
        these = json.dumps(list(ids))
        gone = "phase = 'refused' or stop = 'rolled-back'"
        undecided = f"select 1 from jobs where (promised_at is null or {gone}) and {_IDS} limit 1"
        if self._store.row(undecided, [these]) is None:
            return []
        with self._store.writing():
            refused = whole(self._store, f"where ({gone}) and {_IDS}", [these])
            if not refused:
                sql = f"update jobs set promised_at = ? where promised_at is null and {_IDS}"
                self._store.change(sql, [now, these])
        return refused

    def claim(
        self,
        ids: Collection[str],
        now: float,
        until: float,
        pace: float | None = None,
        within: float = BUSY_SECONDS,
        built: str | None = None,
    ) -> dict[str, int]:
        """Claims an attempt to submit each of these jobs, except those that are claimed, must end or are held, and
        those of machines under maintenance.

        :param until: when the claims expire, in seconds since the epoch
        :param pace: most submissions a second as one Unix user, over :data:`RATE_WINDOW_SECONDS`; None: no limit
        :param built: what is submitted (:class:`NewJob`); None: that is written already
        :returns: the claimed jobs with the number of the attempt; the outcome of another attempt changes nothing
        """
        with self._store.writing(within=within):
            if pace is not None:
                ids = self._within_pace(ids, now, pace)
            rows = self._store.rows(
                "update jobs set phase = 'submitting', attempted_at = ?1, claimed_until = ?2, attempts = attempts + 1, "
                "built = coalesce(?3, built) where id in (select value from json_each(?4)) and +phase = 'accepted' "
                f"and stop is null and held_at is null and not {CLOSED} returning id, attempts",
                [now, until, built, json.dumps(list(ids))],
            )
        return {row["id"]: int(row["attempts"]) for row in rows}

    def _within_pace(self, ids: Collection[str], now: float, pace: float) -> list[str]:
        """As many of these jobs, in their order, as may be submitted now as each Unix user."""
        users = dict(self._store.tuples(f"select id, local_user from jobs where {_IDS}", [json.dumps(list(ids))]))
        remaining = {user: self.rate_limit_remaining(user, now, pace) for user in users.values()}
        allowed = []
        for job_id in ids:
            if job_id in users and remaining[users[job_id]] > 0:
                remaining[users[job_id]] -= 1
                allowed.append(job_id)
        return allowed

    def rate_limit_remaining(self, user: str, now: float, pace: float) -> int:
        """How many submissions as that Unix user may begin now. See :meth:`claim`."""
        ((begun,),) = self._store.tuples(
            "select count(*) from jobs where local_user = ? and attempted_at > ? and attempted_at <= ?",
            [user, now - RATE_WINDOW_SECONDS, now],
        )
        return int(max(1.0, pace * RATE_WINDOW_SECONDS)) - int(begun)

    def any_claimed(self, ids: Collection[str]) -> bool:
        """Whether a submission of one of these jobs is claimed."""
        sql = f"select 1 from jobs where claimed_until is not null and {_SUBMITTING}"
        return self._store.row(sql, [json.dumps(list(ids))]) is not None

    def submitted(
        self,
        job_id: str,
        slurm_id: int,
        submitted_at: int | None,
        *,
        cluster: str | None = None,
        uid: int | None = None,
        shape: str | None = None,
        attempt: int | None = None,
        acknowledged_at: float | None = None,
    ) -> bool:
        """The submission made this Slurm job.

        :param submitted_at: as Slurm says, in seconds since the epoch; None while that is not known
        :param cluster: Slurm's name of the cluster, where it is known
        :param shape: as submitted (:func:`ucloud_slurm.slurm.identity.shape`)
        :param uid: of the Slurm job's owner, where it was not known before
        :param attempt: whose outcome this is; None: the Slurm job was found by its name
        :param acknowledged_at: create is answered with success now
        :returns: False when the job does not wait for this outcome: the Slurm job is one too many
        """
        with self._store.writing(durable=False):  # if it is lost, the job is looked up by its name
            mine = self._store.change(
                "update jobs set phase = 'live', slurm_id = ?, submitted_at = ?, cluster = ?, "
                "uid = coalesce(uid, ?), shape = ?, claimed_until = null, "
                "state = coalesce(state, 'IN_QUEUE'), "
                "promised_at = case when stop is 'rolled-back' then promised_at else coalesce(promised_at, ?) end "
                "where id = ? and phase = 'submitting' and attempts = coalesce(?, attempts)",
                [slurm_id, submitted_at, cluster, uid, shape, acknowledged_at, job_id, attempt],
            )
            if mine:
                take_number(self._store, job_id, slurm_id)
        return bool(mine)

    def mark_outcome_unknown(self, job_id: str, attempt: int, now: float) -> None:
        """Nobody knows whether this attempt made a Slurm job; it is looked up before the next attempt."""
        self._store.change(
            "update jobs set claimed_until = null, attempted_at = ? where id = ? and phase = 'submitting' and attempts = ?",
            [now, job_id, attempt],
        )

    def release_claim(self, job_ids: Collection[str], attempt: int) -> None:
        """This attempt has submitted none of these jobs; they can be claimed again."""
        sql = f"update jobs set phase = 'accepted', claimed_until = null where attempts = ? and {_SUBMITTING}"
        self._store.change(sql, [attempt, json.dumps(list(job_ids))])

    def refused(self, job_id: str, status: int, why: str, now: float, *, attempt: int | None = None) -> None:
        """Slurm refuses the job, or we do.

        Before create is acknowledged that is its answer, and UCloud forgets the job; later it is a FAILURE.

        :param status: of the HTTP answer
        :param attempt: whose outcome this is; None: no attempt's
        """
        with self._store.writing():
            changed = self._store.row(
                "update jobs set refused_status = ?1, refused_why = ?2, ended_at = ?3, claimed_until = null, "
                f"phase = case when {_REPORTED} then 'ended' else 'refused' end, "
                f"used = case when {_REPORTED} then 0 else used end "
                "where id = ?4 and phase in ('accepted', 'submitting') and attempts = coalesce(?5, attempts) "
                "returning phase",
                [status, why, now, job_id, attempt],
            )
            if changed and changed["phase"] == JobPhase.ENDED:
                self._outbox.enqueue_update(job_id, JobUpdate(JobState.FAILURE, why), now)

    def roll_back(self, job_ids: Collection[str], status: int, why: str, now: float) -> list[OpenJob]:
        """Takes the jobs of a bulk back of which one was refused.

        Those that are refused already stay as they are, and those whose create was acknowledged: they came in another
        request as well. What is not submitted becomes refused; the others are marked to end.

        :param status: of the HTTP answer
        :param why: the reason of the refusal
        :returns: those that Slurm has and that must be cancelled, oldest first
        """
        these = json.dumps(list(job_ids))
        with self._store.writing():
            self._store.change(
                "update jobs set refused_status = ?1, refused_why = ?2, "
                "phase = case phase when 'accepted' then 'refused' else phase end, "
                "ended_at = case phase when 'accepted' then ?3 else ended_at end, "
                "stop = case when phase in ('submitting', 'live') then coalesce(stop, 'rolled-back') else stop end, "
                "stop_at = case when phase in ('submitting', 'live') and stop is null then ?3 else stop_at end "
                "where promised_at is null and +phase <> 'refused' and id in (select value from json_each(?4))",
                [status, why, now, these],
            )
            return lean(
                self._store,
                f"where promised_at is null and +phase = 'live' and +stop = 'rolled-back' and {_IDS} order by accepted_at, id",
                [these],
            )

    def end_unsubmitted(self, job_id: str, update: JobUpdate, now: float, *, used: int | None = 0) -> None:
        """Ends a job that Slurm never had. UCloud hears the update, unless the job is rolled back.

        :param used: node-seconds or CPU-seconds; None: that is not known
        """
        with self._store.writing():
            ended = self._store.row(
                f"{END} where id = ? and phase in ('accepted', 'submitting') returning phase", [used, now, job_id]
            )
            if ended and ended["phase"] == JobPhase.ENDED:
                self._outbox.enqueue_update(job_id, update, now)

    def stop(self, job_id: str, stop: Stop, now: float) -> bool:
        """Marks a job that must end; returns whether it was not marked before. The first reason stays."""
        sql = f"update jobs set stop = ?, stop_at = ? where id = ? and stop is null and {OPEN}"
        return bool(self._store.change(sql, [stop, now, job_id]))

    def held(self, job_id: str, update: JobUpdate, now: float) -> None:
        """We hold the job in the queue, or are about to; UCloud hears the update once."""
        with self._store.writing():
            if self._store.change(
                f"update jobs set held_at = ? where id = ? and held_at is null and stop is null and {_HOLDABLE}", [now, job_id]
            ):
                self._outbox.enqueue_update(job_id, update, now)

    def released(self, job_id: str, update: JobUpdate | None, now: float) -> None:
        """We do not hold the job any more.

        :param update: for UCloud; None: nothing
        """
        with self._store.writing():
            sql = f"update jobs set held_at = null where id = ? and held_at is not null and {_HOLDABLE}"
            if self._store.change(sql, [job_id]) and update is not None:
                self._outbox.enqueue_update(job_id, update, now)
