"""P8, P9: nothing that a pass or a request asks of the database reads what has ended, however much that is."""

import ast
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import ucloud_slurm.store
from tests.conftest import World
from tests.support.factories import accept_live, new_job
from tests.support.source import parsed
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store import backup, daily_use, restore, summary
from ucloud_slurm.store.browsing import Browsing, JobFilter
from ucloud_slurm.store.charges import RestKey
from ucloud_slurm.store.codes import Claim, Code, Codes, code_text
from ucloud_slurm.store.drives import Drive
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.hooks import HookEvents
from ucloud_slurm.store.job_rows import WHOLE, count_open
from ucloud_slurm.store.job_state import Stop
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.maintenance import MaintenanceWindow
from ucloud_slurm.store.outbox import MessageOutcome, OutboxMessage, ucloud_was_away
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.store.retention import Retention
from ucloud_slurm.store.sessions import Kind, Session
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.tasks import NewTask, Tasks
from ucloud_slurm.store.transfers import Transfer, TransferKind, TransferOutcome, Transfers, hashed
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.ucloud.channel import OwnerKind, Payer, Project, User, Wallet
from ucloud_slurm.ucloud.reports import Charge, JobState, JobUpdate, Usage
from ucloud_slurm.ucloud.tasks import TaskState

STORE = Path(ucloud_slurm.store.__file__).parent
# A row for each part of the product, each phase, each migration: these do not grow.
SMALL = {"health", "channel", "phases", "generation", "hooked", "_sqlite_migrations", "sqlite_schema", "sqlite_master"}
# Indexes that hold only what is under way or needs somebody: to read all of one is to read all of that.
OPEN = {
    "jobs_open",
    "jobs_to_stop",
    "maintenance_open",
    "jobs_unconfirmed",
    "outbox_waiting",
    "outbox_waiting_of",
    "outbox_parked",
    "sessions_open",
    "transfers_open",
    "transfers_expiry",
    "connections_owed",
    "wallets_locked",
    "tasks_open",
    "tasks_unreported",
    "hook_events_waiting",
    "hook_events_failed",
}
# What people ask for from the command line, and what makes the file what it is.
ALLOWED = {
    f"select {WHOLE} from jobs order by rowid desc limit": "`jobs --all`: the newest, and no more than are asked for",
    "select * from outbox order by id desc limit": "`outbox --all`: the same",
    "select * from people order by username": "`users list` and `users export`: everybody",
    "select count(*) from people": "`status`: how many are connected",
    "select * from projects order by project": "`users projects list`: all projects",
    "select at, who, what from acts where kind": "`users history`: all of it",
    "select username from ucloud_users where not exists": "the worker's look for users without a drive, once in a minute",
    "select people.username from people where (exists": "the same, of those who are connected",
    "select id, members from ucloud_projects where not exists": "the same, of projects",
    "select * from drives order by provider_id limit": "`drives`: no more than are asked for",
    "select distinct owner from": "`report`: whose names are replaced",
    "select username from": "the same",
    "select distinct username from": "the same",
    "select local_user from": "the same",
    "select distinct local_user from": "the same",
    "select distinct project from": "the same",
    "select distinct who from acts": "the same",
    "select distinct login from acts": "the same",
    "select distinct sudo_user from acts": "the same",
    "select project from projects": "the same",
    "select id from ucloud_projects": "the same",
    "select title from ucloud_projects": "the same",
    "select count(*) as rows from": "`report`: how many rows each table has",
    "select id, slurm_id, cluster, phase, state, slurm_state": "`report`: the newest, as many as it says",
    "select id, job_id, kind, created_at, sends, settled_at, outcome, repeat_at from outbox order": "the same",
    "select value from caches where stored_at = 0": "the same: few, but for applications",
    "select accepted_at, promised_at from jobs order by rowid desc limit": "the operator's page: the newest 500",
    "select created_at, settled_at from (select created_at, settled_at, outcome from outbox order by id desc limit": "the same",
    "select * from hook_events order by id desc limit": "`hooks list --all`: the newest, and no more than are asked for",
    "insert into hook_events (key, event, subject, body, created_at) select": "`hooks replay`: everybody, every wallet",
    "select count(*) from jobs": "`database verify`: all of the file is read anyway",
}

# What an operator looks for: each way in which the page finds jobs.
FILTERS = (
    JobFilter(),
    JobFilter(text="9"),
    JobFilter(text="name"),
    JobFilter(person="o"),
    JobFilter(person="u"),
    JobFilter(project="p"),
    JobFilter(state="RUNNING"),
    JobFilter(product="p"),
    JobFilter("RUNNING", "o", "p", "q", "name"),
)

# These ask for phases that are not final.
BY_PHASE = (f"select {WHOLE} from jobs where phase in (?", f"select {WHOLE} from jobs where phase = 'submitting'")


class Recording(sqlite3.Connection):
    """A connection that remembers what it was asked, as it was written: with places for values, not with the values."""

    asked: dict[str, Any]

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        Recording.asked.setdefault(" ".join(sql.split()), *(parameters or ((),)))
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        values = list(parameters)
        if values:
            Recording.asked.setdefault(" ".join(sql.split()), values[0])
        return super().executemany(sql, values)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the database is asked."""
    Recording.asked = {}
    connect = sqlite3.connect

    def recording(*arguments: Any, **more: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Recording, **more)

    monkeypatch.setattr("ucloud_slurm.store.sqlite.sqlite3.connect", recording)
    return Recording.asked


def written() -> Iterator[str]:
    """The beginning of every statement in the room with the SQL."""
    for path in STORE.glob("*.py"):
        if path.name.startswith("migrations"):
            continue
        tree = parsed(path)
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            text = node.values[0] if isinstance(node, ast.JoinedStr) else node if id(node) not in inside else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                sql = " ".join(text.value.split())
                if re.match(r"(select|insert|update|delete) ", sql):
                    yield sql


def scans(store: Store, sql: str, parameters: Any) -> list[str]:
    """The steps of a statement's plan that read a growing table or index from one end to the other.

    So does a search by phase, but for the phases that are asked for by name: most jobs have ended.
    """
    found = []
    for step in store.rows(f"explain query plan {sql}", parameters):
        detail = step["detail"]
        match = re.match(r"SCAN (\w+)(?: (?:USING|VIRTUAL).*?(?:INDEX (\w+)(?::|$)))?", detail)
        whole = match and match[1] not in SMALL and match[2] not in OPEN and match[1] != "json_each"
        if whole or (detail.endswith("idx_jobs_phase_accepted_at (phase=?)") and not sql.startswith(BY_PHASE)):
            found.append(detail)
    return found


def life(world: World) -> None:
    """Jobs come, wait, run, are asked about, are stopped, end, and are forgotten."""
    first, second = world.submit(), world.submit()
    world.work(1)
    world.model.begin_run(world.slurm(first))
    world.work(60)
    for path in ("/healthz", "/readyz", "/metrics"):
        requests.get(world.url + path, timeout=10)
    world.core.terminate(second)
    world.work(60)
    world.model.end(world.slurm(first))
    world.work(60)
    world.work(100 * 86400)


def _claimed(codes: Codes, secret: str, number: int, now: float) -> Code:
    text = code_text(secret, number)
    code = codes.of(text, now)
    assert code is not None
    assert codes.claim(code, Claim("l", 1, "host"), now)
    claimed = codes.claimed(text, 1, now)
    assert claimed is not None
    return claimed


def the_rest(provider: Provider) -> None:
    """What no life has in it, asked for by name."""
    now, jobs, store = provider.now(), provider.jobs, provider.store
    seen, charges, outbox = provider.observations, provider.charges, provider.outbox
    jobs.accept([new_job(id_) for id_ in ("1", "2", "3")])
    for number, id_ in enumerate(("6", "7")):  # Slurm uses a number again
        accept_live(jobs, new_job(id_, accepted_at=float(number)), slurm_id=9)
    seen.adopt(new_job("4"), now)
    seen.register(new_job("5"), 8, 1, now)
    seen.by_slurm_id([1])
    seen.awaited()
    seen.audited(now)
    seen.on_another_cluster("c")
    seen.ended_since(now)
    seen.record_waiting("1", "line", None, None, now)
    jobs.acknowledge(["1"], now)
    jobs.claim(["1"], now, now, 1.0)
    jobs.any_claimed(["1"])
    jobs.mark_outcome_unknown("1", 1, now)
    jobs.release_claim(["1"], 1)
    jobs.refused("1", 400, "why", now)
    jobs.refused("2", 400, "why", now)
    jobs.end_unsubmitted("4", JobUpdate(JobState.SUCCESS, "cancelled"), now)
    jobs.roll_back(["3"], 400, "why", now)
    jobs.held("1", JobUpdate(None, "held"), now)
    jobs.released("1", None, now)
    seen.record_absence("1", now)
    seen.record_user("1", "ada", 1000)
    seen.record_known_state("1", "RUNNING")
    seen.look_up("1")
    outbox.of_waiting()
    outbox.drop_updates("1", "why", now)
    outbox.drop("1", "why", now)
    outbox.assume_sent()
    seen.record_clock("1", 5)
    seen.report_run("1")
    seen.record_extension("1", "60", now)
    seen.record_time_limit("1", 5, JobUpdate(None, "limit"), now)
    outbox.repeat_update("1", JobUpdate(JobState.RUNNING, "runs"), now)
    outbox.enqueue_once("1", JobUpdate(None, "SSH:"), now)
    charges.add(Charge("k", "1", 1, 1, "d"), 7, 60, now)
    charges.may_be_booked("1")
    charges.add(Charge("l", "1", 1, 1, "d"), 7, 60, now, Usage("u", None, "c", "p", "s", 1))
    key = RestKey(Payer(OwnerKind.USER, "u", "c"), "", 60)
    charges.carry(key, 5)
    charges.rest(key)
    seen.unconfirmed(now)
    seen.confirmed(["1"], now)
    seen.forgotten("1", "why", now)
    jobs.newest(10)
    jobs.stop("1", Stop.TERMINATED, now)
    charges.of("1")
    charges.runs("1")
    outbox.mark_done(
        [OutboxMessage(1, "1", "usage", "{}", now, 0), OutboxMessage(2, "1", "charge", '{"chargeId": "k"}', now, 0)],
        MessageOutcome.DELIVERED,
        "",
        now,
    )
    outbox.plan_repetition([OutboxMessage(1, "1", "usage", "{}", now, 0)], now)
    outbox.repeat_last("1", now)
    ucloud_was_away(store, now, now)
    outbox.repeated(outbox.repetitions(now), now)
    outbox.repeated([OutboxMessage(1, "1", "usage", "{}", now, 0)], now)
    outbox.listed(10)
    outbox.newest(10)
    outbox.parked()
    outbox.of("1")
    outbox.retry()
    sessions = provider.sessions
    session = Session("", "1", 0, Kind.WEB, "u", "l", None, 1, now)
    sessions.create(session, "token")
    sessions.create(session._replace(job_id="", kind=Kind.SHELL, drive_id="1"), "another")
    opened = sessions.open("token", Kind.WEB, now)
    assert opened is not None
    sessions.by_cookie(sessions.give_cookie(opened), now)
    sessions.heartbeat(["x"], now)
    sessions.end(opened, now)
    sessions.remove_access("1", ["user:u"], now)
    sessions.give_access("1", ["user:u"])
    sessions.given("1", "user:u")
    sessions.given_to_a_group("1")
    sessions.access(["1"])
    people = provider.people
    codes, secret = provider.codes, provider.codes.new("u", now)
    code = _claimed(codes, secret, 1, now)
    codes.release(code)
    code = _claimed(codes, secret, 1, now)
    codes.reject(secret, code.shown, people, now)
    codes.claim(_claimed(codes, secret, 2, now), Claim("another", 2, "host"), now)
    codes.renew(secret, now)
    codes.connect(secret, _claimed(codes, secret, 3, now).shown, people, now, 1)
    people.former("u", "l")
    people.of("u")
    people.listed()
    people.count()
    people.with_account("l", 1)
    people.add_project("p", "a", "me", now)
    people.account("p")
    people.projects()
    people.remove_project("p", "me", now)
    people.history()
    provider.acts.listed(now, 10)
    states = provider.link_states
    states.named("u", now)
    states.pending()
    states.claim("u", now)
    states.is_claimed("u", now)
    states.record_report("u", True)
    states.disconnected("u", now)
    people.remove("u", "me", now)
    wallets, payer = Wallets(store), Payer(OwnerKind.USER, "u", "c")
    wallets.take([User("u"), Project("p", "t", now, True, ("u",))], "example", now)
    wallets.set(Wallet(payer, "example", True, 0, 0, True, now))
    wallets.found(payer, locked=False)
    wallets.all_locked()
    wallets.forget_locks()
    wallets.changed_at(payer)
    wallets.named_user("u")
    wallets.named_project("p")
    wallets.handled(now)
    wallets.replay_from()
    drives, drive = provider.drives, Drive("h-example/home/u", "home", "u", None, None, now)
    drives.want([drive])
    drives.users_without("home")
    drives.connected_without("home")
    drives.projects_without("home")
    drives.project("p")
    drives.due(now, 10)
    drives.postpone(drive.provider_id, now)
    drives.registered(drive, "7", now)
    drives.of_id("7")
    drives.of_owner("u", "p")
    drives.listed(10)
    maintenance = provider.maintenance
    maintenance.begin([MaintenanceWindow("c", "p", "message", None, now, "root")])
    maintenance.on(now)
    maintenance.end([("c", "p")], now, "root")
    for kind in OwnerKind:
        for machine in (None, ("c", "p")):
            count_open(store, kind, "u", machine)
    provider.breaker.record_person("u", "why", now)
    provider.breaker.persons(now)
    provider.breaker.forget_person("u")
    browse(Browsing(store, window=1))
    daily_use.daily_use(store, 0, 1)
    daily_use.titles(store, ["p"])
    tasks(provider.tasks, now)
    transfers(provider.transfers, now)
    hooks(provider.hook_events, provider.people, now)
    retention = Retention(store)
    retention.delete_jobs(now, [1], 10)
    retention.delete_others(now, now)
    summary.tables(store)
    summary.newest_jobs(store, 10)
    summary.newest_messages(store, 10)
    summary.names(store)
    summary.kept_secrets(store)
    generation = Generation(store)
    generation.confirm(now)
    store.change("update generation set inode = null")
    generation.claim()
    copy = backup.make(store.path, store.path.parent / "backups", now)
    restore.restore(copy.path, store.path.parent / "restored.db", copy.path.parent, now)


def browse(browsing: Browsing) -> None:
    """An operator looks around."""
    for wanted in FILTERS:
        browsing.jobs(wanted)
    browsing.open_states()
    browsing.latest(10)
    browsing.latest_deliveries(10)
    browsing.sessions("1")
    for outcome in ("waiting", "parked", "all"):
        browsing.messages(outcome)
    browsing.people()
    browsing.acts()
    browsing.wallets()
    browsing.wallets(locked=True)
    browsing.drives()


def hooks(events: HookEvents, people: People, now: float) -> None:
    """Programs of the site get events, fail, and are repaired."""
    events.configure(["person-connected", "project-changed"])
    people.add([UserLink(name, name, 1, now, "me") for name in ("v", "w", "x")])
    first, second, third, *_ = events.heads(now, 10)
    events.delivered(first, now)
    events.unneeded(second, "why", now)
    events.failed(third, "why", now)
    events.postponed(third, "why", now)
    events.retry(now)
    events.open(third.id)
    events.drop(third.id, now)
    events.undecided("why", now)
    events.count()
    events.oldest_waiting()
    events.listed(10)
    events.newest(10)
    events.replay(now)


def tasks(tasks: Tasks, now: float) -> None:
    """Changes of files are done, cancelled and reported."""
    tasks.add([NewTask("copy", "u", "l", "{}", "title")], now)
    task = tasks.claim(now, until=now + 1, per_user=2, in_all=8)
    assert task is not None
    tasks.to_create(now, 10)
    tasks.created(task, 815, now)
    tasks.to_post(now, 10)
    tasks.posted(task, now)
    tasks.refused(task, "why")
    tasks.renew(task, now + 1)
    tasks.goes_on(task)
    tasks.progress(task, "1 of 2", 50)
    tasks.cancel(815, "u", now)
    tasks.release(task)
    tasks.finish(task, TaskState.SUCCESS, "Done", now)
    tasks.give_up(now)
    tasks.add_failed(NewTask("upload", "u", "l", "{}", "title"), "why", now)


def transfers(transfers: Transfers, now: float) -> None:
    """Files are fetched and sent."""
    upload = Transfer(hashed("t"), TransferKind.UPLOAD, "u", "l", "1", "/r", ("a",), now, now + 1)
    part = upload._replace(token=hashed("p"), kind=TransferKind.PART, part="p")
    transfers.create([upload])
    transfers.abandon([upload._replace(token=hashed("a"))], now)
    transfers.keep_part(part)
    transfers.forget_part(part)
    found = transfers.find("t")
    assert found is not None
    transfers.again(found)
    transfers.use(found, now, now + 1)
    transfers.begin(found, "p", 5, now)
    transfers.progress(found, 3, now + 1)
    transfers.end(found, TransferOutcome.DONE, now, 5, "b")
    transfers.silent(now, 10)
    transfers.expired(now, 10)
    transfers.delete_old(now)


@pytest.mark.every_era
def test_no_query_reads_what_has_ended(world: World, asked: dict[str, Any]) -> None:
    asked.clear()  # a migration may read what it changes
    Store(world.provider.store.path).close()
    life(world)
    the_rest(world.provider)
    never = [sql for sql in written() if not any(each.startswith(sql) for each in asked)]
    assert never == [], "ask for these too"
    found = {
        sql: steps
        for sql, parameters in list(asked.items())
        if re.match(r"(select|insert|update|delete) ", sql)
        and not re.search(r"\bt[0-9a-f]{32}\b", sql)  # a table on which the library tries what SQLite can do
        and not any(sql.startswith(allowed) for allowed in ALLOWED)
        and (steps := scans(world.provider.store, sql, parameters))
    }
    assert found == {}


def test_what_is_watched_is_read_from_one_index(tmp_path: Path, asked: dict[str, Any]) -> None:
    store = Store(tmp_path / "test.db")
    Jobs(store).open()
    (sql,) = [each for each in asked if "jobs_open where" in each]
    (step,) = store.rows(f"explain query plan {sql}", [None])
    assert step["detail"] == "SCAN jobs USING COVERING INDEX jobs_open"
    store.close()
