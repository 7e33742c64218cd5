"""Migrations of the tables about drives and files; called by :mod:`ucloud_slurm.store.migrations`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def m016_drives(db: "Database") -> None:
    """Drives, transfers of files, long changes of files, which UCloud shows as tasks, and shells in folders of drives."""
    db.create_table(
        "drives",
        {
            "provider_id": str,  # ours, unique over all resources of the provider
            "name": str,  # of the table of the configuration
            "owner": str,  # user of UCloud; of a drive for a project: null
            "project": str,  # of UCloud; of a drive of a user: null
            "drive_id": str,  # UCloud's; null until it is known
            "wanted_at": float,
            "try_at": float,  # when it is registered next, while UCloud's id is not known
            "tries": int,
            "registered_at": float,
        },
        pk="provider_id",
        not_null={"name", "wanted_at", "try_at"},
        defaults={"tries": 0},
    )
    db.execute("create unique index drives_of_owner on drives (owner, name) where owner is not null")
    db.execute("create unique index drives_of_project on drives (project, name) where project is not null")
    db.execute("create index drives_unregistered on drives (try_at) where drive_id is null")
    db.execute("create unique index drives_by_id on drives (drive_id) where drive_id is not null")
    db.create_table(
        "transfers",
        {
            "token": str,  # hash of the token
            "kind": str,  # download, upload, folder or file; part: of a file that comes through a WebSocket
            "username": str,  # user of UCloud
            "local_user": str,
            "drive_id": str,
            "root": str,  # the local folder of the drive
            "parts": str,  # JSON: the names below it
            "part": str,  # name of the file that an upload is written to
            "policy": str,  # of conflicts
            "size": int,  # bytes in all, when it is known
            "done": int,  # bytes
            "modified_at": int,  # of a download: of the file, nanoseconds
            "created_at": float,
            "expires_at": float,
            "used_at": float,
            "ended_at": float,
            "outcome": str,
        },
        pk="token",
        not_null={"kind", "username", "local_user", "drive_id", "root", "parts", "created_at", "expires_at"},
    )
    db.execute("create index transfers_open on transfers (username) where ended_at is null")
    db.execute("create index transfers_expiry on transfers (expires_at) where ended_at is null")
    db.execute("create index transfers_silent on transfers (created_at) where ended_at is null and used_at is null")
    db.execute("create index transfers_over on transfers (ended_at) where ended_at is not null")
    db.create_table(
        "tasks",
        {
            "id": int,
            "key": str,  # of the work, the same in each attempt
            "kind": str,  # copy, move or erase
            "username": str,  # user of UCloud
            "local_user": str,
            "work": str,  # JSON: what is done, with local folders
            "title": str,
            "state": str,  # as UCloud names it
            "progress": str,  # what the user reads
            "percentage": int,
            "cancelled": int,  # whether its user wants no more of it
            "attempts": int,
            "claimed_at": float,
            "lease_until": float,  # of the process that does it
            "created_at": float,
            "ended_at": float,
            "task_id": int,  # UCloud's; null until it is known
            "changes": int,  # of what UCloud shows
            "reported": int,  # the change that UCloud has
            "reported_at": float,
            "refusal": str,  # of UCloud: nothing more is reported
        },
        pk="id",
        not_null={"key", "kind", "username", "local_user", "work", "title", "state", "progress", "created_at"},
        defaults={"cancelled": 0, "attempts": 0, "changes": 1, "reported": 0},
    )
    db.execute("create index tasks_open on tasks (id) where ended_at is null")
    db.execute("create index tasks_of_users on tasks (username, claimed_at)")
    db.execute("create unique index tasks_by_task_id on tasks (task_id) where task_id is not null")
    db.execute("create index tasks_unreported on tasks (id) where refusal is null and reported < changes")
    db.execute("create index tasks_over on tasks (ended_at) where ended_at is not null")
    sessions = db.table("sessions")
    sessions.transform(not_null={"job_id": False})
    sessions.add_column("drive_id", str)  # UCloud's, of a shell that is of no job
    sessions.add_column("parts", str)  # JSON: the names below the drive's folder
