"""The first migrations; those that follow, and the order of all, are in :mod:`ucloud_slurm.store.migrations`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def m001_first(db: "Database") -> None:
    """Jobs, their runs on the cluster, the outbox, the charges, and caches."""
    db.create_table(
        "jobs",
        {
            "id": str,  # UCloud's id
            "slurm_id": int,
            "phase": str,  # accepted, submitting, live, ended, refused: see job_state.JobPhase
            "name": str,  # the Slurm job's name, its key there
            "local_user": str,
            "owner": str,
            "project": str,
            "category": str,
            "product": str,
            "fingerprint": str,
            "body": str,  # the Job as UCloud sent it, JSON
            "accepted_at": float,
            "promised_at": float,  # create is acknowledged: a later refusal is a FAILURE
            "answered_at": float,  # create has been answered; updates may go out
            "claimed_until": float,  # a submission is claimed until then
            "attempted_at": float,  # the last attempt to submit began
            "attempts": int,
            "found_only": int,  # look for it in Slurm, never submit it
            "refused_status": int,
            "refused_why": str,
            "submitted_at": int,  # as Slurm says
            "state": str,  # UCloud's state, as enqueued last
            "slurm_state": str,
            "reason": str,  # the status that was enqueued with it
            "stop": str,  # why it must end: terminated, cancelled, no-funds or rolled-back
            "stop_at": float,
            "missing_since": float,
            "missing_reads": int,
            "run_submitted": int,  # the run that squeue showed last
            "charged": int,  # node-seconds or CPU-seconds, see bridge.charges
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
            "start": int,  # node-seconds or CPU-seconds of the job
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


def m002_live(db: "Database") -> None:
    """Time limits that change, jobs from outside UCloud, sessions, and access that was removed."""
    jobs = db.table("jobs")
    jobs.add_column("time_limit", int)  # minutes, as UCloud knows it
    jobs.add_column("extension", str)  # the last request for more time, to know its repetition
    jobs.add_column("extended_at", float)
    jobs.add_column("outside", int, not_null_default=0)  # submitted outside UCloud and registered there
    jobs.create_index(["name"])
    db.create_table(
        "sessions",
        {
            "token": str,  # SHA-256 of the token that opens it, once
            "job_id": str,
            "rank": int,
            "kind": str,  # SHELL, WEB or VNC
            "username": str,  # user of UCloud who asked for it
            "label": str,  # its name in the link of a web session
            "address": str,  # of the node that a web session leads to
            "run": int,  # the run of the job that it was made for, by its time of submission
            "created_at": float,
            "opened_at": float,
            "held_until": float,  # of a shell: the process that has it lives at least until then
            "cookie": str,  # SHA-256 of the cookie that the browser sends
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


def m003_people(db: "Database") -> None:
    """Links of users of UCloud and Unix users, Slurm accounts of projects, and the history of both."""
    db.create_table(
        "people",
        {
            "username": str,  # at UCloud
            "local_user": str,
            "uid": int,  # when they were linked
            "added_at": float,
            "added_by": str,
            "asked_at": float,  # a process has been reporting it since then
            "approved_at": float,  # UCloud knows; null: it must be reported
        },
        pk="username",
        not_null={"local_user", "uid", "added_at", "added_by"},
    )
    db.table("people").create_index(["local_user"])
    db.create_table(
        "codes",
        {
            "hash": str,  # SHA-256 of the code that links them, once
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
