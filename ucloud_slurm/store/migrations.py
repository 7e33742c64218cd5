"""The tables, as migrations. A migration that has been released is never changed; a new one follows it.

What is done with a file that is up to date needs none of them, and not the library that runs them, which takes longer
to load than a pass over some jobs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

SET = "ucloud-slurm"
STEPS: "list[Callable[[Database], None]]" = []


def step(migration: "Callable[[Database], None]") -> "Callable[[Database], None]":
    """A migration, in its place behind those above it. Its name is kept in every file that has had it."""
    STEPS.append(migration)
    return migration


def migrate(db: "Database") -> None:
    """Does what the file has not had yet."""
    from sqlite_utils import Migrations

    migrations = Migrations(SET)
    for migration in STEPS:
        migrations()(migration)
    migrations.apply(db)


@step
def m001_first(db: "Database") -> None:
    """Jobs, their runs on the cluster, what must be told and charged, what is kept from UCloud."""
    db.create_table(
        "jobs",
        {
            "id": str,  # UCloud's id
            "slurm_id": int,
            "phase": str,  # accepted, submitting, live, ended, refused: see jobs.Phase
            "name": str,  # the Slurm job's name, its key there
            "local_user": str,
            "owner": str,
            "project": str,
            "category": str,
            "product": str,
            "fingerprint": str,
            "body": str,  # the Job as UCloud sent it, JSON
            "accepted_at": float,
            "promised_at": float,  # create is being answered with success; a refusal from now on is a FAILURE
            "answered_at": float,  # create has been answered; updates may go out
            "claimed_until": float,  # somebody submits it until then
            "attempted_at": float,  # the last attempt to submit began
            "attempts": int,
            "found_only": int,  # look for it in Slurm, never submit it
            "refused_status": int,
            "refused_why": str,
            "submitted_at": int,  # as Slurm says
            "state": str,  # UCloud's state, as we told it last
            "slurm_state": str,
            "reason": str,  # the sentence that was told with it
            "stop": str,  # why it is to end: terminated, no-funds or rolled-back
            "stop_at": float,
            "missing_since": float,
            "missing_reads": int,
            "run_submitted": int,  # the run that squeue showed last
            "charged": int,  # weighted seconds, see bridge.charges
            "used": int,  # the same, known at the end
            "ended_at": float,
        },
        pk="id",
        not_null={"phase", "name", "local_user", "owner", "fingerprint", "body", "accepted_at"},
        defaults={"attempts": 0, "found_only": 0, "missing_reads": 0, "charged": 0},
    )
    db.table("jobs").create_index(["phase", "accepted_at"])
    db.table("jobs").create_index(["slurm_id"])
    db.create_table(
        "runs",
        {
            "job_id": str,
            "submitted": int,
            "started": int,
            "ended": int,
            "seconds": int,
            "nodes": int,
            "cpus": int,
            "state": str,
            "exit_code": int,
            "signal": int,
        },
        pk=("job_id", "submitted"),
        foreign_keys=[("job_id", "jobs", "id")],
    )
    db.create_table(
        "outbox",
        {
            "id": int,
            "job_id": str,
            "kind": str,  # update or charge
            "body": str,  # JSON
            "created_at": float,
            "sends": int,
            "settled_at": float,
            "outcome": str,  # delivered, no-funds, doubtful, parked; null: still to be sent
            "answer": str,
        },
        pk="id",
        not_null={"job_id", "kind", "body", "created_at"},
        defaults={"sends": 0},
        foreign_keys=[("job_id", "jobs", "id")],
    )
    db.execute("create index outbox_waiting on outbox (id) where outcome is null")
    db.table("outbox").create_index(["job_id", "id"])
    db.create_table(
        "charges",
        {
            "charge_id": str,
            "job_id": str,
            "slurm_id": int,
            "start": int,  # weighted seconds of the job's use
            "end": int,
            "units": int,
            "multiplier": int,
            "created_at": float,
            "outcome": str,  # as in outbox
        },
        pk="charge_id",
        foreign_keys=[("job_id", "jobs", "id")],
    )
    db.table("charges").create_index(["job_id", "start"])
    db.create_table("caches", {"kind": str, "key": str, "value": str, "stored_at": float}, pk=("kind", "key"))
    db.create_table(
        "health",
        {"part": str, "answering_since": float, "failing_since": float, "ask_again_at": float, "reason": str},
        pk="part",
    )


@step
def m002_live(db: "Database") -> None:
    """Time limits that change, jobs from outside UCloud, sessions, and access that was taken away."""
    jobs = db.table("jobs")
    jobs.add_column("time_limit", int)  # minutes, as UCloud knows it
    jobs.add_column("extension", str)  # the last request for more time, to know its repetition
    jobs.add_column("extended_at", float)
    jobs.add_column("outside", int, not_null_default=0)  # submitted outside UCloud and registered there
    jobs.create_index(["name"])
    db.create_table(
        "sessions",
        {
            "token": str,  # SHA-256 of what opens it, once
            "job_id": str,
            "rank": int,
            "kind": str,  # SHELL, WEB or VNC
            "username": str,  # who asked for it at UCloud
            "label": str,  # its name in the link of a web session
            "address": str,  # of the node that a web session leads to
            "run": int,  # the run of the job that it was made for, by its time of submission
            "created_at": float,
            "opened_at": float,
            "held_until": float,  # of a shell: the process that has it lives at least until then
            "cookie": str,  # SHA-256 of what the browser shows from then on
            "ended_at": float,
        },
        pk="token",
        not_null={"job_id", "rank", "kind", "label", "created_at"},
        foreign_keys=[("job_id", "jobs", "id")],
    )
    db.table("sessions").create_index(["job_id", "created_at"])
    db.table("sessions").create_index(["cookie"])
    db.execute("create index sessions_open on sessions (created_at) where ended_at is null")
    db.create_table(
        "removals",
        {
            "job_id": str,
            "entity": str,  # user:<name>, or group:<project>/<group>
            "removed_at": float,
        },
        pk=("job_id", "entity"),
        foreign_keys=[("job_id", "jobs", "id")],
    )


@step
def m003_people(db: "Database") -> None:
    """Who is who: users of UCloud and accounts of this host, projects and Slurm accounts, and who changed that."""
    db.create_table(
        "people",
        {
            "username": str,  # at UCloud
            "local_user": str,
            "uid": int,  # what it was when they were connected
            "added_at": float,
            "added_by": str,
            "asked_at": float,  # somebody tells UCloud since then
            "approved_at": float,  # UCloud knows; null: it is still to be told
        },
        pk="username",
        not_null={"local_user", "uid", "added_at", "added_by"},
    )
    db.table("people").create_index(["local_user"])
    db.create_table(
        "codes",
        {
            "hash": str,  # SHA-256 of the code that connects them, once
            "username": str,
            "created_at": float,
            "used_at": float,
        },
        pk="hash",
        not_null={"username", "created_at"},
    )
    db.table("codes").create_index(["username"])
    db.create_table(
        "projects",
        {"project": str, "account": str, "added_at": float, "added_by": str},
        pk="project",
        not_null={"account", "added_at", "added_by"},
    )
    db.create_table(
        "people_history", {"id": int, "at": float, "who": str, "what": str}, pk="id", not_null={"at", "who", "what"}
    )
    db.create_table(
        "grants",
        {
            "job_id": str,
            "entity": str,  # as in removals
        },
        pk=("job_id", "entity"),
        foreign_keys=[("job_id", "jobs", "id")],
    )


@step
def m004_connections(db: "Database") -> None:
    """What UCloud knows of who is connected, and what it must be told."""
    db.create_table(
        "connections",
        {
            "username": str,  # at UCloud
            "wanted": int,  # connected here
            "known": int,  # as UCloud was told; null: it may have heard it, or not
            "named_at": float,  # UCloud has named this user to us
            "asked_at": float,  # somebody tells UCloud since then
            "refusal": str,  # what UCloud said against it
        },
        pk="username",
        not_null={"wanted"},
    )
    # Everybody of whom UCloud was told, or of whom it was to be told.
    db.execute(
        "insert into connections (username, wanted, known, named_at) "
        "select username, 1, case when approved_at is null then null else 1 end, coalesce(approved_at, asked_at) "
        "from people"
    )
    db.table("people").transform(drop={"asked_at", "approved_at"})


@step
def m005_wallets(db: "Database") -> None:
    """What UCloud's channel says of wallets, projects and users; jobs that are held because a wallet is locked."""
    db.create_table(
        "wallets",
        {
            "owner_kind": str,  # user or project
            "owner": str,  # the user's name or the project's id
            "category": str,
            "locked": int,  # nothing is left
            "quota": int,
            "usage": int,
            "changed_at": float,  # as UCloud says
        },
        pk=("owner_kind", "owner", "category"),
        not_null={"locked", "quota", "usage", "changed_at"},
    )
    db.create_table(
        "ucloud_projects",
        {
            "id": str,
            "title": str,
            "members": str,  # their names, JSON
            "modified_at": float,  # as UCloud says
        },
        pk="id",
        not_null={"title", "members", "modified_at"},
    )
    db.create_table("ucloud_users", {"username": str, "named_at": float}, pk="username", not_null={"named_at"})
    # One row: all that UCloud said until then has been written.
    db.create_table("channel", {"id": int, "handled_until": float}, pk="id", not_null={"handled_until"})
    db.table("jobs").add_column("held_at", float)  # we hold it in the queue since then


@step
def m006_confirmed(db: "Database") -> None:
    """Whether UCloud has a job, where it says so."""
    db.table("jobs").add_column("confirmed_at", float)
    db.execute("update jobs set confirmed_at = answered_at")
    db.execute("create index jobs_unconfirmed on jobs (accepted_at) where confirmed_at is null")


@step
def m007_by_periods(db: "Database") -> None:
    """What was charged by periods, to a UCloud that was not told of use."""
    db.table("jobs").add_column("by_periods", int, not_null_default=0)
    db.execute("update jobs set by_periods = charged")


@step
def m008_scale(db: "Database") -> None:
    """What a pass and a request look for is found without reading what has ended, however much that is."""
    for index in (
        "jobs_open on jobs (accepted_at, id) where phase in ('accepted', 'submitting', 'live')",
        "jobs_to_stop on jobs (accepted_at, id) where phase = 'live' and stop is not null",
        "jobs_over on jobs (ended_at) where phase in ('ended', 'refused')",
        "outbox_waiting_of on outbox (job_id, id) where outcome is null",
        "outbox_parked on outbox (id) where outcome = 'parked'",
        "sessions_over on sessions (ended_at) where ended_at is not null",
        "codes_by_age on codes (created_at)",
        "caches_by_age on caches (stored_at)",
        "connections_owed on connections (named_at, username) "
        "where named_at is not null and known is not wanted and refusal is null",
        "wallets_locked on wallets (owner_kind, owner, category) where locked",
    ):
        db.execute(f"create index {index}")
    # Jobs that create refused are never confirmed: they are not to be gone through in every pass.
    db.execute("drop index jobs_unconfirmed")
    db.execute(
        "create index jobs_unconfirmed on jobs (accepted_at, id) "
        "where confirmed_at is null and phase <> 'refused' and stop is not 'rolled-back'"
    )
    # Counted as they change: to count a million rows takes longer than a page may.
    db.create_table("phases", {"phase": str, "jobs": int}, pk="phase", not_null={"jobs"})
    db.execute("insert into phases (phase, jobs) select phase, count(*) from jobs group by phase")
    more = "insert into phases (phase, jobs) values (new.phase, 1) on conflict (phase) do update set jobs = jobs + 1;"
    less = "update phases set jobs = jobs - 1 where phase = old.phase;"
    db.execute(f"create trigger jobs_come after insert on jobs begin {more} end")
    db.execute(f"create trigger jobs_go after delete on jobs begin {less} end")
    db.execute(
        f"create trigger jobs_move after update of phase on jobs when old.phase <> new.phase begin {less} {more} end"
    )


@step
def m009_pace(db: "Database") -> None:
    """When jobs of an account were submitted: how many in the last seconds."""
    db.table("jobs").create_index(["local_user", "attempted_at"])


@step
def m010_watched(db: "Database") -> None:
    """What every pass reads of the jobs that have not ended, side by side: the rows themselves are a page each."""
    db.execute("drop index jobs_open")
    db.execute(
        "create index jobs_open on jobs (accepted_at, id, slurm_id, phase, name, local_user, owner, project, category, "
        "product, submitted_at, state, slurm_state, stop, missing_since, missing_reads, run_submitted, charged, "
        "time_limit, outside, by_periods, held_at) where phase in ('accepted', 'submitting', 'live')"
    )
