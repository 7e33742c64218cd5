"""The jobs table: the mapping from UCloud's jobs to Slurm's, and where each one stands."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ucloud_slurm.store.job_rows import LEAN, WHOLE, JobRow, NewJob, OpenJob
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.store.sqlite import Connection, Row, Store
from ucloud_slurm.ucloud.reports import Charge, JobState, JobUpdate, Usage

WINDOW = 10.0  # seconds over which the pace of submissions is counted
_THESE = "id in (select value from json_each(?))"
# By their ids: SQLite would rather go through all jobs of a phase.
_SUBMITTING = f"+phase = 'submitting' and {_THESE}"

_INSERT = (
    "insert into jobs (id, phase, name, local_user, owner, project, category, product, fingerprint, body, "
    "accepted_at, promised_at, confirmed_at, claimed_until, attempted_at, attempts, found_only, stop, stop_at, "
    "slurm_id, submitted_at, state, outside) values (:id, :phase, :name, :local_user, :owner, :project, :category, "
    ":product, :fingerprint, :body, :accepted_at, :acknowledged_at, :confirmed_at, :claimed_until, :attempted_at, "
    ":attempts, :lookup_only, :stop, :stop_at, :slurm_id, :submitted_at, :state, :external) on conflict (id) do nothing"
)
_UNSET = {
    "acknowledged_at": None,
    "confirmed_at": None,
    "claimed_until": None,
    "attempted_at": None,
    "attempts": 0,
    "lookup_only": False,
    "stop": None,
    "stop_at": None,
    "slurm_id": None,
    "submitted_at": None,
    "state": None,
    "external": False,
}


class Jobs:
    """Reading and changing jobs. What must be told is written in the transaction of its cause."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- reading --------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> JobRow | None:
        """The job with this id of UCloud's."""
        found = self._whole("where id = ?", [job_id])
        return found[0] if found else None

    def in_phase(self, *phases: JobPhase) -> list[JobRow]:
        """All jobs in these phases, oldest first."""
        marks = ",".join("?" * len(phases))
        return self._whole(f"where phase in ({marks}) order by accepted_at, id", phases)

    def _whole(self, which: str, parameters: Sequence[Any]) -> list[JobRow]:
        return [JobRow.read(row) for row in self.store.rows(f"select {WHOLE} from jobs {which}", parameters)]

    def open(self) -> list[OpenJob]:
        """All jobs that have not ended, oldest first."""
        return self._lean("indexed by jobs_open where phase in ('accepted', 'submitting', 'live')")

    def to_stop(self) -> list[OpenJob]:
        """Jobs that Slurm has and that are to end, oldest first."""
        return self._lean("indexed by jobs_to_stop where phase = 'live' and stop is not null")

    def _lean(self, which: str, parameters: Sequence[Any] = ()) -> list[OpenJob]:
        # The index is named: left to itself SQLite takes the one of all phases, and sorts, or reads what is live.
        sql = f"select {LEAN} from jobs {which} order by accepted_at, id"
        return [OpenJob.of(*row) for row in self.store.tuples(sql, parameters)]

    def newest(self, most: int) -> list[JobRow]:
        """The jobs that were written down last, newest first."""
        # By rowid: no index is kept for what is asked by people only.
        return self._whole("order by rowid desc limit ?", [most])

    def count(self) -> dict[str, int]:
        """How many jobs are in each phase."""
        return {row["phase"]: row["jobs"] for row in self.store.rows("select phase, jobs from phases")}

    def known(self, slurm_ids: Collection[int]) -> dict[int, list[OpenJob]]:
        """The jobs that are or were these Slurm jobs: Slurm uses its ids again."""
        found: dict[int, list[OpenJob]] = {}
        sql = f"select {LEAN} from jobs where slurm_id in (select value from json_each(?))"
        for row in self.store.tuples(sql, [json.dumps(list(slurm_ids))]):
            job = OpenJob.of(*row)
            found.setdefault(job.slurm_id or 0, []).append(job)
        return found

    def named(self, name: str, user: str) -> bool:
        """Whether a job that we submitted bears that name in Slurm."""
        sql = "select 1 from jobs where name = ? and local_user = ? and not outside"
        return self.store.row(sql, [name, user]) is not None

    def runs(self, job_id: str) -> list[Row]:
        """The runs of a job that have ended, oldest first."""
        return self.store.rows("select * from runs where job_id = ? order by submitted", [job_id])

    def charges(self, job_id: str) -> list[Row]:
        """The charges of a job, oldest first."""
        return self.store.rows("select * from charges where job_id = ? order by start", [job_id])

    # -- accepting and submitting ---------------------------------------------------------------------------

    def fingerprints(self, ids: Collection[str]) -> dict[str, str]:
        """What those of these jobs have as their contents that came before."""
        sql = "select id, fingerprint from jobs where id in (select value from json_each(?))"
        return {row["id"]: row["fingerprint"] for row in self.store.rows(sql, [json.dumps(list(ids))])}

    def accept(
        self,
        new: Iterable[NewJob],
        *,
        claimed: Collection[str] = (),
        attempted_at: float | None = None,
        claimed_until: float | None = None,
    ) -> set[str]:
        """Writes new jobs in one transaction; those that exist stay as they are.

        :param claimed: ids of those whose first submission is claimed by the caller
        :param attempted_at: when these submissions begin, in seconds since the epoch
        :param claimed_until: when these claims expire
        :returns: the ids of those that were written
        """
        begun: dict[str, object] = {
            "phase": JobPhase.SUBMITTING,
            "attempts": 1,
            "attempted_at": attempted_at,
            "claimed_until": claimed_until,
        }
        waiting: dict[str, object] = {"phase": JobPhase.ACCEPTED}
        with self.store.writing():
            return {job.id for job in new if self._insert(job, begun if job.id in claimed else waiting)}

    def adopt(self, job: NewJob, now: float, stop: Stop | None = None) -> bool:
        """Writes a job that UCloud has and that is not known here: it is looked up in Slurm, never submitted.

        :param stop: why it must end
        :returns: False when the job exists
        """
        unknown = {"phase": JobPhase.SUBMITTING, "lookup_only": True, "attempted_at": now}
        marked = {"stop": stop, "stop_at": None if stop is None else now}
        return self._insert(job, {**unknown, **marked, "acknowledged_at": now, "confirmed_at": now})

    def register(self, job: NewJob, slurm_id: int, submitted_at: int, now: float) -> bool:
        """Writes a job that was submitted outside UCloud and that UCloud has been told of.

        :returns: False when the job exists
        """
        there = {"phase": JobPhase.LIVE, "slurm_id": slurm_id, "submitted_at": submitted_at}
        known = {"state": JobState.IN_QUEUE, "acknowledged_at": now, "confirmed_at": now, "external": True}
        return self._insert(job, {**there, **known})

    def _insert(self, job: NewJob, state: dict[str, object]) -> bool:
        return bool(self.store.change(_INSERT, {**_UNSET, **asdict(job), **state}))

    def acknowledge(self, ids: Collection[str], now: float) -> list[JobRow]:
        """Decides to answer create with success, unless one of the jobs has been refused.

        :returns: the refused ones; none, and from now on a refusal is a FAILURE of the job
        """
        these = json.dumps(list(ids))
        gone = "phase = 'refused' or stop = 'rolled-back'"
        which = f"where ({gone}) and {_THESE}"
        undecided = f"select 1 from jobs where (promised_at is null or {gone}) and {_THESE} limit 1"
        if self.store.row(undecided, [these]) is None:
            return []
        with self.store.writing():
            refused = self._whole(which, [these])
            if not refused:
                self.store.change(
                    f"update jobs set promised_at = ? where promised_at is null and {_THESE}", [now, these]
                )
        return refused

    def claim(self, ids: Collection[str], now: float, until: float, pace: float | None = None) -> dict[str, int]:
        """Claims an attempt to submit each of these jobs, but those that are claimed, stopped or held already.

        :param until: when the claims expire, in seconds since the epoch
        :param pace: most submissions a second as one local user, over :data:`WINDOW`; None: no bound
        :returns: the claimed jobs with the number of the attempt, which tells its outcome from that of others
        """
        with self.store.writing():
            if pace is not None:
                ids = self._within_pace(ids, now, pace)
            rows = self.store.rows(
                "update jobs set phase = 'submitting', attempted_at = ?, claimed_until = ?, attempts = attempts + 1 "
                f"where {_THESE} and +phase = 'accepted' and stop is null and held_at is null returning id, attempts",
                [now, until, json.dumps(list(ids))],
            )
        return {row["id"]: int(row["attempts"]) for row in rows}

    def _within_pace(self, ids: Collection[str], now: float, pace: float) -> list[str]:
        """As many of these jobs, in their order, as may be submitted now for each local user."""
        users = self.store.rows(f"select id, local_user from jobs where {_THESE}", [json.dumps(list(ids))])
        of = {row["id"]: row["local_user"] for row in users}
        remaining = {user: self.rate_limit_remaining(user, now, pace) for user in of.values()}
        allowed = []
        for job_id in ids:
            user = of.get(job_id)
            if user is not None and remaining[user] > 0:
                remaining[user] -= 1
                allowed.append(job_id)
        return allowed

    def rate_limit_remaining(self, user: str, now: float, pace: float) -> int:
        """How many submissions as that account may begin now. See :meth:`claim`."""
        found = self.store.row(
            "select count(*) as number from jobs where local_user = ? and attempted_at > ? and attempted_at <= ?",
            [user, now - WINDOW, now],
        )
        return int(max(1.0, pace * WINDOW)) - (int(found["number"]) if found else 0)

    def any_claimed(self, ids: Collection[str]) -> bool:
        """Whether a submission of one of these jobs is claimed."""
        sql = f"select 1 from jobs where claimed_until is not null and {_SUBMITTING}"
        return self.store.row(sql, [json.dumps(list(ids))]) is not None

    def submitted(
        self,
        job_id: str,
        slurm_id: int,
        submitted_at: int | None,
        *,
        attempt: int | None = None,
        acknowledged_at: float | None = None,
    ) -> bool:
        """The submission made this Slurm job.

        :param attempt: whose outcome this is; None: it was found by its name
        :param acknowledged_at: create can be answered with success now
        :returns: False when nobody waits for it any more: the Slurm job is one too many
        """
        return bool(
            self.store.change(
                "update jobs set phase = 'live', slurm_id = ?, submitted_at = ?, claimed_until = null, "
                "state = coalesce(state, 'IN_QUEUE'), "
                "promised_at = case when stop is 'rolled-back' then promised_at else coalesce(promised_at, ?) end "
                "where id = ? and phase = 'submitting' and attempts = coalesce(?, attempts)",
                [slurm_id, submitted_at, acknowledged_at, job_id, attempt],
                durable=False,  # without it the job is looked up by its name
            )
        )

    def mark_outcome_unknown(self, job_id: str, attempt: int, now: float) -> None:
        """This attempt has an unknown outcome; it is to be looked up before the next one."""
        self.store.change(
            "update jobs set claimed_until = null, attempted_at = ? "
            "where id = ? and phase = 'submitting' and attempts = ?",
            [now, job_id, attempt],
        )

    def release_claim(self, job_ids: Collection[str], attempt: int) -> None:
        """This attempt has submitted none of these jobs; they can be claimed again."""
        sql = f"update jobs set phase = 'accepted', claimed_until = null where attempts = ? and {_SUBMITTING}"
        self.store.change(sql, [attempt, json.dumps(list(job_ids))])

    def refused(self, job_id: str, status: int, why: str, now: float, *, attempt: int | None = None) -> None:
        """Slurm or we do not take the job.

        Before create is answered that is its answer, and UCloud forgets the job; later it is a FAILURE.

        :param attempt: whose outcome this is; None: it is that of none
        """
        with self.store.writing():
            row = self.get(job_id)
            if row is None or row.phase not in (JobPhase.ACCEPTED, JobPhase.SUBMITTING):
                return
            if attempt is not None and row.attempts != attempt:
                return
            self.store.change("update jobs set refused_status = ?, refused_why = ? where id = ?", [status, why, job_id])
            if row.acknowledged_at is None:
                self.store.change(
                    "update jobs set phase = 'refused', claimed_until = null, ended_at = ? where id = ?", [now, job_id]
                )
            else:
                self.enqueue_update(job_id, JobUpdate(JobState.FAILURE, why), now)
                self.ended(job_id, 0, now)

    def roll_back(self, job_ids: Collection[str], status: int, why: str, now: float) -> list[OpenJob]:
        """Takes the jobs of a bulk back of which one was refused.

        Left alone are those that are refused already, and those whose create was acknowledged: they came in another
        request as well. What is not submitted becomes refused; the others are marked to end.

        :param why: the reason of the refusal
        :returns: those that Slurm has and that must be cancelled, oldest first
        """
        these = json.dumps(list(job_ids))
        with self.store.writing():
            self.store.change(
                "update jobs set refused_status = ?1, refused_why = ?2, "
                "phase = case phase when 'accepted' then 'refused' else phase end, "
                "ended_at = case phase when 'accepted' then ?3 else ended_at end, "
                "stop = case when phase in ('submitting', 'live') then coalesce(stop, 'rolled-back') else stop end, "
                "stop_at = case when phase in ('submitting', 'live') and stop is null then ?3 else stop_at end "
                "where promised_at is null and +phase <> 'refused' and id in (select value from json_each(?4))",
                [status, why, now, these],
            )
            return self._lean(
                f"where promised_at is null and +phase = 'live' and +stop = 'rolled-back' and {_THESE}", [these]
            )

    # -- holding --------------------------------------------------------------------------------------------

    def held(self, job_id: str, update: JobUpdate, now: float) -> None:
        """The job is held in the queue by us, or about to be; UCloud is told once."""
        with self.store.writing():
            if self.store.change(
                "update jobs set held_at = ? where id = ? and held_at is null and stop is null "
                "and phase in ('accepted', 'live')",
                [now, job_id],
            ):
                self.enqueue_update(job_id, update, now)

    def released(self, job_id: str, update: JobUpdate | None, now: float) -> None:
        """The job is not held by us any more.

        :param update: what UCloud is told
        """
        with self.store.writing():
            if (
                self.store.change(
                    "update jobs set held_at = null "
                    "where id = ? and held_at is not null and phase in ('accepted', 'live')",
                    [job_id],
                )
                and update is not None
            ):
                self.enqueue_update(job_id, update, now)

    # -- watching -------------------------------------------------------------------------------------------

    def stop(self, job_id: str, stop: Stop, now: float) -> None:
        """Writes down that the job is to end. The first reason stays."""
        self.store.change(
            "update jobs set stop = ?, stop_at = ? where id = ? and stop is null "
            "and phase in ('accepted', 'submitting', 'live')",
            [stop, now, job_id],
        )

    def seen(self, job_id: str, **changes: Any) -> None:
        """Writes what was seen of a job on the cluster: the named columns."""
        columns = ", ".join(f"{column} = :{column}" for column in changes)
        self.store.change(f"update jobs set {columns} where id = :id", {**changes, "id": job_id})

    def enqueue_update(self, job_id: str, update: JobUpdate, now: float) -> None:
        """Changes the job's state for UCloud, and puts the update into the outbox in the same transaction."""
        with self.store.writing() as db:
            if update.state is not None:
                self.store.change(
                    "update jobs set state = ?, reason = ? where id = ?", [update.state, update.status, job_id]
                )
            put(db, job_id, "update", update.body(job_id), now)

    def limited(self, job_id: str, minutes: int, update: JobUpdate, now: float) -> None:
        """The job has a new time limit; UCloud is told unless it has been told this one."""
        with self.store.writing():
            if self.store.change(
                "update jobs set time_limit = ? where id = ? and time_limit is not ?", [minutes, job_id, minutes]
            ):
                self.enqueue_update(job_id, update, now)

    def repeat_update(self, job_id: str, update: JobUpdate, now: float) -> None:
        """Puts an update that UCloud should know already into the outbox, unless the same one waits there."""
        with self.store.writing() as db:
            body = update.body(job_id)
            waiting = self.store.row(
                "select body from outbox where job_id = ? and outcome is null order by id desc limit 1", [job_id]
            )
            if waiting is None or json.loads(waiting["body"]) != body:
                put(db, job_id, "update", body, now)

    def charge(self, charge: Charge, slurm_id: int, covered: int, now: float, usage: Usage | None = None) -> None:
        """Writes a charge into the ledger and the outbox, and moves the job's mark on.

        :param usage: what is told instead of the charge; it takes the place of one that still waits
        """
        with self.store.writing() as db:
            row = self.store.row("select charged from jobs where id = ?", [charge.job_id])
            start = row["charged"] if row else 0
            db.table("charges").insert(
                {
                    "charge_id": charge.charge_id,
                    "job_id": charge.job_id,
                    "slurm_id": slurm_id,
                    "start": start,
                    "end": start + covered,
                    "units": charge.units,
                    "multiplier": charge.multiplier,
                    "created_at": now,
                    "outcome": None,
                }
            )
            self.store.change("update jobs set charged = charged + ? where id = ?", [covered, charge.job_id])
            if usage is None:
                self.store.change("update jobs set by_periods = by_periods + ? where id = ?", [covered, charge.job_id])
                put(db, charge.job_id, "charge", charge.body(), now)
            elif not self.store.change(
                "update outbox set body = ? where job_id = ? and kind = 'usage' and outcome is null",
                [json.dumps(usage.body()), charge.job_id],
            ):
                put(db, charge.job_id, "usage", usage.body(), now)

    def unconfirmed(self, before: float, most: int = 1000) -> list[JobRow]:
        """Jobs accepted before that time of which UCloud has not said that it has them, oldest first.

        Of those that have ended only the ones of which something is still to be told. Those too whose create has no
        answer yet: it may never get one, when the process that was at it has died.
        """
        return self._whole(
            "where confirmed_at is null and phase <> 'refused' and stop is not 'rolled-back' "
            "and (phase <> 'ended' or exists (select 1 from outbox where job_id = jobs.id and outcome is null)) "
            "and accepted_at <= ? order by accepted_at, id limit ?",
            [before, most],
        )

    def confirmed(self, ids: Iterable[str], now: float) -> None:
        """UCloud has these jobs."""
        with self.store.writing() as db:
            db.conn.executemany(
                "update jobs set confirmed_at = ? where id = ? and confirmed_at is null", [(now, id_) for id_ in ids]
            )

    def forgotten(self, job_id: str, why: str, now: float) -> None:
        """UCloud does not have the job: it is to vanish, and nothing more is told or charged of it."""
        with self.store.writing():
            self.store.change(
                "update outbox set outcome = 'dropped', settled_at = ?, answer = ? "
                "where job_id = ? and outcome is null",
                [now, why, job_id],
            )
            self.store.change(
                "update jobs set stop = 'rolled-back', stop_at = ?, refused_why = ?, "
                "phase = case when phase = 'ended' then 'refused' else phase end where id = ?",
                [now, why, job_id],
            )

    def ended(self, job_id: str, used: int | None, now: float) -> None:
        """The job has come to its end; nothing more follows."""
        self.store.change(
            "update jobs set phase = 'ended', used = ?, ended_at = ?, claimed_until = null where id = ?",
            [used, now, job_id],
        )

    def keep_runs(self, job_id: str, runs: Sequence[dict[str, Any]]) -> None:
        """Writes the runs of a job that have ended."""
        with self.store.writing() as db:
            db.table("runs").upsert_all([{"job_id": job_id, **run} for run in runs], pk=("job_id", "submitted"))


def put(db: Connection, job_id: str, kind: str, body: dict[str, object], now: float) -> None:
    """Puts a message into the outbox, inside the transaction of its cause."""
    db.table("outbox").insert({"job_id": job_id, "kind": kind, "body": json.dumps(body), "created_at": now})
