"""P8 and the worker's lock: a pass costs the same for one job as for five hundred, and passes never overlap."""

import fcntl
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pytest_mock import MockerFixture
from sqlite_utils import Database

from tests.conftest import Open, World
from tests.support.factories import new_job
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.store import migrations
from ucloud_slurm.store.database_file import filesystem
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.system.filelock import MIGRATION, WORKER, is_locked, last_released
from ucloud_slurm.worker.run import Result, run_once


def running(world: World, number: int) -> None:
    for _ in range(number):
        world.submit()
    for made in world.model.jobs:
        world.model.begin_run(made)
    world.work(1)


@pytest.mark.parametrize("number", [1, 200])
def test_a_pass_over_unchanged_jobs_runs_the_same_commands_and_writes_nothing(world: World, number: int) -> None:
    running(world, number)
    world.model.counts.clear()
    written = world.provider.store.row("select count(*) as n, max(id) as last from outbox")
    log = Path(f"{world.provider.store.path}-wal").stat().st_size
    assert world.work(10) is Result.DONE
    assert world.model.counts == {"squeue": 1}
    assert world.provider.store.row("select count(*) as n, max(id) as last from outbox") == written
    assert Path(f"{world.provider.store.path}-wal").stat().st_size == log
    assert last_released(world.provider.store.path, WORKER) == world.clock()


@pytest.mark.parametrize("number", [1, 200])
def test_a_pass_over_unchanged_jobs_asks_the_database_for_all_of_them_at_once(world: World, number: int) -> None:
    running(world, number)
    world.work(10)
    asked: list[str] = []
    world.provider.store._connection().conn.set_trace_callback(asked.append)
    assert world.work(10) is Result.DONE
    world.provider.store._connection().conn.set_trace_callback(None)
    assert (
        len([each for each in asked if " from jobs" in each]) == 6
    )  # open, elsewhere, unknown, accepted, to be stopped, ended lately
    assert len(asked) <= 20


def test_a_pass_starts_without_what_only_drives_need() -> None:
    shown = "import sys, ucloud_slurm.worker.run; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout.split()
    assert "ucloud_slurm.store.drives" in loaded
    assert not {"ucloud_slurm.provider.drives", "ucloud_slurm.users.files", "ucloud_slurm.users.file_verbs"} & {*loaded}


def test_the_end_of_a_pass_is_recorded_beside_the_database(world: World, mocker: MockerFixture) -> None:
    path = world.provider.store.path
    assert last_released(path, WORKER) is None
    world.work(10)
    ended = world.clock()
    assert last_released(path, WORKER) == ended
    mocker.patch.object(world.model, "queue", side_effect=SchedulerUnavailableError("slurmctld does not answer"))
    world.submit()
    assert world.work(10) is Result.NOT_ALL  # it has ended all the same
    assert last_released(path, WORKER) == world.clock() > ended
    ended = world.clock()
    mocker.patch.object(world.model, "queue", side_effect=MemoryError)
    with pytest.raises(MemoryError):
        world.work(10)
    assert last_released(path, WORKER) == ended


def test_hundreds_of_ends_cost_one_sacct(world: World) -> None:
    running(world, 200)
    for made in world.model.jobs:
        world.model.end(made)
    world.model.counts.clear()
    world.work(10)
    assert world.model.counts == {"squeue": 1, "sacct": 1}


def test_passes_never_overlap(world: World) -> None:
    with Path(f"{world.provider.store.path}.worker").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        world.model.counts.clear()
        world.submit()
        assert run_once(world.provider) is Result.ELSEWHERE
        assert world.model.counts["squeue"] == 0
    assert run_once(world.provider) is Result.DONE


def _claim(path: Path, results: "multiprocessing.Queue[int]", start: "multiprocessing.synchronize.Barrier") -> None:
    store = Store(path)
    start.wait()
    results.put(sum(len(Jobs(store).claim([str(number)], 1.0, 2.0)) for number in range(50)))
    store.close()


def test_a_job_is_claimed_by_one_of_many_processes(open_provider: Open) -> None:
    provider = open_provider()
    provider.jobs.accept([new_job(str(number), accepted_at=1.0) for number in range(50)])
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    start = context.Barrier(3)
    processes = [context.Process(target=_claim, args=(provider.store.path, results, start)) for _ in range(3)]
    for process in processes:
        process.start()
    claims = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(claims) == 50


@pytest.mark.parametrize(
    ("contents", "words"), [(b"not a database at all" * 100, "cannot be used"), (b"SQLite format 3\x00" + b"x" * 80, "")]
)
def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path: Path, contents: bytes, words: str) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(contents)
    with pytest.raises(Misconfigured, match=f"broken.db.*{words}"):
        Store(path)


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "new.db")
    store.change("insert into _sqlite_migrations (migration_set, name, applied_at) values ('ucloud-slurm', 'm999_future', '')")
    store.close()
    with pytest.raises(Misconfigured, match="newer release"):
        Store(tmp_path / "new.db")


def test_the_database_is_for_our_own_eyes_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "open.db"
    path.touch(mode=0o666)
    path.chmod(0o666)
    Store(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_brought_up_to_date_by_one_process_while_the_others_wait(tmp_path: Path, mocker: MockerFixture) -> None:
    path, migrate, locked = tmp_path / "new.db", migrations.migrate, []

    def watched(db: Database) -> None:
        locked.append(is_locked(path, MIGRATION))
        migrate(db)

    mocker.patch.object(migrations, "migrate", watched)
    Store(path).close()
    Store(path).close()
    assert (locked, is_locked(path, MIGRATION)) == ([True], False)


def test_a_shared_file_system_is_known_by_its_longest_mount_point() -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n/dev/sdb /home/local xfs rw 0 0\n"
    assert filesystem(Path("/home/x"), lambda: mounts) == "nfs4"
    assert filesystem(Path("/home/local/x"), lambda: mounts) == "xfs"
    assert filesystem(Path("/var"), lambda: mounts) == "ext4"


def test_closing_the_store_leaves_the_connections_of_other_threads_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "shared.db")
    connected, closed, counted = threading.Event(), threading.Event(), []

    def other() -> None:
        store.rows("select 1")
        connected.set()
        closed.wait(10)
        counted.append(store.change("insert into caches (kind, key, value, stored_at) values ('a', 'b', 'c', 0)"))

    thread = threading.Thread(target=other)
    thread.start()
    connected.wait(10)
    store.close()
    closed.set()
    thread.join()
    assert counted == [1]


def _open(path: Path, results: "multiprocessing.Queue[str]", start: "multiprocessing.synchronize.Barrier") -> None:
    start.wait()
    try:
        Store(path).close()
    except Misconfigured as error:
        results.put(str(error))
    else:
        results.put("opened")


def test_processes_that_start_at_once_all_open_a_new_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for number in range(6):
        results: multiprocessing.Queue[str] = context.Queue()
        start = context.Barrier(3)
        processes = [context.Process(target=_open, args=(tmp_path / str(number), results, start)) for _ in range(3)]
        for process in processes:
            process.start()
        assert [results.get(timeout=30) for _ in processes] == ["opened"] * 3
        for process in processes:
            process.join()
