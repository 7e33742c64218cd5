"""Programs of the site get every event for which they are configured: at least once, in order, and in nobody's way."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.conftest import START, Clock, Open, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.support.factories import accept_live, new_job
from tests.support.hook_site import HookSite
from tests.support.model import Model
from ucloud_slurm.cli.main import main
from ucloud_slurm.config.hooks import EVENTS
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.status import EVENT_SECONDS, read_status
from ucloud_slurm.setup.services import units
from ucloud_slurm.store.hooks import MOST_ATTEMPTS, HookEvent, pause
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.retention import Retention
from ucloud_slurm.ucloud.channel import OwnerKind, Payer, Project, Wallet
from ucloud_slurm.ucloud.reports import JobState, JobUpdate
from ucloud_slurm.worker.hooks import deliver_events
from ucloud_slurm.worker.run import Result

OF_PEOPLE = ("person-connected", "person-left", "project-changed", "wallet-changed")
OF_JOBS = ("job-started", "job-ended")
ADA = UserLink("Ada#1", "ada", 1001, START, "root")
WALLET = Payer(OwnerKind.PROJECT, "p-1", "example-compute")


@pytest.fixture
def hooks(tmp_path: Path) -> HookSite:
    return HookSite(tmp_path)


@pytest.fixture
def provider(hooks: HookSite, open_provider: Open) -> Provider:
    """A site with one program for all events but the decision."""
    return open_provider(hooks=[hooks.hook(*OF_PEOPLE, *OF_JOBS)])


@pytest.fixture
def world(core: SimulatedCore, provider: Provider, serve: Serve, model: Model, clock: Clock) -> World:
    return World(core, provider, model, clock, serve(provider))


def project(*members: str, title: str = "Physics") -> Project:
    return Project("p-1", title, START, True, members)


def wallet(*, locked: bool = False, quota: int = 1000, usage: int = 5) -> Wallet:
    return Wallet(WALLET, "example", True, quota, usage, locked, START)


def waiting(provider: Provider) -> list[HookEvent]:
    return provider.hook_events.listed(1000)


def names(provider: Provider) -> list[str]:
    return [event.event for event in waiting(provider)]


def test_people_projects_and_wallets_are_events_with_what_a_program_needs(hooks: HookSite, provider: Provider) -> None:
    people, wallets = provider.people, provider.wallets
    wallets.take([project("Ada#1", "Bob#2")], "example", START)
    people.add([ADA])
    people.add_project("p-1", "physics", "root", START)
    wallets.take([wallet()], "example", START)
    wallets.found(WALLET, locked=True)
    people.remove("Ada#1", "root", START)
    written = [event.key for event in waiting(provider)]
    with hooks.serving(provider.config):
        assert deliver_events(provider) is Result.DONE
    assert waiting(provider) == []
    got = sorted(hooks.got(), key=lambda event: written.index(event["id"]))
    assert {event.pop("provider") for event in got} == {"example"}
    assert len({event.pop("id") for event in got}) == len(got)
    assert all(event.pop("at") > START for event in got)
    bob = {"username": "Bob#2", "user": None, "uid": None}
    ada = {"username": "Ada#1", "user": "ada", "uid": 1001}
    of_project = {"event": "project-changed", "project": "p-1", "title": "Physics"}
    of_wallet = {
        "event": "wallet-changed",
        "owner_kind": "project",
        "owner": "p-1",
        "category": "example-compute",
        "quota": 1000,
        "usage": 5,
        "account": "physics",
        "user": None,
    }
    assert got == [
        of_project | {"account": None, "members": [{"username": "Ada#1", "user": None, "uid": None}, bob]},
        {"event": "person-connected"} | ada | {"projects": [{"project": "p-1", "title": "Physics", "account": None}]},
        of_project | {"account": "physics", "members": [ada, bob]},
        of_wallet | {"locked": False},
        of_wallet | {"locked": True},
        {"event": "person-left"} | ada | {"projects": [{"project": "p-1", "title": "Physics", "account": "physics"}]},
    ]


def test_what_does_not_change_is_no_event(provider: Provider) -> None:
    provider.people.add([ADA])
    for _ in range(2):
        provider.people.add([ADA])
        provider.wallets.take([project("Ada#1"), wallet()], "example", START)
        provider.wallets.take([wallet(usage=900)], "example", START)
        provider.wallets.found(WALLET, locked=False)
    assert names(provider) == ["person-connected", "project-changed", "wallet-changed"]
    provider.wallets.take([project("Ada#1", title="Physics 2"), wallet(quota=2000)], "example", START)
    assert names(provider)[3:] == ["project-changed", "wallet-changed"]


def test_an_event_is_in_the_transaction_of_its_cause(provider: Provider) -> None:
    def fail() -> None:
        with provider.store.writing():
            provider.people.add([ADA])
            provider.wallets.take([project("Ada#1"), wallet()], "example", START)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert waiting(provider) == []


def test_only_events_with_a_program_are_written(hooks: HookSite, open_provider: Open) -> None:
    provider = open_provider(hooks=[hooks.hook("person-left")])
    provider.people.add([ADA])
    provider.wallets.take([project("Ada#1"), wallet()], "example", START)
    provider.people.remove("Ada#1", "root", START)
    assert names(provider) == ["person-left"]
    open_provider()
    provider.people.add([ADA])
    provider.people.remove("Ada#1", "root", START)
    assert names(provider) == ["person-left"], "no program is configured any more"


def test_a_job_that_runs_and_ends_is_two_events(hooks: HookSite, world: World) -> None:
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(60)
    world.model.end(world.slurm(job_id))
    world.work(60)
    with hooks.serving(world.provider.config):
        deliver_events(world.provider)
    started, ended = hooks.got()
    row, known = world.row(job_id), {"job": job_id, "owner": "user", "product": "example-compute-1", "outside": False}
    for event in (started, ended):
        assert event.items() >= (known | {"user": row.local_user, "slurm_id": row.slurm_id, "uid": row.uid}).items()
        assert event["partition"] == world.slurm(job_id).submission.partition
    assert (started["event"], started["state"], started["ended_at"]) == ("job-started", "RUNNING", None)
    assert (ended["event"], ended["state"], ended["used"]) == ("job-ended", "SUCCESS", row.used)
    assert ended["message"] == row.reason


def test_a_job_that_never_ran_ends_once_and_one_that_was_refused_is_no_event(hooks: HookSite, world: World) -> None:
    first = world.submit()
    world.core.terminate(first)
    world.work(60)
    world.work(60)
    world.model.refuse = "Invalid account or account/partition combination specified"
    with pytest.raises(CoreError, match="Invalid account"):
        world.submit()
    with hooks.serving(world.provider.config):
        deliver_events(world.provider)
    assert [(event["event"], event["job"]) for event in hooks.got()] == [("job-ended", first)]


def test_an_end_that_a_comparison_with_ucloud_finds_again_is_no_second_event(hooks: HookSite, world: World) -> None:
    job_id = world.submit()
    world.core.terminate(job_id)
    world.work(60)
    world.provider.observations.record_known_state(job_id, str(world.row(job_id).state))
    with hooks.serving(world.provider.config):
        deliver_events(world.provider)
    assert [event["event"] for event in hooks.got()] == ["job-ended"]


def test_a_job_that_ucloud_takes_back_after_its_start_ends(provider: Provider) -> None:
    accept_live(provider.jobs, new_job("7"), slurm_id=9)
    for state in ("RUNNING", "SUSPENDED", "RUNNING"):  # going on is no start
        provider.observations.record_known_state("7", state)
    provider.observations.forgotten("7", "why", START)
    provider.observations.record_end("7", JobUpdate(JobState.SUCCESS, "The job has ended."), 5, START)
    assert names(provider) == ["job-started", "job-ended"]
    provider.observations.record_known_state("7", "SUCCESS")  # as a reconciliation does
    assert names(provider) == ["job-started", "job-ended"]


FAILS_FOR_ADA = '#!/bin/sh\nread -r event\ncase $event in *Ada*) echo no directory >&2; exit 1;; esac\necho "$event" >> {log}\n'


def test_a_failure_is_repeated_later_and_holds_back_its_own_subject_only(
    hooks: HookSite, open_provider: Open, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    provider = open_provider(hooks=[hooks.hook("person-connected", "person-left", text=FAILS_FOR_ADA)])
    provider.people.add([ADA, UserLink("Bob#2", "bob", 1002, START, "root")])
    provider.people.remove("Ada#1", "root", START)
    with hooks.serving(provider.config):
        deliver_events(provider)
        deliver_events(provider)
        assert [event["username"] for event in hooks.got()] == ["Bob#2"]
        first, second = waiting(provider)
        assert (first.event, first.attempts, second.event, second.attempts) == ("person-connected", 1, "person-left", 0)
        assert first.failure is not None
        assert first.failure.endswith("ended with exit status 1: no directory")
        assert f"event {first.id} (person-connected, person Ada#1) is delivered again later" in caplog.text
        key = first.key
        clock.advance(pause(1))
        deliver_events(provider)
        assert waiting(provider)[0].attempts == 2
        hooks.program("person-connected")
        clock.advance(pause(1))
        deliver_events(provider)
        assert len(waiting(provider)) == 2, "the pause grows"
        clock.advance(pause(1))
        deliver_events(provider)
    assert [event["event"] for event in hooks.got()[1:]] == ["person-connected", "person-left"]
    assert hooks.got()[1]["id"] == key, "an event has the same id in each delivery"


def test_an_event_that_fails_for_ever_is_given_up_and_can_be_delivered_again(
    hooks: HookSite, open_provider: Open, clock: Clock
) -> None:
    provider = open_provider(hooks=[hooks.hook("person-connected", "person-left", text=FAILS_FOR_ADA)])
    provider.people.add([ADA])
    provider.people.remove("Ada#1", "root", START)
    provider.store.change("update hook_events set attempts = ? where event = 'person-connected'", [MOST_ATTEMPTS - 1])
    with hooks.serving(provider.config):
        deliver_events(provider)
        first, second = waiting(provider)
        assert (first.outcome, second.outcome, second.attempts) == ("failed", None, 1), "later events go on"
        hooks.program("person-connected")
        assert provider.hook_events.retry(clock()) == 2
        deliver_events(provider)
    assert [event["event"] for event in hooks.got()] == ["person-connected", "person-left"]
    assert sum(pause(attempt) for attempt in range(1, MOST_ATTEMPTS)) == pytest.approx(3 * 86400, rel=0.05)


def test_while_nobody_runs_the_programs_events_wait_and_no_attempt_is_counted(
    hooks: HookSite, provider: Provider, clock: Clock
) -> None:
    provider.people.add([ADA])
    assert deliver_events(provider) is Result.NOT_ALL
    (event,) = waiting(provider)
    assert (event.attempts, event.outcome) == (0, None)
    assert f"nobody answers at {hooks.socket}" in str(event.failure)
    clock.advance(60)
    with hooks.serving(provider.config):
        assert deliver_events(provider) is Result.DONE
    assert len(hooks.got()) == 1


def test_the_daemon_runs_no_program_that_its_configuration_does_not_name(hooks: HookSite, provider: Provider) -> None:
    provider.people.add([ADA])
    with hooks.serving([hooks.hook("job-ended")]):
        deliver_events(provider)
    assert hooks.got() == []
    assert "person-connected has no program here; restart ucloud-slurm-hookd" in str(waiting(provider)[0].failure)


def test_an_event_whose_program_was_taken_from_the_configuration_is_dropped(
    hooks: HookSite, provider: Provider, open_provider: Open
) -> None:
    provider.people.add([ADA])
    without = open_provider()
    assert deliver_events(without) is Result.DONE
    assert [event.outcome for event in without.hook_events.newest(10)] == ["dropped"]


Ask = Callable[..., str]


@pytest.fixture
def ask(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a verb over the provider's database."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: provider.config)

    def ask_(*words: str) -> str:
        done = CliRunner().invoke(main, ["hooks", *words])
        assert done.exit_code == 0, done.output
        return done.output

    return ask_


def test_what_waits_and_what_failed_is_listed_retried_and_dropped(provider: Provider, ask: Ask) -> None:
    provider.people.add([ADA])
    (event,) = waiting(provider)
    provider.hook_events.failed(event, "the directory is away\x1b[2J", time.time())
    (line,) = ask("list").splitlines()[1:]
    assert line.split()[:4] == [str(event.id), "person-connected", "person", "Ada#1"]
    assert "waiting" in line
    assert "the directory is away [2J" in line
    assert json.loads(ask("list", "--json"))[0]["failure"].startswith("the directory")
    assert ask("retry") == "1 events are delivered at the next pass.\n"
    ask("drop", str(event.id))
    assert ask("list").splitlines()[1:] == []
    assert "dropped" in ask("list", "--all")
    acts = [(act.kind, act.what) for act in provider.acts.listed(0.0, 10) if act.kind == "hooks"]
    assert acts == [("hooks", "queued 1 events again"), ("hooks", f"dropped the event {event.id}")]
    assert CliRunner().invoke(main, ["hooks", "drop", str(event.id)]).exit_code == 1


def test_a_program_that_is_new_gets_everybody_once(hooks: HookSite, provider: Provider, open_provider: Open, ask: Ask) -> None:
    provider.hook_events.configure([])
    provider.people.add([ADA])
    provider.wallets.take([project("Ada#1"), wallet()], "example", START)
    assert waiting(provider) == []
    assert ask("replay") == "3 events are delivered at the next pass.\n"
    assert names(provider) == ["person-connected", "project-changed", "wallet-changed"]


def test_every_event_is_written_by_something(provider: Provider) -> None:
    triggers = provider.store.tuples("select sql from sqlite_schema where type = 'trigger' and name like 'hook_%'")
    assert {event for event in EVENTS if any(f"'{event}'" in sql for (sql,) in triggers)} == {*OF_PEOPLE, *OF_JOBS}


def test_events_that_are_over_are_deleted_with_the_jobs(hooks: HookSite, provider: Provider) -> None:
    provider.people.add([ADA])
    provider.people.remove("Ada#1", "root", START)
    (event, _) = waiting(provider)
    provider.hook_events.delivered(event, START)
    Retention(provider.store).delete_others(START + 1, START + 1)
    assert [each.event for each in provider.hook_events.newest(10)] == ["person-left"]


def shape(value: Any) -> Any:
    """The keys of an object, and of the first object of each list in it."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def test_the_guide_shows_each_event_as_a_program_gets_it(hooks: HookSite, world: World) -> None:
    text = (Path(__file__).parents[2] / "docs/howto/hooks.rst").read_text()
    blocks = re.findall(r"\.\. code-block:: json\n\n((?:   .*\n)+)", text)
    shown = {event["event"]: event for event in map(json.loads, blocks)}
    assert list(shown) == [*OF_PEOPLE, *OF_JOBS, "job-accepted"]
    world.provider.wallets.take([project("Ada#1", "Bob#2"), wallet()], "example", START)
    world.provider.people.add([ADA])
    world.provider.wallets.take([project("Bob#2")], "example", START)
    world.provider.people.remove("Ada#1", "root", START)
    job_id = world.submit()
    world.model.begin_run(world.slurm(job_id))
    world.work(60)
    world.model.end(world.slurm(job_id))
    world.work(60)
    with hooks.serving(world.provider.config):
        deliver_events(world.provider)
    for event in hooks.got():
        assert shape(event) == shape(shown[event["event"]]), event["event"]
    assert {event["event"] for event in hooks.got()} == {*OF_PEOPLE, *OF_JOBS}


def test_the_status_counts_what_waits_and_is_not_well_while_something_waits_long_or_has_failed(
    provider: Provider, clock: Clock, open_provider: Open
) -> None:
    def shown() -> tuple[bool, str]:
        (found,) = [each for each in read_status(provider.config, clock()).conditions if each.what == "hooks"]
        return found.well, found.text

    provider.people.add([ADA])
    provider.store.change("update hook_events set created_at = ?", [clock()])
    clock.advance(EVENT_SECONDS)
    waits = "1 events wait for programs of the site, the oldest for 30 min"
    assert shown() == (True, f"{waits}, and none failed")
    provider.hook_events.undecided("it hangs", clock())
    assert shown() == (False, f"{waits}, and 1 failed; ucloud-slurm hooks list")
    provider.hook_events.drop(provider.hook_events.listed(9)[1].id, clock())
    clock.advance(1)
    assert shown() == (False, f"{waits}, and 0 failed; ucloud-slurm hooks list")
    deliver_events(open_provider(hooks=[]))
    assert shown() == (True, "0 events wait for programs of the site, and none failed")


def test_the_units_that_a_site_enables_are_with_hooks_those_of_hooks(provider: Provider, open_provider: Open) -> None:
    theirs = {"ucloud-slurm-hookd.socket", "ucloud-slurm-hooks.timer"}
    assert theirs <= {*units(provider.config)}
    assert not theirs & {*units(open_provider(hooks=[]).config)}
