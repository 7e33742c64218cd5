"""The tables that came after the first: of connections, wallets, identities, remainders, and where a database comes from."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

_OPEN = "phase in ('accepted', 'submitting', 'live')"


def m004_connections(db: "Database") -> None:
    """What UCloud knows of each link, and what must be reported to it."""
    db.create_table(
        "connections",
        {
            "username": str,  # at UCloud
            "wanted": int,  # linked here
            "known": int,  # as reported to UCloud; null: it may have the report, or not
            "named_at": float,  # UCloud has named this user to us
            "asked_at": float,  # a process has been reporting it since then
            "refusal": str,  # what UCloud said against it
        },
        pk="username",
        not_null={"wanted"},
    )
    # All users whose link was or had to be reported to UCloud.
    db.execute(
        "insert into connections (username, wanted, known, named_at) "
        "select username, 1, case when approved_at is null then null else 1 end, coalesce(approved_at, asked_at) "
        "from people"
    )
    db.table("people").transform(drop={"asked_at", "approved_at"})


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


def m006_confirmed(db: "Database") -> None:
    """Whether UCloud has said that it has a job."""
    db.table("jobs").add_column("confirmed_at", float)
    db.execute("update jobs set confirmed_at = answered_at")
    db.execute("create index jobs_unconfirmed on jobs (accepted_at) where confirmed_at is null")


def m007_by_periods(db: "Database") -> None:
    """What was charged by periods, to a UCloud without usage reports."""
    db.table("jobs").add_column("by_periods", int, not_null_default=0)
    db.execute("update jobs set by_periods = charged")


def m008_scale(db: "Database") -> None:
    """Indexes, so that no pass and no request reads the jobs that have ended, however many there are."""
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
    # Jobs that create refused are never confirmed: no pass should read them.
    db.execute("drop index jobs_unconfirmed")
    db.execute(
        "create index jobs_unconfirmed on jobs (accepted_at, id) "
        "where confirmed_at is null and phase <> 'refused' and stop is not 'rolled-back'"
    )
    # Counted as they change: counting a million rows takes longer than a page may.
    db.create_table("phases", {"phase": str, "jobs": int}, pk="phase", not_null={"jobs"})
    db.execute("insert into phases (phase, jobs) select phase, count(*) from jobs group by phase")
    more = "insert into phases (phase, jobs) values (new.phase, 1) on conflict (phase) do update set jobs = jobs + 1;"
    less = "update phases set jobs = jobs - 1 where phase = old.phase;"
    db.execute(f"create trigger jobs_come after insert on jobs begin {more} end")
    db.execute(f"create trigger jobs_go after delete on jobs begin {less} end")
    db.execute(f"create trigger jobs_move after update of phase on jobs when old.phase <> new.phase begin {less} {more} end")


def m009_pace(db: "Database") -> None:
    """How many jobs were submitted as a Unix user in the last seconds."""
    db.table("jobs").create_index(["local_user", "attempted_at"])


def m010_watched(db: "Database") -> None:
    """One index with all that a pass reads of the jobs that have not ended: the rows themselves are a page each."""
    db.execute("drop index jobs_open")
    db.execute(
        "create index jobs_open on jobs (accepted_at, id, slurm_id, phase, name, local_user, owner, project, category, "
        "product, submitted_at, state, slurm_state, stop, missing_since, missing_reads, run_submitted, charged, "
        "time_limit, outside, by_periods, held_at) where phase in ('accepted', 'submitting', 'live')"
    )


def m011_identity(db: "Database") -> None:
    """What a Slurm job is known by, what was asked for it, and why it waits."""
    jobs = db.table("jobs")
    jobs.add_column("uid", int)  # of the Unix user
    jobs.add_column("cluster", str)  # that it was submitted to (ClusterName); null: not known
    jobs.add_column("secret", str)  # the nonces of its attempts, in the Slurm job's comment, are made from it
    jobs.add_column("built", str)  # partition, account, size and folder as submitted, JSON
    jobs.add_column("shape", str)  # partition, size and name as squeue showed them last
    jobs.add_column("waits_for", str)  # the kind of reason for which it waits, as UCloud heard it
    jobs.add_column("reasons", str)  # when UCloud heard of which kind, JSON
    jobs.add_column("times", int, not_null_default=1)  # what was bought is requested so many times
    jobs.add_column("ended_runs", int, not_null_default=0)  # that are in runs already
    db.execute("update jobs set ended_runs = (select count(*) from runs where job_id = jobs.id)")
    db.execute(f"update jobs set uid = (select uid from uids where name = local_user) where {_OPEN}")
    for column, kind in (("partition", str), ("account", str), ("name", str), ("tres", str)):
        db.table("runs").add_column(column, kind)
    db.table("runs").add_column("times", int, not_null_default=1)
    db.execute("drop index jobs_open")
    db.execute(
        "create index jobs_open on jobs (accepted_at, id, slurm_id, phase, name, local_user, owner, project, category, "
        "product, submitted_at, state, slurm_state, stop, missing_since, missing_reads, run_submitted, charged, "
        "time_limit, outside, by_periods, held_at, uid, cluster, shape, waits_for, reasons, times, ended_runs) "
        f"where {_OPEN}"
    )


def m012_remainders(db: "Database") -> None:
    """The rest of a unit that each wallet has."""
    db.create_table(
        "remainders",
        {
            "owner_kind": str,  # as in wallets
            "owner": str,
            "category": str,
            "product": str,  # empty: all of the category
            "unit": int,  # parts of a unit
            "rest": int,  # in these parts
        },
        pk=("owner_kind", "owner", "category", "product", "unit"),
        not_null={"rest"},
    )


def m013_page(db: "Database") -> None:
    """Pages that ask before an account is connected, who has claimed their codes, and connections that have ended."""
    db.execute("delete from codes")  # those of before have no page
    codes = db.table("codes")
    for column, kind in (
        ("page", str),  # SHA-256 of the secret of the page that shows it
        ("round", int),  # number of the code on its page
        ("account", str),  # that has typed it
        ("uid", int),
        ("host", str),  # on which that was
        ("claimed_at", float),
        ("outcome", str),  # connected, rejected or contested; null: none yet
        ("other", str),  # a second account that has typed it
    ):
        codes.add_column(column, kind)
    codes.create_index(["page", "round"], unique=True)
    db.create_table(
        "past_links",
        {"username": str, "local_user": str, "ended_at": float},
        pk=("username", "local_user"),
        not_null={"ended_at"},
    )
    db.table("past_links").create_index(["local_user"])
    begin = "disconnected "
    for row in db.query("select at, what from people_history where what like ? || '% from %' order by id", [begin]):
        username, _, local_user = row["what"].removeprefix(begin).rpartition(" from ")
        db.execute("insert or replace into past_links values (?, ?, ?)", [username, local_user, row["at"]])


def m014_repetitions(db: "Database") -> None:
    """Which reports of usage are sent once more, and what UCloud's clock of a job does not count."""
    db.table("outbox").add_column("repeat_at", float)  # not before; null: it is not sent again
    db.execute("create index outbox_to_repeat on outbox (repeat_at) where repeat_at is not null")
    db.execute("create index outbox_reports on outbox (settled_at) where kind = 'usage' and outcome = 'delivered'")
    db.table("jobs").add_column("clock_before", int, not_null_default=0)  # minutes of the limit


def m015_generation(db: "Database") -> None:
    """Which file this is, and whether UCloud knows more than it: see :mod:`ucloud_slurm.store.generation`."""
    db.create_table(
        "generation",
        {
            "id": int,
            "number": int,  # counts up while the worker reports; as in the file beside the database
            "restored_at": float,  # from a backup, and not reconciled since then
            "host": str,  # whose it is: a hash of the machine's id
            "host_name": str,
            "inode": int,  # of the file
        },
        pk="id",
        not_null={"number"},
    )
    db.execute("insert into generation (id, number) values (1, 0)")
