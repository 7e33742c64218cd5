"""A log whose file system does not answer: its reader is informed once, nobody else waits, and nothing of it is lost."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.sandbox.processes import wait_until
from tests.support.job_log import LoggedJob
from ucloud_slurm.system.files import open_file
from ucloud_slurm.users.service import OwnAccount
from ucloud_slurm.web.live import follow, hub, routes

PATIENCE = 30.0
NOTICE = "[The log is not shown: its file system does not answer.]\n"
pytestmark = [pytest.mark.usefixtures("quick_hub"), pytest.mark.parametrize("era", ["today"], scope="session")]


class FileSystem:
    """Folders whose files open when they are repaired."""

    def __init__(self) -> None:
        self.repaired = threading.Event()
        self.broken: set[Path] = set()
        self.opened = 0

    def open(self, path: str) -> int | None:
        if Path(path).parent in self.broken and not self.repaired.is_set():
            self.opened += 1
            assert self.repaired.wait(PATIENCE)
        return open_file(path)


@pytest.fixture
def files(mocker: MockerFixture) -> Iterator[FileSystem]:
    mocker.patch.object(hub, "READ_SECONDS", 0.05)
    mocker.patch.object(follow, "STALL_LEAST_SECONDS", 0.02)
    mocker.patch.object(follow, "STALL_MOST_SECONDS", 0.1)
    made = FileSystem()
    mocker.patch.object(OwnAccount, "open", lambda _self, path: made.open(path))
    yield made
    made.repaired.set()


@pytest.fixture
def job(world: World, files: FileSystem) -> LoggedJob:
    made = LoggedJob(world).start()
    files.broken.add(made.folder)
    return made


def test_the_reader_is_informed_once_and_sees_all_of_the_log_when_the_file_system_is_back(
    world: World, job: LoggedJob, files: FileSystem, mocker: MockerFixture
) -> None:
    tries = mocker.spy(follow.LogFollower, "_report_stall")
    job.write("".join(f"line {number}\n" for number in range(50_000)))
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: NOTICE in followed.text(stream="stderr"), PATIENCE)
        wait_until("it is tried again", lambda: tries.call_count > 2, seconds=PATIENCE)
        job.write("the last line\n")
        files.repaired.set()
        followed.wait_for(lambda: followed.text().endswith("the last line\n"), PATIENCE)
    assert followed.text() == "".join(f"line {number}\n" for number in range(50_000)) + "the last line\n"
    assert followed.text(stream="stderr") == NOTICE
    assert followed.inits == 1


def test_twenty_who_read_such_a_log_take_two_threads_and_another_log_is_shown(
    world: World, job: LoggedJob, files: FileSystem
) -> None:
    other = LoggedJob(world, owner="other").start()
    with ExitStack() as stack:
        stuck = [stack.enter_context(world.core.follow(job.id)) for _ in range(20)]
        for each in stuck:
            each.wait_for(lambda each=each: NOTICE in each.text(stream="stderr"), PATIENCE)  # type: ignore[misc]
        assert files.opened == 2
        with world.core.follow(other.id, "other") as followed:
            other.write("shown\n")
            followed.wait_for(lambda: followed.text() == "shown\n", PATIENCE)


def test_a_connection_that_is_closed_meanwhile_leaves_no_descriptor(
    world: World, job: LoggedJob, files: FileSystem, mocker: MockerFixture
) -> None:
    mocker.patch.object(routes, "PING_SECONDS", 0.05)
    job.write("text\n")
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: NOTICE in followed.text(stream="stderr"), PATIENCE)
    files.repaired.set()
    wait_until("its file is closed", lambda: not open_below(job.folder), seconds=PATIENCE)
    with world.core.follow(job.id) as followed:
        followed.wait_for(lambda: followed.text() == "text\n", PATIENCE)
        wait_until("its file is open", lambda: open_below(job.folder) != [], seconds=PATIENCE)
    wait_until("its file is closed", lambda: not open_below(job.folder), seconds=PATIENCE)


def test_a_job_that_has_ended_is_tried_some_times_more_and_then_its_stream_ends(
    world: World, job: LoggedJob, files: FileSystem
) -> None:
    job.write("text\n")
    with world.core.follow(job.id, while_running=False) as followed:
        followed.wait_for(lambda: NOTICE in followed.text(stream="stderr"), PATIENCE)
        job.end()
        followed.wait_end(PATIENCE)
    assert followed.text() == ""


def open_below(folder: Path) -> list[str]:
    """The files of a folder that this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            path = str(entry.readlink())
        except FileNotFoundError:
            continue
        if path.startswith(f"{folder}/"):
            found.append(path)
    return found
