"""Indexes and sums for the operator's page. See :mod:`ucloud_slurm.store.migrations`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

# The state of a job in one word (ucloud_slurm.store.browsing): the expression of an index.
_STATE = (
    "case when phase = 'refused' then 'REFUSED' when phase in ('accepted', 'submitting') then 'IN_QUEUE' "
    "else coalesce(state, 'IN_QUEUE') end"
)


def m020_browsing(db: "Database") -> None:
    """Jobs by owner, project, Unix user, product and state, newest first; and what was charged on each day."""
    for column in ("owner", "local_user", "product"):
        db.execute(f"create index jobs_by_{column} on jobs ({column})")
    db.execute("create index jobs_by_project on jobs (project) where project is not null")
    db.execute(f"create index jobs_by_state on jobs ({_STATE})")
    # Summed as charges are written: a month of them takes longer to read than a page may.
    db.execute(
        "create table use_by_day ("
        "day integer, "  # since the epoch
        "owner_kind text, owner text, category text, product text, "  # as in wallets
        "seconds integer not null, "  # node-, CPU-, GPU- or billing-seconds that were charged or reported on that day
        "primary key (day, owner_kind, owner, category, product)) without rowid"  # so that a day is one piece of the file
    )
    payer = "case when jobs.project is null then 'user' else 'project' end, coalesce(jobs.project, jobs.owner)"
    columns = "(day, owner_kind, owner, category, product, seconds)"
    of = f"{payer}, coalesce(jobs.category, ''), coalesce(jobs.product, '')"
    db.execute(
        f"insert into use_by_day {columns} select cast(charges.created_at / 86400 as int) as day, {of}, "
        'sum(charges."end" - charges.start) from charges join jobs on jobs.id = charges.job_id '
        "where charges.created_at is not null group by 1, 2, 3, 4, 5"
    )
    db.execute(
        f"create trigger charges_come after insert on charges begin insert into use_by_day {columns} "
        f'select cast(new.created_at / 86400 as int), {of}, new."end" - new.start from jobs where jobs.id = new.job_id '
        "on conflict (day, owner_kind, owner, category, product) do update set seconds = seconds + excluded.seconds; end"
    )


def m023_over(db: "Database") -> None:
    """The indexes of jobs are of those that are over: a create writes into fewer, and the others are few."""
    columns = {"owner": "owner", "local_user": "local_user", "product": "product", "project": "project", "state": _STATE}
    for name, expression in columns.items():
        db.execute(f"drop index jobs_by_{name}")
        db.execute(f"create index jobs_over_by_{name} on jobs ({expression}) where phase in ('ended', 'refused')")
