"""What an administrator sees on one screen: every part, why it is not well, and the command that helps."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import World
from tests.rooms.cli.conftest import Configure, connect
from tests.support.config_file import write_config
from tests.support.database import earlier_release
from tests.support.factories import new_job
from ucloud_slurm.cli.main import main
from ucloud_slurm.config import read
from ucloud_slurm.provider import status
from ucloud_slurm.provider.audit import AuditKind
from ucloud_slurm.provider.health import LATE_SECONDS
from ucloud_slurm.provider.status import BACKUP_SECONDS, NO_LINK, WAITED_SECONDS, Condition, Status, age, read_status
from ucloud_slurm.store import backup, migrations
from ucloud_slurm.store.breaker import CircuitBreaker
from ucloud_slurm.store.caches import AUDIT, Cache
from ucloud_slurm.store.maintenance import MaintenanceWindow
from ucloud_slurm.store.outbox import MessageOutcome, Outbox
from ucloud_slurm.store.reading import ReadOnlyStore
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.filelock import IN_USE, MIGRATION, exclusive_lock
from ucloud_slurm.system.serving import WSGI

Ask = Callable[..., Result]
# The command of the timer's account, for tests that run as root.
PROGRAM = (
    "from ucloud_slurm.cli import context; context.refuse_root = lambda: None; "
    "from ucloud_slurm.cli.main import main; main(prog_name='ucloud-slurm')"
)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """What the kernel lists while the web service runs behind systemd's socket."""
    folder = tmp_path / "proc"
    (folder / "12").mkdir(parents=True)
    (folder / "12" / "cmdline").write_bytes(b"gunicorn\0-c\0x.py\0" + WSGI + b":app\0")
    (folder / "net").mkdir()
    _listening(folder, "/run/ucloud-slurm/web.sock")
    return folder


def _listening(proc: Path, *paths: str) -> None:
    head = "Num       RefCount Protocol Flags    Type St Inode Path\n"
    lines = [f"0000000000000000: 00000002 00000000 00010000 0001 01 23973956 {path}\n" for path in paths]
    (proc / "net" / "unix").write_text(head + "".join(lines))


@pytest.fixture
def seen(world: World, proc: Path) -> Callable[[], Status]:
    """The state of a site that has had a pass and a backup."""
    world.work()
    database = world.provider.config.database
    backup.make(database.path, database.backup_folder, world.clock())
    return lambda: read_status(world.provider.config, world.clock(), proc)


@pytest.fixture
def ask(world: World, seen: Callable[[], Status], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a verb over the world's database."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)
    monkeypatch.setattr("ucloud_slurm.cli.status.read_status", lambda _config, _now: seen())
    return lambda *words: CliRunner().invoke(main, words)


def unwell(found: Status) -> dict[str, str]:
    return {each.what: each.text for each in found.unwell}


def test_a_site_that_works_is_well_and_the_command_ends_with_0(world: World, ask: Ask) -> None:
    world.submit()
    shown = ask("status")
    assert shown.exit_code == 0, shown.output
    assert "All is well." in shown.stdout
    assert "NOT WELL" not in shown.stdout
    assert "0 accepted, 0 submitting, 1 live, 0 ended, 0 refused" in shown.stdout
    assert len(shown.stdout.splitlines()) <= 24, "one screen"


def test_what_is_not_well_ends_the_command_with_1_and_is_named_in_the_last_line(world: World, ask: Ask) -> None:
    world.clock.advance(LATE_SECONDS + 1)
    shown = ask("status")
    assert shown.exit_code == 1
    assert "NOT WELL worker      no pass has ended for 10 min; systemctl list-timers ucloud-slurm-worker.timer" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("are not well: worker.")


def test_json_has_the_same_conditions_and_the_figures(world: World, ask: Ask) -> None:
    world.submit()
    found = json.loads(ask("status", "--json").stdout)
    assert found["well"] is True
    assert found["figures"]["jobs"]["live"] == 1
    assert {"service", "worker", "slurm", "ucloud", "database", "backup", "jobs", "outbox", "audit"} <= {
        each["what"] for each in found["conditions"]
    }
    assert all(each["well"] for each in found["conditions"])


def test_status_and_readyz_say_the_same_of_slurm(world: World, seen: Callable[[], Status]) -> None:
    world.provider.breaker.record_failure("slurm", "slurmctld is away\nreally", world.clock())
    assert unwell(seen()).keys() == {"slurm"}
    assert unwell(seen())["slurm"].startswith("slurmctld is away really (since 20")
    assert "; ucloud-slurm check" in unwell(seen())["slurm"]


def test_a_service_that_does_not_run_is_not_well_though_systemd_holds_its_socket(
    seen: Callable[[], Status], proc: Path
) -> None:
    (proc / "12" / "cmdline").write_bytes(b"bash\0")
    assert unwell(seen()) == {"service": status.SERVICE_STOPPED}


def test_a_message_that_waits_long_or_was_refused_is_not_well(world: World, seen: Callable[[], Status]) -> None:
    provider = world.provider
    provider.jobs.accept([new_job("1", accepted_at=world.clock())])
    provider.outbox.enqueue("1", "update", {"update": {"status": "x"}}, world.clock())
    assert unwell(seen()) == {}
    world.clock.advance(WAITED_SECONDS / 2)
    assert "outbox" not in unwell(seen())
    world.clock.advance(WAITED_SECONDS)
    assert unwell(seen())["outbox"] == "1 messages wait for UCloud, the oldest for 22 min; ucloud-slurm outbox"
    messages = Outbox(provider.store).listed(10)
    provider.outbox.mark_done(messages, MessageOutcome.PARKED, "400", world.clock())
    assert unwell(seen())["outbox"].startswith("0 messages wait for UCloud; UCloud has refused 1: ucloud-slurm outbox")


def test_a_backup_is_missed_after_a_day_where_there_are_jobs(world: World, seen: Callable[[], Status]) -> None:
    world.clock.advance(BACKUP_SECONDS - 1)
    assert "backup" not in unwell(seen())
    world.provider.jobs.accept([new_job("1", accepted_at=world.clock())])
    world.clock.advance(2)
    assert "systemctl enable --now ucloud-slurm-backup.timer" in unwell(seen())["backup"]


def test_what_an_audit_has_found_and_silent_programs_are_not_well(
    world: World, seen: Callable[[], Status], configure: Configure, proc: Path
) -> None:
    Cache(world.provider.store, AUDIT).put("", json.dumps({"until": 7, AuditKind.UNBILLED: 2}), world.clock())
    assert unwell(seen()) == {"audit": "not explained: 2 unbilled; ucloud-slurm audit"}
    config = configure("table")
    connect(config, 1, 2)
    with closing(Store(config.database.path)) as store:
        CircuitBreaker(store).record_person("u1", "killed", 1000.0)
    found = read_status(config, 1001.0, proc)
    assert "the own programs of 1 users do not answer" in unwell(found)["programs"]
    assert next(each.text for each in found.conditions if each.what == "people") == "2 are connected"
    assert "start ucloud-slurm-runner.socket" in unwell(found)["runner"]


def test_maintenance_is_shown_and_is_well(world: World, seen: Callable[[], Status]) -> None:
    shown = {each.what: each.text for each in seen().conditions}
    assert shown["maintenance"] == "no machine is under maintenance"
    window = MaintenanceWindow("", "", "New memory.", world.clock() + 60, world.clock(), "grace")
    world.provider.maintenance.begin([window])
    found = seen()
    (text,) = [each.text for each in found.conditions if each.what == "maintenance"]
    assert text.startswith("This provider is under maintenance until ")
    assert text.endswith("UTC: New memory.")
    assert found.unwell == []


def test_units_that_wait_at_a_socket_are_seen_without_a_connection(configure: Configure, proc: Path) -> None:
    drives = [{"name": "home", "title": "Home", "category": "storage", "owner": "user", "local": "{home}"}]
    config = configure("table", drives=drives)
    found = read_status(config, 1.0, proc)
    assert unwell(found)["files"].endswith("systemctl enable --now ucloud-slurm-files.socket")
    assert next(each for each in found.conditions if each.what == "link") == Condition("link", True, NO_LINK)
    _listening(proc, "/run/ucloud-slurm-files/files.sock", str(config.users.link))
    found = read_status(config, 1.0, proc)
    assert "files" not in unwell(found)
    assert next(each.text for each in found.conditions if each.what == "link") == f"{config.users.link} waits for calls"


# ---- databases that cannot be read


def said(config_path: Path) -> str:
    """The sentence about the database; everything else is said as well."""
    found = read_status(read(config_path), time.time(), config_path.parent / "proc")
    assert found.figures is None
    assert {"service", "worker", "listener"} <= {each.what for each in found.conditions}
    return unwell(found)["database"]


def test_a_database_that_is_not_there_is_a_sentence_and_none_is_made(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    assert said(path).endswith("test.db is not there yet; the service makes it: systemctl start ucloud-slurm")
    assert not (tmp_path / "test.db").exists()


def test_a_database_of_an_older_release_is_a_sentence_and_is_not_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path)
    with earlier_release(monkeypatch, 15):
        Store(tmp_path / "test.db").close()
    before = (tmp_path / "test.db").read_bytes()
    assert "is of an older release (m016_drives is missing); the service migrates it: systemctl restart" in said(path)
    assert (tmp_path / "test.db").read_bytes() == before
    assert not (tmp_path / "backups").exists()


def test_a_database_of_a_newer_release_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path)
    Store(tmp_path / "test.db").close()
    monkeypatch.setattr(migrations, "STEPS", migrations.STEPS[:-1])
    assert "is of a newer release" in said(path)


def test_a_database_that_is_migrated_or_replaced_at_the_moment_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, database = write_config(tmp_path), tmp_path / "test.db"
    Store(database).close()
    monkeypatch.setattr("ucloud_slurm.store.reading.REPLACED_SECONDS", 0.0)
    with exclusive_lock(database, MIGRATION):
        assert "is being migrated to this release" in said(path)
    with exclusive_lock(database, IN_USE):
        assert "is being replaced by a restore" in said(path)


def test_a_damaged_database_is_a_sentence(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    (tmp_path / "test.db").write_bytes(b"not a database" * 100)
    assert "is not an SQLite database; restore a backup" in said(path)


def test_what_only_looks_cannot_write(tmp_path: Path) -> None:
    Store(tmp_path / "test.db").close()
    with closing(ReadOnlyStore(tmp_path / "test.db")) as store, pytest.raises(Exception, match="cannot be written"):
        store.change("delete from jobs")


def test_what_only_looks_asks_for_nothing_beside_its_queries(tmp_path: Path) -> None:
    Store(tmp_path / "test.db").close()
    asked: list[str] = []
    with closing(ReadOnlyStore(tmp_path / "test.db")) as store:
        store._connection().conn.set_trace_callback(asked.append)
        for _ in range(2):
            store.rows("select 1 as one")
    assert asked == ["select 1 as one"] * 2


# ---- again and again


def test_watch_writes_one_block_after_another_into_a_pipe_until_it_is_interrupted(tmp_path: Path) -> None:
    words = ["--config", str(write_config(tmp_path)), "status", "--watch", "0.5", "--json"]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        blocks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert [block["provider"] for block in blocks] == ["example", "example"]
    assert process.returncode == 1, "the database is missing"
    assert b"\033" not in rest


@pytest.mark.parametrize("typed", [b"q", b"\003"], ids=["q", "Ctrl-C"])
def test_watch_draws_in_a_terminal_until_a_key_ends_it_and_leaves_the_terminal_as_it_was(tmp_path: Path, typed: bytes) -> None:
    ours, theirs = pty.openpty()
    begin = "import fcntl, os, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    command = [sys.executable, "-c", begin + PROGRAM, "--config", str(write_config(tmp_path)), "status", "--watch", "600"]
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    shown = b""
    while b"q ends it" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, typed)
    assert process.wait(30) == 1
    assert b"\033[H" in shown
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_watch_sends_nothing_but_text_to_a_terminal_that_can_no_more(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    begin = "import fcntl, os, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    command = [sys.executable, "-c", begin + PROGRAM, "--config", str(write_config(tmp_path)), "status", "--watch", "600"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"})
    shown = b""
    while b" are not well: " not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, b"\003")
    assert process.wait(30) == 1
    assert b"\033" not in shown
    os.close(ours)
    os.close(theirs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_somebody_who_can_see_nothing_is_not_told_of_an_outage(tmp_path: Path, proc: Path) -> None:
    config = read(write_config(tmp_path))
    os.seteuid(65534)
    try:
        found = read_status(config, time.time(), proc)
    finally:
        os.seteuid(0)
    (condition,) = found.conditions
    assert condition.what == "database"
    assert condition.text == f"{tmp_path} is closed to nobody; be the daemon user: runuser -u ucloud-slurm -- ..."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (3660, "1 h 1 min"), (90000, "1 d 1 h"), (86400, "1 d")],
)
def test_an_age_is_its_largest_units(seconds: float, text: str) -> None:
    assert age(seconds) == text
