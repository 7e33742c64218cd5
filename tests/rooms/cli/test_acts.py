"""What an administrator or a user has changed is recorded with the person and the place, and the record stays."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import World
from tests.rooms.cli.conftest import Configure
from tests.support.database import earlier_release
from tests.support.factories import new_job
from ucloud_slurm.cli.main import main
from ucloud_slurm.errors import Conflict
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store import backup, restore
from ucloud_slurm.store.acts import Act, Acts
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.outbox import MessageOutcome
from ucloud_slurm.store.people import LinkChange, People, UserLink
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system import origin
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.worker.reconcile import reconcile

ALL = 1000


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grace has called sudo, over ssh."""
    monkeypatch.setenv("SUDO_USER", "grace")
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22")
    monkeypatch.setattr(origin, "LOGIN_UID", Path("/nonexistent"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "test.db")) as store:
        yield store


def seen(store: Store) -> list[tuple[str, str, str]]:
    return [(act.who, act.kind, act.what) for act in Acts(store).listed(0.0, ALL)]


# ---- who and where


@pytest.mark.parametrize(
    ("login", "environment", "who"),
    [
        ("0\n", {"SUDO_USER": "grace"}, "root"),
        (f"{2**32 - 1}\n", {"SUDO_USER": "grace"}, "grace"),
        ("4000000000", {}, "4000000000"),
        ("", {}, own_account()),
        (f"{2**32 - 1}", {"SUDO_USER": ""}, own_account()),
    ],
)
def test_what_the_kernel_says_of_a_person_counts_before_the_environment(
    tmp_path: Path, login: str, environment: dict[str, str], who: str
) -> None:
    (tmp_path / "loginuid").write_text(login)
    assert origin.origin(environment, tmp_path / "loginuid").who == who


def test_what_the_environment_says_is_one_short_line(tmp_path: Path) -> None:
    found = origin.origin({"SUDO_USER": "x\n\033[2J" + "y" * 1000, "SSH_CLIENT": "::1 1 2"}, tmp_path / "none")
    assert (found.sudo_user or "").startswith("x [2Jy")
    assert len(found.sudo_user or "") == origin.LONGEST_CHARACTERS
    assert found.client == "::1"


@pytest.mark.usefixtures("at_a_terminal")
def test_an_act_has_the_person_and_the_place(store: Store) -> None:
    acts = Acts(store)
    acts.record("maintenance", "began", 5.0)
    acts.record("users", "connected", 6.0, who="ada", client="198.51.100.1")
    first, second = acts.listed(0.0, ALL)
    assert (first.at, first.who, first.kind, first.what, first.sudo_user) == (5.0, "grace", "maintenance", "began", "grace")
    assert (first.account, first.host, first.client) == (own_account(), origin.here().host, "192.0.2.7")
    assert (second.who, second.client) == ("ada", "198.51.100.1")


# ---- the record stays


@pytest.mark.parametrize("sql", ["delete from acts", "update acts set who = 'nobody'", "delete from acts where id = 1"])
def test_an_act_cannot_be_changed_or_deleted(store: Store, sql: str) -> None:
    Acts(store).record("users", "what", 1.0)
    with pytest.raises(sqlite3.IntegrityError, match="acts are only added"):
        store.change(sql)
    assert len(seen(store)) == 1


def test_the_history_of_an_earlier_release_is_in_the_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with earlier_release(monkeypatch, 15), closing(Store(tmp_path / "test.db")) as store:
        store.change("insert into people_history (at, who, what) values (1, 'grace', 'first'), (1, 'ada', 'second')")
    with closing(Store(tmp_path / "test.db")) as store:
        assert People(store).history() == [LinkChange(1, "grace", "first"), LinkChange(1, "ada", "second")]
        assert Acts(store).listed(0.0, ALL)[0] == Act(1, 1.0, "grace", "users", "first", *[None] * 6)


def test_an_act_that_is_undone_is_not_recorded(store: Store) -> None:
    links = [UserLink("A", "a", 1, 1.0, "grace"), UserLink("B", "a", 1, 1.0, "grace")]
    with pytest.raises(Conflict):
        People(store).add(links)
    assert seen(store) == []


def test_a_restore_and_an_adoption_are_acts_of_the_database_that_is_there_then(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    Store(path).close()
    copy = backup.make(path, tmp_path / "backups", 1.0).path
    restore.restore(copy, path, tmp_path / "backups", 2.0)
    restore.adopt(path, tmp_path / "backups", 3.0)
    with closing(Store(path)) as store:
        assert [(act.at, act.kind, act.what) for act in Acts(store).listed(0.0, ALL)] == [
            (2.0, "database", f"restored {path} from {copy}"),
            (3.0, "database", f"made {path} the database of this host"),
        ]


# ---- commands


Ask = Callable[..., Result]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a verb over the world's database."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)
    return lambda *words: CliRunner().invoke(main, words)


def test_a_retry_is_an_act_where_there_was_something_to_queue(world: World, ask: Ask) -> None:
    provider = world.provider
    ask("outbox", "--retry")
    assert seen(provider.store) == []
    provider.jobs.accept([new_job("1")])
    provider.outbox.enqueue("1", "update", {"update": {"status": "x"}}, 1.0)
    provider.outbox.mark_done(provider.outbox.listed(10), MessageOutcome.PARKED, "400", 1.0)
    assert ask("outbox", "--retry").exit_code == 0
    assert [what for _, _, what in seen(provider.store)] == ["queued 1 refused messages again"]


def test_a_reconciliation_is_an_act_where_it_repairs_something_and_somebody_has_asked_for_it(world: World) -> None:
    provider = world.provider
    world.work()
    assert reconcile(provider).repaired
    assert seen(provider.store) == []
    provider.store.change("update generation set restored_at = 1")
    reconcile(provider, dry_run=True)
    assert seen(provider.store) == []
    assert reconcile(provider, gone=frozenset({"old"})).repaired
    (act,) = Acts(provider.store).listed(0.0, ALL)
    what = "reconciliation of 0 differences; the database was restored or moved; end of the jobs of old"
    assert (act.kind, act.what) == ("reconcile", what)
    provider.store.change("update generation set restored_at = 1")
    world.work(60)
    assert not Generation(provider.store).is_behind()
    assert len(seen(provider.store)) == 1, "the worker is nobody"


def test_an_act_at_another_system_that_fails_is_recorded_with_its_failure(store: Store) -> None:
    def fails() -> None:
        raise OSError("secret")

    with pytest.raises(OSError, match="secret"), Acts(store).recorded("products", "registration", 1.0):
        fails()
    assert [what for _, _, what in seen(store)] == ["registration", "registration: failed (OSError)"]


@pytest.mark.usefixtures("at_a_terminal")
def test_acts_are_listed_with_the_newest_ones_where_there_are_more(world: World, ask: Ask) -> None:
    acts = world.provider.acts
    for number in range(3):
        acts.record("users", f"what {number}", 1_700_000_000.0 + number)
    shown = ask("acts", "--most", "2")
    assert "there are more than these 2" in shown.stderr
    assert [line.split()[3:5] for line in shown.stdout.splitlines()[1:]] == [["what", "1"], ["what", "2"]]
    assert shown.stdout.splitlines()[1].endswith(f"{own_account()}@{origin.here().host} 192.0.2.7")
    assert [each["what"] for each in json.loads(ask("acts", "--since", "2023-11-14T22:13:22", "--json").stdout)] == ["what 2"]
    assert json.loads(ask("acts", "--since", "1h", "--json").stdout) == []


@pytest.mark.usefixtures("at_a_terminal")
def test_the_person_at_the_terminal_changes_users_and_projects(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure("table")
    config.ucloud.refresh_token_file.write_text("refresh")
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: config)
    for words in (("add", "U1#1", "u1"), ("remove", "U1#1"), ("projects", "add", "p", "a"), ("projects", "remove", "p")):
        assert CliRunner().invoke(main, ["users", *words]).exit_code == 0
    provider = Provider.open(config)
    assert [act.who for act in Acts(provider.store).listed(0.0, ALL)] == ["grace"] * 4
    assert [change.what for change in provider.people.history()] == [what for _, _, what in seen(provider.store)]
    provider.close()
