"""Deleting old rows, so that the file stops growing. SQLite uses the free pages again; the file does not shrink."""

import json
from collections.abc import Collection

from ucloud_slurm.store import codes, daily_use, sessions, tasks
from ucloud_slurm.store.sqlite import Store

_OF_A_JOB = ("runs", "charges", "outbox", "sessions", "removals", "grants")


class Retention:
    """What is deleted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def delete_jobs(self, before: float, listed: Collection[int], most: int) -> int:
        """Deletes jobs that ended before that time, the oldest first, with all rows of theirs, in one transaction.

        A job stays while one of its messages waits, or is parked until an administrator has looked at it.

        :param listed: Slurm jobs that squeue still lists: of these an external job would be registered again
        :param most: how many
        :returns: how many were deleted
        """
        with self._store.writing():
            found = self._store.tuples(
                # Without the name of this index SQLite takes the one of all phases, and reads all that has ended.
                "select id from jobs indexed by jobs_over where phase in ('ended', 'refused') and ended_at < ? "
                "and not exists (select 1 from outbox where job_id = jobs.id and outcome is null) "
                "and not exists (select 1 from outbox where job_id = jobs.id and outcome = 'parked') "
                "and not (outside and slurm_id in (select value from json_each(?))) order by ended_at limit ?",
                [before, json.dumps(list(listed)), most],
            )
            ids = json.dumps([id_ for (id_,) in found])
            for table in _OF_A_JOB:
                self._store.change(f"delete from {table} where job_id in (select value from json_each(?))", [ids])
            return self._store.change("delete from jobs where id in (select value from json_each(?))", [ids])

    def delete_others(self, before: float, now: float) -> None:
        """Deletes what was cached before that time, and codes, sessions and tasks that are over."""
        with self._store.writing():
            # The access token has no time, and stays; an application of a version never changes.
            self._store.change("delete from caches where stored_at > 0 and stored_at < ? and kind <> 'application'", [before])
            self._store.change("delete from codes where created_at < ?", [now - codes.KEEP_SECONDS])
            self._store.change("delete from sessions where ended_at < ?", [now - sessions.KEEP_SECONDS])
            self._store.change("delete from tasks where ended_at < ?", [now - tasks.KEEP_SECONDS])
            daily_use.forget(self._store, now)
            self._store.change("delete from hook_events where done_at < ?", [before])
