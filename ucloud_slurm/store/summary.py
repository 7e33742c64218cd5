"""What the database says of itself to those who repair this program: its tables, and rows without what people wrote.

Columns are named one by one: a new one does not get into a report by itself.
"""

import sqlite3
from typing import Any

from ucloud_slurm.store.sqlite import Row, Store

VERSION = sqlite3.sqlite_version
# Who is in the database: each statement gives names of one kind.
_NAMES = {
    "user": (
        "select distinct owner from jobs",
        "select username from people",
        "select username from past_links",
        "select username from connections",
        "select username from ucloud_users",
        "select distinct username from sessions where username is not null",
        "select distinct username from transfers",
        "select distinct username from tasks",
        "select distinct owner from wallets where owner_kind = 'user'",
    ),
    "account": (
        "select distinct local_user from jobs",
        "select local_user from people",
        "select local_user from past_links",
        "select distinct local_user from transfers",
        "select distinct local_user from tasks",
        "select distinct who from acts where who <> 'UCloud'",
        "select distinct login from acts where login is not null",
        "select distinct sudo_user from acts where sudo_user is not null",
    ),
    "project": (
        "select distinct project from jobs where project is not null",
        "select project from projects",
        "select id from ucloud_projects",
        "select title from ucloud_projects",
        "select distinct owner from wallets where owner_kind = 'project'",
    ),
}


def tables(store: Store) -> list[dict[str, Any]]:
    """Every table with its statement and its number of rows, and every index and trigger with its statement."""
    found = store.rows("select type, name, sql from sqlite_schema order by type desc, name")
    return [
        dict(row)
        | ({"rows": store.tuples(f"select count(*) as rows from {row['name']}")[0][0]} if row["type"] == "table" else {})
        for row in found
    ]


def newest_jobs(store: Store, most: int) -> list[Row]:
    """The newest jobs, without what was asked for: no body, no script, no name of it, no sentence."""
    return store.rows(
        "select id, slurm_id, cluster, phase, state, slurm_state, waits_for, stop, outside, local_user, owner, project, "
        "category, product, accepted_at, attempted_at, promised_at, answered_at, confirmed_at, claimed_until, attempts, "
        "found_only, refused_status, submitted_at, run_submitted, ended_runs, ended_at, stop_at, held_at, missing_since, "
        "missing_reads, time_limit, extended_at, times, charged, used, by_periods, clock_before "
        "from jobs order by rowid desc limit ?",
        [most],
    )


def newest_messages(store: Store, most: int) -> list[Row]:
    """The newest messages to UCloud, without what they say and what UCloud has answered."""
    return store.rows(
        "select id, job_id, kind, created_at, sends, settled_at, outcome, repeat_at from outbox order by id desc limit ?",
        [most],
    )


def names(store: Store) -> list[tuple[str, str]]:
    """Everybody who is in the database, each with the kind of the name."""
    found = []
    for kind, statements in _NAMES.items():
        for statement in statements:
            found += [(str(name), kind) for (name,) in store.tuples(statement) if name]
    return found


def kept_secrets(store: Store) -> list[str]:
    """The access token, and what else the client of UCloud keeps without a time."""
    return [str(value) for (value,) in store.tuples("select value from caches where stored_at = 0 and length(value) >= 20")]
