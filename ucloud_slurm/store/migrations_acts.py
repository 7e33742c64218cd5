"""The requests of jobs, and the table of acts. See :mod:`ucloud_slurm.store.migrations`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def m018_requests(db: "Database") -> None:
    """With which request of UCloud's a job came."""
    db.table("jobs").add_column("request_id", str)


def m019_acts(db: "Database") -> None:
    """Who has done what, and from where; what the history of links and projects had is in it."""
    db.create_table(
        "acts",
        {
            "id": int,
            "at": float,
            "who": str,
            "kind": str,  # users, products, outbox, database, reconcile, maintenance
            "what": str,
            "account": str,  # that the process ran as; null: not known, as the others
            "login": str,  # who had logged in, as the kernel said
            "sudo_user": str,
            "host": str,
            "terminal": str,
            "client": str,  # address of the ssh connection or of the browser
        },
        pk="id",
        not_null={"at", "who", "kind", "what"},
    )
    db.execute("create index acts_by_time on acts (at, id)")
    db.execute("insert into acts (at, who, kind, what) select at, who, 'users', what from people_history order by id")
    db.execute("drop table people_history")
    for event in ("update", "delete"):
        db.execute(
            f"create trigger acts_refuse_{event} before {event} on acts begin select raise(abort, 'acts are only added'); end"
        )
