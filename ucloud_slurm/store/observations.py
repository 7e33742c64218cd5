"""The table jobs: what was seen of jobs on the cluster and at UCloud, and their end."""

import json
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ucloud_slurm.store.job_rows import JobRow, NewJob, OpenJob, insert, lean, whole
from ucloud_slurm.store.job_state import END, OPEN, JobPhase, Stop
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.ucloud.reports import JobState, JobUpdate


class Observation(NamedTuple):
    """What squeue or sacct say of a job that was not recorded yet. None: nothing new. Times: seconds since the epoch.

    :ivar slurm_state: in Slurm's word
    :ivar submitted_at: when the job was submitted first
    :ivar run_submitted: when its present run was submitted
    :ivar time_limit: minutes
    :ivar uid: of its owner, where it was not known
    :ivar shape: partition, size and name
    :ivar times: what was bought is requested so many times
    :ivar found: it was absent, and is not any more
    """

    slurm_state: str | None = None
    submitted_at: int | None = None
    run_submitted: int | None = None
    time_limit: int | None = None
    uid: int | None = None
    shape: str | None = None
    times: int | None = None
    found: bool = False


NOTHING_NEW = Observation()


class Observations:
    """What was seen of jobs. Every change is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._outbox = Outbox(store)

    def record_observation(self, job_id: str, observation: Observation) -> None:
        """Records what is new of a job."""
        self._store.change(
            "update jobs set slurm_state = coalesce(:slurm_state, slurm_state), "
            "submitted_at = coalesce(:submitted_at, submitted_at), "
            "run_submitted = coalesce(:run_submitted, run_submitted), time_limit = coalesce(:time_limit, time_limit), "
            "uid = coalesce(:uid, uid), shape = coalesce(:shape, shape), times = coalesce(:times, times), "
            "missing_since = case when :found then null else missing_since end, "
            "missing_reads = case when :found then 0 else missing_reads end where id = :id",
            {**observation._asdict(), "id": job_id},
        )

    def record_absence(self, job_id: str, now: float, *, begun: bool = False) -> None:
        """Squeue and sacct answered, and neither has the job. When the answers change to the other kind, it begins anew.

        :param begun: sacct has its beginning, and no end; such answers are not counted
        """
        of_this_kind, reads = ("missing_reads = 0", "0") if begun else ("missing_reads > 0", "missing_reads + 1")
        self._store.change(
            f"update jobs set missing_since = case when {of_this_kind} then coalesce(missing_since, ?1) else ?1 end, "
            f"missing_reads = {reads} where id = ?2 and phase = 'live'",
            [now, job_id],
        )

    def record_waiting(self, job_id: str, kind: str | None, reasons: str | None, update: JobUpdate | None, now: float) -> None:
        """The kind of reason for which a job waits, None: none; UCloud hears the update.

        :param reasons: see :class:`OpenJob`
        """
        with self._store.writing():
            self._store.change("update jobs set waits_for = ?, reasons = ? where id = ?", [kind, reasons, job_id])
            if update is not None:
                self._outbox.enqueue_update(job_id, update, now)

    def record_clock(self, job_id: str, before: int) -> None:
        """UCloud hears that a job runs, of whose time limit so many minutes have passed."""
        self._store.change("update jobs set clock_before = ? where id = ?", [before, job_id])

    def report_run(self, job_id: str) -> None:
        """UCloud does not know that a job runs: the next pass reports anew what it does, with the time that it has left.

        While an update of the job waits, UCloud may hear of it yet.
        """
        self._store.change(
            "update jobs set state = null where id = ? and phase = 'live' and state = 'RUNNING' "
            "and not exists (select 1 from outbox where job_id = jobs.id and outcome is null and kind = 'update')",
            [job_id],
        )

    def record_time_limit(self, job_id: str, minutes: int, update: JobUpdate, now: float) -> None:
        """The job has a new time limit; UCloud hears of it once."""
        with self._store.writing():
            if self._store.change(
                "update jobs set time_limit = ? where id = ? and time_limit is not ?", [minutes, job_id, minutes]
            ):
                self._outbox.enqueue_update(job_id, update, now)

    def record_extension(self, job_id: str, request: str, now: float) -> None:
        """UCloud's request for more time was granted; its repetition is known by it."""
        self._store.change("update jobs set extension = ?, extended_at = ? where id = ?", [request, now, job_id])

    def record_end(self, job_id: str, update: JobUpdate, used: int | None, now: float) -> None:
        """A job that Slurm has had ends. UCloud hears the update, unless the job is rolled back.

        :param used: node-seconds or CPU-seconds; None: that is not known
        """
        with self._store.writing():
            ended = self._store.row(f"{END} where id = ? and phase = 'live' returning phase", [used, now, job_id])
            if ended and ended["phase"] == JobPhase.ENDED:
                self._outbox.repeat_last(job_id, now)
                self._outbox.enqueue_update(job_id, update, now)

    def by_slurm_id(self, slurm_ids: Collection[int]) -> dict[int, list[OpenJob]]:
        """The jobs that are or were these Slurm jobs, by Slurm's id. Slurm uses its ids again."""
        found: dict[int, list[OpenJob]] = {}
        for job in lean(self._store, "where slurm_id in (select value from json_each(?))", [json.dumps(list(slurm_ids))]):
            found.setdefault(job.slurm_id or 0, []).append(job)
        return found

    def on_another_cluster(self, cluster: str) -> int:
        """How many jobs that have not ended were submitted to another cluster."""
        ((number,),) = self._store.tuples(
            f"select count(*) from jobs indexed by jobs_open where {OPEN} and cluster <> ?", [cluster]
        )
        return int(number)

    def audited(self, since: float) -> list[JobRow]:
        """Jobs that Slurm has, and those that have ended since then, in seconds since the epoch."""
        live = whole(self._store, f"indexed by jobs_open where {OPEN} and +phase = 'live'", [])
        over = "indexed by jobs_over where phase in ('ended', 'refused') and ended_at >= ? and +slurm_id is not null"
        return [*live, *whole(self._store, over, [since])]

    def ended_since(self, when: float) -> set[int]:
        """The uids of the users of jobs that have ended since then, in seconds since the epoch."""
        over = "indexed by jobs_over where phase in ('ended', 'refused') and ended_at >= ? and +slurm_id is not null"
        return {uid for (uid,) in self._store.tuples(f"select uid from jobs {over}", [when]) if uid is not None}

    def awaited(self) -> set[tuple[str, int | None]]:
        """Names and uids of the jobs whose submission has begun: a Slurm job with such a name may be one of them."""
        sql = f"select name, uid from jobs indexed by jobs_open where {OPEN} and +phase = 'submitting'"
        return set(self._store.tuples(sql))

    def register(self, job: NewJob, slurm_id: int, submitted_at: int, now: float) -> bool:
        """Writes a job that was submitted outside UCloud and has been registered there.

        :returns: False when the job exists
        """
        return insert(
            self._store,
            job,
            JobPhase.LIVE,
            slurm_id=slurm_id,
            submitted_at=submitted_at,
            state=JobState.IN_QUEUE,
            promised_at=now,
            confirmed_at=now,
            outside=True,
        )

    def adopt(self, job: NewJob, now: float, stop: Stop | None = None) -> bool:
        """Writes a job that UCloud has and that is not known here: it is looked up in Slurm, never submitted.

        :param stop: why it must end
        :returns: False when the job exists
        """
        return insert(
            self._store,
            job,
            JobPhase.SUBMITTING,
            found_only=True,
            attempted_at=now,
            promised_at=now,
            confirmed_at=now,
            stop=stop,
            stop_at=None if stop is None else now,
        )

    def look_up(self, job_id: str) -> None:
        """An older database says that the job was not submitted: Slurm may have it all the same."""
        self._store.change(
            "update jobs set phase = 'submitting', claimed_until = null where id = ? and phase = 'accepted'", [job_id]
        )

    def record_known_state(self, job_id: str, state: str) -> None:
        """The state that UCloud has of a job, whatever was enqueued before. One that is known already is no event (hooks)."""
        self._store.change("update jobs set state = ?1 where id = ?2 and state is not ?1", [state, job_id])

    def record_user(self, job_id: str, local_user: str, uid: int) -> None:
        """The mapping says again as which user an adopted job runs that is looked up in Slurm."""
        self._store.change(
            "update jobs set local_user = ?, uid = ? where id = ? and phase = 'submitting' and found_only and uid is null",
            [local_user, uid, job_id],
        )

    def unconfirmed(self, before: float, most: int = 1000) -> list[JobRow]:
        """Jobs accepted before that time of which UCloud has not said that it has them, oldest first.

        Of those that have ended only the ones about which messages wait. Those too whose create has no answer yet: it
        may never get one, when the process that worked on it has died.
        """
        return whole(
            self._store,
            "where confirmed_at is null and phase <> 'refused' and stop is not 'rolled-back' "
            "and (phase <> 'ended' or exists (select 1 from outbox where job_id = jobs.id and outcome is null)) "
            "and accepted_at <= ? order by accepted_at, id limit ?",
            [before, most],
        )

    def confirmed(self, ids: Iterable[str], now: float) -> None:
        """UCloud has these jobs."""
        with self._store.writing() as db:
            db.conn.executemany(
                "update jobs set confirmed_at = ? where id = ? and confirmed_at is null", [(now, id_) for id_ in ids]
            )

    def forgotten(self, job_id: str, why: str, now: float) -> None:
        """UCloud does not have the job: it must end, and UCloud hears and is charged nothing more of it."""
        with self._store.writing():
            self._store.change(
                "update outbox set outcome = 'dropped', settled_at = ?, answer = ? where job_id = ? and outcome is null",
                [now, why, job_id],
            )
            self._store.change("update outbox set repeat_at = null where job_id = ? and repeat_at is not null", [job_id])
            self._store.change(
                "update jobs set stop = 'rolled-back', stop_at = ?, refused_why = ?, "
                "phase = case when phase = 'ended' then 'refused' else phase end where id = ?",
                [now, why, job_id],
            )
