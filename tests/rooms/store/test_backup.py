"""Backups: made while the database is in use, verified before they count, and restored without losing anything."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import disks
from tests.support.database import earlier_release
from ucloud_slurm.config.database import DatabaseSection
from ucloud_slurm.errors import Conflict, Misconfigured, StorageFullError
from ucloud_slurm.store import backup, migrations, restore
from ucloud_slurm.store.backup import Contents
from ucloud_slurm.store.database_file import free_bytes
from ucloud_slurm.store.fence import Permit, this_instant
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.standby import Keeper
from ucloud_slurm.system import filelock

NOW = 1_700_000_000.0
PAIR = ("insert into ucloud_users values (?, 1)", "insert into channel values (?, 1)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that has reported something."""
    path = tmp_path / "live" / "test.db"
    path.parent.mkdir()
    add(path, "first")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the backups, which does not exist yet."""
    return tmp_path / "backups"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with disks.disk(tmp_path / "small", "size=4m") as disk:
        yield disk


def fill(disk: Path, left: int) -> None:
    """Leaves so many bytes of a disk."""
    state = os.statvfs(disk)
    (disk / "filler").write_bytes(b"x" * (state.f_bavail * state.f_frsize - left))


def add(path: Path, name: str) -> None:
    """A pass that has written a user."""
    store = Store(path)
    counting = Generation(store)
    store.change(PAIR[0], [name])
    counting.advance(1.0)
    store.close()


def users(path: Path) -> list[str]:
    """Whose rows a database has."""
    with closing(sqlite3.connect(path)) as conn:
        return [name for (name,) in conn.execute("select username from ucloud_users order by 1").fetchall()]


def behind(path: Path) -> bool:
    store = Store(path)
    try:
        return Generation(store).is_behind()
    finally:
        store.close()


def crash(path: Path) -> None:
    """Leaves a database as a process does that is killed: the last rows are in its log only."""
    code = (
        "import os, sys; from pathlib import Path; from ucloud_slurm.store.sqlite import Store\n"
        f"store = Store(Path(sys.argv[1])); store.change({PAIR[0]!r}, ['in the log']); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    assert Path(f"{path}-wal").stat().st_size > 0


# ---- backup


def test_a_backup_that_is_made_while_others_write_is_whole_and_of_one_moment(path: Path, folder: Path) -> None:
    store, stop, written = Store(path), threading.Event(), threading.Semaphore(0)

    def write() -> None:
        number = 1
        while not stop.is_set():
            with store.writing() as db:
                for sql in PAIR:
                    db.conn.execute(sql, [number])
            number += 1
            written.release()
        store.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for second in range(5):
            written.acquire(timeout=30)
            copy = backup.make(path, folder, NOW + second).path
            with closing(sqlite3.connect(copy)) as conn:
                ((names, numbers),) = conn.execute(
                    "select (select count(*) from ucloud_users), (select count(*) from channel)"
                ).fetchall()
            assert names == numbers + 1 > 1
    finally:
        stop.set()
        thread.join()
    assert len(backup.made(path, folder)) == 5


@pytest.mark.parametrize(
    "run",
    [lambda path, folder: backup.make(path, folder, NOW), lambda path, _folder: backup.verify(path, in_use=True)],
    ids=["backup", "verification"],
)
def test_a_backup_waits_for_the_process_that_makes_or_migrates_the_database(
    path: Path, folder: Path, run: Callable[[Path, Path], Contents], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = path.rename(path.with_name("whole"))
    path.touch()  # as it is after the first moment of the first start
    begun = threading.Event()
    is_locked = filelock.is_locked

    def look(database: Path, name: str) -> bool:
        begun.set()
        return is_locked(database, name)

    monkeypatch.setattr(filelock, "is_locked", look)
    found: list[Contents] = []
    with filelock.exclusive_lock(path, filelock.MIGRATION) as mine:
        assert mine
        thread = threading.Thread(target=lambda: found.append(run(path, folder)))
        thread.start()
        assert begun.wait(30)
        path.unlink()
        whole.rename(path)
    thread.join(30)
    assert [one.migration for one in found] == [max(migrations.names())]


def test_a_migration_that_does_not_end_keeps_no_backup_for_ever(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "MIGRATION_SECONDS", 0.0)
    with filelock.exclusive_lock(path, filelock.MIGRATION) as mine:
        assert mine
        with pytest.raises(Conflict, match="a migration of the database is under way"):
            backup.make(path, folder, NOW)
    assert not folder.exists()


def test_a_backup_says_that_another_one_is_being_made_and_a_copy_for_another_host_is_none(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "ALONE_SECONDS", 0.0)
    with filelock.exclusive_lock(path, filelock.BACKUP) as mine:
        assert mine
        with pytest.raises(Conflict, match=f"another backup of {path} is being made; run this again when that has ended"):
            backup.make(path, folder, NOW)
        Permit(1, "login1", mine=True, since=this_instant()).write(path)
        keeper = Keeper(DatabaseSection(path=path, standby=path.parent))
        keeper.copy()
        assert len(keeper.folder.copies()) == 1
    with filelock.exclusive_lock(path, filelock.COPY) as mine:
        assert mine
        assert backup.make(path, folder, NOW).path.exists()


def test_a_backup_is_one_file_for_our_own_eyes(path: Path, folder: Path) -> None:
    made = backup.make(path, folder, NOW)
    backup.verify(made.path)
    assert [one.name for one in folder.iterdir()] == ["test-20231114T221320Z.db"]
    assert (made.path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert made.path.read_bytes()[18:20] == b"\1\1", "nobody who reads it makes a log beside it"
    assert backup.last_made(path, folder) == NOW


def test_what_a_killed_backup_left_does_not_count_and_goes(path: Path, folder: Path) -> None:
    folder.mkdir()
    left = folder / "test-20231114T221319Z.db.new"
    left.write_bytes(b"half")
    assert (backup.made(path, folder), backup.last_made(path, folder)) == ([], None)
    backup.make(path, folder, NOW)
    assert not left.exists()


def damage(path: Path) -> None:
    """Overwrites what a database has behind its first pages."""
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (path.stat().st_size - 8192))


def inconsistent(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("insert into outbox (job_id, kind, body, created_at) values ('nobody', 'update', '{}', 1)")


@pytest.mark.parametrize("harm", [damage, inconsistent], ids=lambda one: one.__name__)
def test_a_damaged_database_is_not_backed_up_and_the_good_backups_stay(
    path: Path, folder: Path, harm: Callable[[Path], None]
) -> None:
    backup.make(path, folder, NOW, keep=1)
    harm(path)
    with pytest.raises(Misconfigured, match=f"^{path} is (damaged|inconsistent)"):
        backup.make(path, folder, NOW + 1, keep=1)
    assert [one.name for one in folder.iterdir()] == ["test-20231114T221320Z.db"]


def test_the_newest_backups_are_kept_and_those_before_upgrades_apart(path: Path, folder: Path) -> None:
    backup.make(path, folder, NOW, keep=2, before="m099_next")
    for second in range(1, 5):
        backup.make(path, folder, NOW + second, keep=2)
    assert [one.name[18:] for one in backup.made(path, folder)] == ["20Z-before-m099_next.db", "23Z.db", "24Z.db"]


def test_where_the_disk_of_the_backups_is_full_nothing_is_left_there(path: Path, small_disk: Path) -> None:
    store = Store(path)
    store.change("insert into caches values ('k', 'k', ?, 1)", ["x" * 900_000])
    store.close()
    backup.make(path, small_disk, NOW)
    fill(small_disk, 600_000)
    before = sorted(small_disk.iterdir())
    with pytest.raises(StorageFullError, match="MiB free, and the copy needs"):
        backup.make(path, small_disk, NOW + 1)
    assert sorted(small_disk.iterdir()) == before


def test_backups_leave_the_space_that_new_jobs_need_and_say_how_to_get_more(small_disk: Path) -> None:
    path, folder = small_disk / "test.db", small_disk / "backups"
    store = Store(path)
    store.change("insert into caches values ('k', 'k', ?, 1)", ["x" * 400_000])
    store.close()
    for second in range(2):
        backup.make(path, folder, NOW + second)
    leave = free_bytes(folder) - path.stat().st_size // 2
    with pytest.raises(StorageFullError, match=r"database\.minimum_free; lower database\.backups_kept, or name a folder"):
        backup.make(path, folder, NOW + 2, leave=leave)
    assert len(backup.made(path, folder)) == 2
    backup.make(path, folder, NOW + 3, keep=1, leave=leave)
    assert [one.name[18:] for one in backup.made(path, folder)] == ["23Z.db"]
    backup.make(path, small_disk.parent / "elsewhere", NOW, leave=2**22)


# ---- verify


def not_there(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 100)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def half_a_header(path: Path) -> None:
    os.truncate(path, 50)


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("create table t (c)")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("insert into _sqlite_migrations (migration_set, name, applied_at) values ('ucloud-slurm', 'm999_x', '')")


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (not_there, "does not exist"),
    (a_folder, "is not a file"),
    (empty, "is empty"),
    (garbage, "is not an SQLite database"),
    (truncated, "is truncated"),
    (half_a_header, "is truncated"),
    (damage, "is damaged"),
    (of_another_program, "is not a database of ucloud-slurm"),
    (inconsistent, "is inconsistent"),
    (newer, "is of a newer release"),
]


@pytest.mark.parametrize(("harm", "words"), DAMAGES, ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_wrong_with_a_backup_is_said_in_one_line_and_it_is_not_restored(
    path: Path, folder: Path, harm: Callable[[Path], None], words: str
) -> None:
    copy = backup.make(path, folder, NOW).path
    harm(copy)
    before = path.read_bytes()
    uses: list[Callable[[], object]] = [lambda: backup.verify(copy), lambda: restore.restore(copy, path, folder, NOW)]
    for use in uses:
        with pytest.raises(Misconfigured) as refused:
            use()
        assert str(refused.value).startswith(f"{copy} {words}")
        assert len(str(refused.value).splitlines()) == 1
    assert path.read_bytes() == before
    assert not behind(path)


# ---- restore


def test_a_restored_database_is_that_of_the_backup_and_the_replaced_one_is_kept_with_its_log(path: Path, folder: Path) -> None:
    copy = backup.make(path, folder, NOW).path
    add(path, "later")
    crash(path)
    replaced = restore.restore(copy, path, folder, NOW)
    assert users(path) == ["first"]
    assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, os.geteuid())
    assert behind(path)
    assert replaced == Path(f"{path}.replaced-20231114T221320Z")
    assert users(replaced) == ["first", "in the log", "later"]


def test_the_log_of_the_replaced_database_does_not_come_into_the_restored_one(path: Path, folder: Path) -> None:
    copy = backup.make(path, folder, NOW).path
    crash(path)
    restore.restore(copy, path, folder, NOW)
    crash(path)  # whatever is beside it now is its own
    assert users(path) == ["first", "in the log"]
    assert backup.verify(path, in_use=True).jobs == 0


def test_the_restore_itself_can_be_undone(path: Path, folder: Path) -> None:
    copy = backup.make(path, folder, NOW).path
    crash(path)
    replaced = restore.restore(copy, path, folder, NOW)
    assert replaced is not None
    restore.restore(replaced, path, folder, NOW + 1)
    assert users(path) == ["first", "in the log"]
    assert behind(path)


def test_two_restores_of_one_second_keep_both_replaced_databases(path: Path, folder: Path) -> None:
    copy = backup.make(path, folder, NOW).path
    add(path, "later")
    kept = [restore.restore(copy, path, folder, NOW) for _ in range(2)]
    assert kept == [Path(f"{path}.replaced-20231114T221320Z{end}") for end in ("", "-2")]
    assert users(kept[0] or path) == ["first", "later"]


def test_a_link_to_a_backup_is_as_good_as_the_backup(path: Path, folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest.db"
    link.symlink_to(backup.make(path, folder, NOW).path)
    assert backup.verify(link).jobs == 0
    restore.restore(link, path, folder, NOW)
    assert not path.is_symlink()
    assert users(path) == ["first"]


def test_a_lost_database_is_restored_too(path: Path, folder: Path) -> None:
    copy = backup.make(path, folder, NOW).path
    path.unlink()
    assert restore.restore(copy, path, folder, NOW) is None
    assert users(path) == ["first"]
    assert behind(path)


def test_nothing_is_restored_or_adopted_while_a_process_has_the_database_open(path: Path, folder: Path) -> None:
    copy = backup.make(path, folder, NOW).path
    code = (
        "import sys; from pathlib import Path; from ucloud_slurm.store.sqlite import Store\n"
        "store = Store(Path(sys.argv[1])); store.close(); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        uses: list[Callable[[], object]] = [
            lambda: restore.restore(copy, path, folder, NOW),
            lambda: restore.adopt(path, folder, NOW),
        ]
        for use in uses:
            with pytest.raises(Conflict, match="is in use; stop everything that uses it: systemctl stop ucloud-slurm"):
                use()
        process.communicate()
    assert not behind(path)
    restore.restore(copy, path, folder, NOW)


def test_a_backup_from_before_the_mark_is_behind_too_and_is_migrated(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.db"
    with earlier_release(monkeypatch, 14):
        Store(path).close()
        copy = backup.make(path, folder, NOW).path
        path.unlink()
    restore.restore(copy, path, folder, NOW)
    assert backup.verify(path, in_use=True).migration == max(migrations.names())
    assert behind(path)


@pytest.mark.parametrize("step", range(4))
def test_a_restore_that_dies_leaves_the_database_of_before_or_one_that_is_behind(
    path: Path, folder: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are those after which the disk has been waited for."""
    copy = backup.make(path, folder, NOW).path
    crash(path)
    child = os.fork()
    if child == 0:
        sync, left = backup.sync, [step]

        def dying(what: Path) -> None:
            sync(what)
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1

        for module in (backup, restore):
            monkeypatch.setattr(module, "sync", dying)
        restore.restore(copy, path, folder, NOW)
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert died == (step < 3)
    if step == 0:
        assert users(path) == ["first", "in the log"]
        assert not behind(path)
    elif step == 1:
        with pytest.raises(Misconfigured, match="it is missing since a restore was interrupted; restore a backup: "):
            Store(path)
        assert not path.exists(), "no empty one is begun in its place"
        assert users(Path(f"{path}.replaced-20231114T221320Z")) == ["first", "in the log"]
    else:
        assert behind(path)
        assert users(Path(f"{path}.replaced-20231114T221320Z")) == ["first", "in the log"]
    restore.restore(copy, path, folder, NOW + 1)
    assert users(path) == ["first"]


# ---- before a migration


def test_a_database_is_backed_up_before_it_is_migrated_and_a_new_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = tmp_path / "test.db", tmp_path / "backups"
    with earlier_release(monkeypatch, 13):
        Store(path).close()
        assert not folder.exists()
    Store(path).close()
    (copy,) = backup.made(path, folder)
    assert copy.name.endswith("-before-m014_repetitions.db")
    assert backup.verify(copy).migration == "m013_page"
    Store(path).close()
    assert backup.made(path, folder) == [copy]


def test_without_space_for_the_backup_the_migration_does_not_begin(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_disk / "test.db"
    with earlier_release(monkeypatch, 13):
        store = Store(path)
        store.change("insert into caches values ('k', 'k', ?, 1)", ["x" * 900_000])
        del store
        fill(small_disk, 600_000)
    with pytest.raises(Misconfigured) as refused:
        Store(path)
    (sentence,) = refused.value.sentences
    assert sentence.startswith(
        f"database.path: {path} is not migrated to m014_repetitions: the backup before it cannot be made"
    )
    assert "the database is as it was" in sentence
    assert backup.verify(path, in_use=True).migration == "m013_page"
    Store(path, small_disk.parent / "elsewhere").close()  # database.backups on another disk
    assert backup.verify(path, in_use=True).migration == max(migrations.names())


def test_a_folder_that_cannot_be_written_stops_the_migration_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "test.db"
    with earlier_release(monkeypatch, 13):
        Store(path).close()
    (tmp_path / "backups").write_text("a file")
    with pytest.raises(Misconfigured, match=f"cannot be made in {tmp_path}/backups .*File exists"):
        Store(path)


def test_the_database_of_another_host_is_adopted_and_is_behind(path: Path, folder: Path) -> None:
    store = Store(path)
    store.change("update generation set host = 'another', host_name = 'login1'")
    del store
    with pytest.raises(Misconfigured, match="belongs to the host login1"):
        Store(path)
    restore.adopt(path, folder, NOW)
    assert users(path) == ["first"]
    assert behind(path)
