"""Forgetting what nobody asks for any more, so that the file stops growing.

Pages that become free are used again; the file does not become smaller by it.
"""

import json
from collections.abc import Collection

from ucloud_slurm.store import codes, sessions
from ucloud_slurm.store.sqlite import Store

_OF_A_JOB = ("runs", "charges", "outbox", "sessions", "removals", "grants")


class Retention:
    """What is deleted, and when."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def jobs(self, before: float, listed: Collection[int], most: int) -> int:
        """Deletes jobs that ended before that time, longest ago first, with all that belongs to them.

        Those stay of which something waits to be told, or was refused by UCloud and is for somebody to see.

        :param listed: Slurm jobs that the cluster still shows: of these a job from outside would be registered anew
        :param most: in this one transaction
        :returns: how many were deleted
        """
        with self._store.writing():
            found = self._store.tuples(
                # The index is named: left to itself SQLite takes the one of all phases, and reads all that has ended.
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

    def others(self, before: float, now: float) -> None:
        """Deletes what was kept from UCloud and Slurm before that time, and codes and sessions that are over."""
        with self._store.writing():
            # The access token has no time, and stays; an application is the same as long as it is.
            self._store.change(
                "delete from caches where stored_at > 0 and stored_at < ? and kind <> 'application'", [before]
            )
            self._store.change("delete from codes where created_at < ?", [now - codes.KEPT])
            self._store.change("delete from sessions where ended_at < ?", [now - sessions.KEPT])
