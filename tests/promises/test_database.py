"""P3, P5: whatever happens to the database's disk and file is said in one sentence, and costs nothing but new jobs."""

import ast
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import ucloud_slurm.store
from tests.conftest import Clock, Open, Serve, World
from tests.rooms.web.test_metrics import metrics
from tests.sandbox.core import SimulatedCore
from tests.support import disks, foreign
from tests.support.factories import job_data, new_job
from tests.support.model import Model
from tests.support.source import parsed
from ucloud_slurm.errors import Misconfigured, StorageError, StorageFullError
from ucloud_slurm.store import backup, database_file, restore
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.reading import ReadOnlyStore
from ucloud_slurm.store.sqlite import LOG_BYTES, Store
from ucloud_slurm.worker.run import Result

NOBODY = 65534
MINIMUM_BYTES = 4 * 2**20

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and become another user")


def sentence(path: Path) -> str:
    """The only one with which a database is refused."""
    with pytest.raises(Misconfigured) as refused:
        Store(path)
    (said,) = refused.value.sentences
    assert "\n" not in said
    return said


# ---- a file that cannot be the database


@pytest.fixture
def anybody() -> Iterator[Path]:
    """A folder of an account that is not root; this thread is that account until the test ends."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    yield folder
    os.seteuid(0)
    shutil.rmtree(folder)


@as_root
def test_a_file_of_another_owner_is_refused_with_both_names(anybody: Path) -> None:
    path = anybody / "test.db"
    Store(path).close()
    os.seteuid(0)
    os.chown(path, 0, 0)
    path.chmod(0o600)
    os.seteuid(NOBODY)
    assert sentence(path) == f"database.path: {path} belongs to root, not to nobody; change its owner with chown."


@as_root
def test_a_file_that_may_not_be_written_is_refused_with_its_mode(anybody: Path) -> None:
    path = anybody / "test.db"
    Store(path).close()
    path.chmod(0o400)
    assert sentence(path) == f"database.path: {path} has the mode 400; chmod 600 makes it writable."


@as_root
def test_a_folder_that_may_not_be_written_is_refused_with_its_name(anybody: Path) -> None:
    anybody.chmod(0o500)
    assert str(anybody) in (said := sentence(anybody / "test.db"))
    assert "cannot be opened (Permission denied)" in said


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table theirs (a)")
        other.commit()
    assert sentence(path) == f"database.path: {path} is the database of another program; name a new file."
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("select name from sqlite_schema").fetchall() == [("theirs",)]


@as_root
@pytest.mark.parametrize("kind", ["closed", "folder", "link"])
def test_who_only_looks_reads_the_same_sentence(anybody: Path, kind: str) -> None:
    path = anybody / "test.db"
    match kind:
        case "closed":
            Store(path).close()
            path.chmod(0)
        case "folder":
            path.mkdir()
        case _:
            Store(anybody / "real.db").close()
            path.symlink_to(anybody / "real.db")
    with pytest.raises(Misconfigured) as looked:
        ReadOnlyStore(path)
    assert looked.value.sentences == (sentence(path),)


@as_root
@pytest.mark.parametrize("name", ["migration", "worker", "listener", "connections", "backup"])
def test_a_lock_that_root_has_made_is_named_with_its_owner(anybody: Path, name: str) -> None:
    path = anybody / "test.db"
    Store(path).close()
    lock = Path(f"{path}.{name}")
    lock.touch(0o600)
    os.seteuid(0)
    os.chown(lock, 0, 0)
    os.seteuid(NOBODY)
    assert sentence(path) == f"database.path: {lock} belongs to root, not to nobody; change its owner with chown."


def test_what_is_no_file_is_refused_with_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "other.db")
    assert "folder is not a file; name a file in a folder of the daemon user's" in sentence(tmp_path / "folder")
    assert "link is a symbolic link; name the file itself" in sentence(tmp_path / "link")
    assert f"{tmp_path}/none/" in sentence(tmp_path / "none" / "test.db")


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "gpfs", "beegfs_nodev", "cifs", "9p", "fuse.sshfs"])
def test_a_file_system_that_hosts_share_is_refused_before_anything_is_written(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_file, "filesystem", lambda _folder: kind)
    path = tmp_path / "test.db"
    expected = f"database.path: {path} is on a shared file system ({kind}); put it on a local disk."
    assert sentence(path) == expected
    uses: list[Callable[[], object]] = [
        lambda: restore.restore(path, path, tmp_path, 1.0),
        lambda: restore.adopt(path, tmp_path, 1.0),
    ]
    for use in uses:
        with pytest.raises(Misconfigured, match="is on a shared file system"):
            use()
    assert list(tmp_path.iterdir()) == []


@as_root
def test_a_disk_that_is_mounted_for_reading_only_is_said(tmp_path: Path) -> None:
    with disks.disk(tmp_path / "disk", "ro") as disk:
        assert "Read-only file system" in sentence(disk / "test.db")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def emptied_with_a_log(path: Path) -> None:
    path.write_bytes(b"")
    Path(f"{path}.generation").unlink(missing_ok=True)
    Path(f"{path}-wal").write_bytes(b"rows of jobs")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def another(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (emptied, "is empty, although it was in use"),
        (emptied_with_a_log, "is empty, although it was in use"),
        (truncated, "is truncated"),
        (another, "is not an SQLite database"),
    ],
)
def test_a_damaged_file_is_refused_with_the_way_out_and_left_as_it_is(
    tmp_path: Path, harm: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "test.db"
    store = Store(path)
    Path(f"{path}.generation").write_text("1\n")
    del store
    harm(path)
    before = path.read_bytes()
    said = sentence(path)
    assert said.startswith(f"database.path: {path} cannot be used: it {words}")
    assert said.endswith("restore a backup: ucloud-slurm database restore FILE")
    assert path.read_bytes() == before


def test_the_log_of_a_lost_database_is_not_lost_too(tmp_path: Path) -> None:
    path, log = tmp_path / "test.db", tmp_path / "test.db-wal"
    log.write_bytes(b"rows of jobs")
    assert sentence(path) == (
        f"database.path: {path} cannot be used: it is missing, although its log is there; "
        "restore a backup: ucloud-slurm database restore FILE"
    )
    assert (path.exists(), log.read_bytes()) == (False, b"rows of jobs")


def test_a_database_that_lost_its_power_with_a_log_is_not_taken_for_damaged(tmp_path: Path) -> None:
    """After a power failure, pages of the file may be in the log only: SQLite brings them back."""
    path, copy = tmp_path / "test.db", tmp_path / "copy.db"
    store = Store(path)
    store.change("insert into caches values ('k', 'k', ?, 1)", ["x" * 100_000])
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("pragma wal_checkpoint(passive)").fetchall()
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{copy}{end}")
    store.close()
    os.truncate(copy, 4096)
    opened = Store(copy)
    assert opened.tuples("select length(value) from caches") == [(100_000,)]


# ---- while it runs


def create(world: World, job_id: str) -> tuple[int, str]:
    """Status, and what the researcher reads."""
    status, answer = world.core.call("POST", "/ucloud/example/jobs", {"items": [job_data(job_id)]})
    return status, answer.get("why") or ""


def overwritten(path: Path) -> None:
    """Damages a database in place, as a broken disk does."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("pragma wal_checkpoint(truncate)").fetchall()
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, f"{path}.other")
    Path(f"{path}.other").replace(path)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (overwritten, "its administrator must restore a backup: ucloud-slurm database restore FILE"),
        (removed, "was removed or replaced; its administrator must restart what has it open"),
        (replaced, "was removed or replaced; its administrator must restart what has it open"),
    ],
)
def test_a_database_that_is_lost_while_the_service_runs_is_said_to_whoever_asks(
    world: World, harm: Callable[[Path], None], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = world.provider.store.path
    harm(path)
    caplog.clear()
    status, said = create(world, "1")
    assert (status, words in said) == (500, True), said
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [said]
    with pytest.raises(StorageError, match=words):
        world.work(1)
    assert world.model.jobs == []
    assert path.exists() == (harm is not removed), "no other database is begun in its place"


# ---- space


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with disks.disk(tmp_path / "disk", "size=16m") as disk:
        yield disk


@contextmanager
def filled(disk: Path, left: int = 0) -> Iterator[None]:
    """Somebody else's file leaves so many bytes of a disk."""
    filler, state = disk / "filler", os.statvfs(disk)
    filler.write_bytes(b"x" * (state.f_bavail * state.f_frsize - left))
    yield
    filler.unlink()


@pytest.fixture
def tight(disk: Path, core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock) -> World:
    """Everything but a real Slurm, with its database on the small disk."""
    provider = open_provider(database={"path": str(disk / "small.db"), "minimum_free": "4MiB"})
    return World(core, provider, model, clock, serve(provider))


@pytest.mark.every_era
def test_while_the_disk_is_nearly_full_only_new_jobs_are_refused(tight: World, disk: Path) -> None:
    running, waiting = tight.submit(), tight.submit()
    assert create(tight, "8")[0] == 200
    with filled(disk, MINIMUM_BYTES - 2**20):
        status, said = create(tight, "9")
        assert status == 507
        assert (
            said.startswith(f"The provider's disk is nearly full: {disk} has 2 MiB free, and 4 MiB are needed")
            or "3 MiB" in said
        )
        assert create(tight, "8")[0] == 200, "a retry of what was accepted before"
        tight.model.begin_run(tight.slurm(running))
        assert tight.work(60) is Result.DONE
        tight.core.terminate(waiting)
        tight.model.end(tight.slurm(running))
        tight.work(60)
        assert tight.work(60) is Result.DONE
        assert tight.told(running)[-2:] == ["RUNNING", "SUCCESS"]
        assert tight.told(waiting)[-1] == "SUCCESS"
        assert tight.booked(running) > 0
    assert create(tight, "9")[0] == 200


def stored(store: Store) -> int:
    """How many jobs there are."""
    return sum(Jobs(store).count().values())


@pytest.mark.parametrize("large", [False, True], ids=["at the commit", "at the insert"])
def test_where_the_disk_is_full_a_write_is_all_or_nothing_and_works_when_there_is_space(disk: Path, large: bool) -> None:
    """A large transaction does not fit into memory, and meets the full disk before its commit."""
    store = Store(disk / "test.db")
    filler = "x" * (3 * 2**20 if large else 10)
    accepted, number, statements = 0, 0, 0
    with filled(disk, 256 * 1024):
        for number in range(10_000):
            statements = 0
            try:
                with store.writing() as db:
                    db.conn.execute("insert into caches values ('k', ?, ?, 1)", [number, filler])
                    statements = 1
                    Jobs(store).accept([new_job(str(number))])
                    statements = 2
            except StorageFullError:
                break
            accepted += 1
        assert number < 9_999
        assert statements == (0 if large else 2)
        assert stored(store) == accepted == store.tuples("select count(*) from caches")[0][0]
    Jobs(store).accept([new_job("later")])
    assert stored(store) == accepted + 1
    store.close()
    assert backup.verify(disk / "test.db").jobs == accepted + 1


def test_where_the_disk_is_full_the_log_waits_and_is_cut_when_there_is_space(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucloud_slurm.store.sqlite.LOG_BYTES", 1024)
    store, log = Store(disk / "test.db"), disk / "test.db-wal"
    for number in range(100):
        store.change("insert into caches values ('k', ?, ?, 1)", [number, "x" * 10_000])
    length = log.stat().st_size
    with filled(disk):
        store.checkpoint()
        assert log.stat().st_size == length
        assert store.tuples("select count(*) from caches") == [(100,)]
    store.checkpoint()
    assert log.stat().st_size == 0
    assert store.tuples("select count(*) from caches") == [(100,)]


# ---- the write-ahead log


def write_much(store: Store) -> None:
    """Writes twice what the log may have."""
    with store.writing() as db:
        for number in range(2 * LOG_BYTES // 2**20):
            db.conn.execute("insert or replace into caches values ('k', ?, ?, 1)", [number, "x" * 2**20])


def test_the_log_is_cut_by_the_pass_after_a_slow_reader_has_ended(world: World) -> None:
    store = world.provider.store
    log = Path(f"{store.path}-wal")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from jobs").fetchall()
        write_much(store)
        assert world.work(1) is Result.DONE, "a reader stops nobody"
        assert log.stat().st_size > LOG_BYTES
    assert world.work(1) is Result.DONE
    assert log.stat().st_size <= LOG_BYTES
    write_much(store)
    store.change("insert into ucloud_users values ('u', 1)")  # without a reader the next write cuts it already
    assert log.stat().st_size <= LOG_BYTES


@pytest.mark.every_era
def test_nobody_of_ours_reads_the_database_while_others_are_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call to Slurm or UCloud can take long; meanwhile the log can be cut, for no statement is being read."""
    refuse, main = foreign.refuse, threading.current_thread()
    calls: list[tuple[str, int]] = []
    job_id = world.submit()
    world.work(1)
    with closing(sqlite3.connect(world.provider.store.path, timeout=0, isolation_level=None)) as other:

        def look(call: str) -> None:
            if threading.current_thread() is main:
                (busy, _, _) = other.execute("pragma wal_checkpoint(truncate)").fetchone()
                calls.append((call, busy))
            refuse(call)

        monkeypatch.setattr(foreign, "refuse", look)
        world.model.begin_run(world.slurm(job_id))
        world.work(60)
        world.core.terminate(job_id)
        world.work(60)
        monkeypatch.undo()
    assert {"squeue", "sacct", "http.client.send"} <= {call for call, _ in calls}
    assert [call for call, busy in calls if busy] == []


def test_what_reads_the_database_reads_it_at_once() -> None:
    """A generator would keep a statement open for as long as its caller likes."""
    for path in Path(ucloud_slurm.store.__file__).parent.glob("*.py"):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef):
                continue
            text = ast.unparse(node)
            if " yield " in text and (".rows(" in text or ".tuples(" in text or ".execute(" in text):
                assert [ast.unparse(one) for one in node.decorator_list] == ["contextmanager"], f"{path.name}: {node.name}"


def test_the_age_of_the_last_backup_and_the_sizes_are_shown(world: World, clock: Clock) -> None:
    assert "ucloud_slurm_backup_age_seconds" not in metrics(world.url)
    path, folder = world.provider.store.path, world.provider.config.database.backup_folder
    backup.make(path, folder, clock())
    clock.advance(3600)
    found = metrics(world.url)
    assert found["ucloud_slurm_backup_age_seconds"] == 3600
    assert found["ucloud_slurm_database_bytes database"] == path.stat().st_size
    assert found["ucloud_slurm_database_bytes free"] > 0
