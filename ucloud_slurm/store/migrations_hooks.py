"""The migration for hooks of the site: triggers write an event in the transaction of the change that causes it.

So no way to change a person, a project, a wallet or a job can forget its event, whichever process it is in. A trigger
does nothing while the table ``hooked`` does not list its event. The views give the subject and the body of an event.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

_PERSON = "json_object('username', people.username, 'user', people.local_user, 'uid', people.uid, 'projects', (%s))"
_PROJECTS_OF_PERSON = (
    "select json_group_array(json_object('project', known.id, 'title', known.title, 'account', given.account)) "
    "from ucloud_projects as known left join projects as given on given.project = known.id "
    "where people.username in (select value from json_each(known.members))"
)
_MEMBERS = (
    "select json_group_array(json_object('username', member.value, 'user', people.local_user, 'uid', people.uid)) "
    "from json_each(ucloud_projects.members) as member left join people on people.username = member.value"
)
_VIEWS = {
    "hook_people": "select people.username as key, 'person ' || people.username as subject, "
    f"{_PERSON % _PROJECTS_OF_PERSON} as body from people",
    "hook_projects": "select id as key, 'project ' || id as subject, json_object('project', id, 'title', title, 'account', "
    f"(select account from projects where project = id), 'members', ({_MEMBERS})) as body from ucloud_projects",
    "hook_wallets": "select owner_kind, owner, category, 'wallet ' || owner_kind || ' ' || owner || ' ' || category "
    "as subject, json_object('owner_kind', owner_kind, 'owner', owner, 'category', category, 'locked', "
    "json(case when locked then 'true' else 'false' end), 'quota', quota, 'usage', usage, "
    "'account', (select account from projects where project = owner and owner_kind = 'project'), "
    "'user', (select local_user from people where username = owner and owner_kind = 'user')) as body from wallets",
    "hook_jobs": "select id as key, 'job ' || id as subject, json_object('job', id, 'slurm_id', slurm_id, 'name', name, "
    "'owner', owner, 'project', project, 'user', local_user, 'uid', uid, 'category', category, 'product', product, "
    "'partition', json_extract(built, '$.partition'), 'account', json_extract(built, '$.account'), "
    "'outside', json(case when outside then 'true' else 'false' end), 'state', state, 'message', reason, "
    "'accepted_at', accepted_at, 'submitted_at', submitted_at, 'ended_at', ended_at, 'used', used) as body from jobs",
}
_WALLET = "owner_kind = new.owner_kind and owner = new.owner and category = new.category"
_LAST = "new.state in ('SUCCESS', 'FAILURE', 'EXPIRED') and new.phase = 'ended'"
# Each trigger: when it fires, under which condition, the event, the view, and which row of it.
_TRIGGERS = (
    ("after insert on people", "true", "person-connected", "hook_people", "key = new.username"),
    ("before delete on people", "true", "person-left", "hook_people", "key = old.username"),
    ("after insert on ucloud_projects", "true", "project-changed", "hook_projects", "key = new.id"),
    (
        "after update of title, members on ucloud_projects",
        "new.members is not old.members or new.title is not old.title",
        "project-changed",
        "hook_projects",
        "key = new.id",
    ),
    ("after insert on projects", "true", "project-changed", "hook_projects", "key = new.project"),
    (
        "after update of account on projects",
        "new.account is not old.account",
        "project-changed",
        "hook_projects",
        "key = new.project",
    ),
    ("after delete on projects", "true", "project-changed", "hook_projects", "key = old.project"),
    ("after insert on wallets", "true", "wallet-changed", "hook_wallets", _WALLET),
    (
        "after update of locked, quota on wallets",
        "new.locked is not old.locked or new.quota is not old.quota",
        "wallet-changed",
        "hook_wallets",
        _WALLET,
    ),
    (
        "after update of state on jobs",
        "new.state = 'RUNNING' and old.state = 'IN_QUEUE'",
        "job-started",
        "hook_jobs",
        "key = new.id",
    ),
    # The state is written after the phase, in the transaction that ends the job.
    ("after update of state on jobs", _LAST, "job-ended", "hook_jobs", "key = new.id"),
    # UCloud does not have the job, but its start was an event.
    ("after update of phase on jobs", "new.phase = 'refused' and old.phase = 'live'", "job-ended", "hook_jobs", "key = new.id"),
)


def m022_hooks(db: "Database") -> None:
    """Events for programs of the site, which of them have a program, and what a program has decided about a job."""
    db.table("jobs").add_column("decision", str)  # what the program of job-accepted has changed, JSON; null: nothing
    db.create_table("hooked", {"event": str}, pk="event")
    db.create_table(
        "hook_events",
        {
            "id": int,
            "key": str,  # of the event, the same in each delivery
            "event": str,
            "subject": str,  # events about one subject are delivered in order
            "body": str,  # JSON
            "created_at": float,
            "attempts": int,
            "next_at": float,  # it is not delivered before
            "done_at": float,
            "outcome": str,  # delivered, failed or dropped; null: it waits
            "failure": str,  # of the last attempt
        },
        pk="id",
        not_null={"key", "event", "subject", "body", "created_at", "attempts", "next_at"},
        defaults={"attempts": 0, "next_at": 0.0},
    )
    db.execute("create index hook_events_waiting on hook_events (id) where outcome is null")
    db.execute("create index hook_events_waiting_of on hook_events (subject, id) where outcome is null")
    db.execute("create index hook_events_failed on hook_events (id) where outcome = 'failed'")
    db.execute("create index hook_events_over on hook_events (done_at) where done_at is not null")
    for name, select in _VIEWS.items():
        db.execute(f"create view {name} as {select}")
    for number, (fires, condition, event, view, row) in enumerate(_TRIGGERS):
        wanted = f"exists (select 1 from hooked where event = '{event}')"
        db.execute(
            f"create trigger hook_{number} {fires} when ({condition}) and {wanted} "
            "begin insert into hook_events (key, event, subject, body, created_at) "
            f"select lower(hex(randomblob(16))), '{event}', subject, body, (julianday('now') - 2440587.5) * 86400.0 "
            f"from {view} where {row}; end"
        )
