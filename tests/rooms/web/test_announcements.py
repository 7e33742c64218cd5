"""A port file that cannot be read holds no request, and the page of a job that has announced its port goes on."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.sandbox.processes import wait_until
from ucloud_slurm.provider.context import Lazy
from ucloud_slurm.store.sessions import Kind, Session
from ucloud_slurm.system.bulkhead import Bulkhead
from ucloud_slurm.system.files import open_file
from ucloud_slurm.users.impersonation import ImpersonationUnavailableError
from ucloud_slurm.users.service import OwnAccount
from ucloud_slurm.web import announcements
from ucloud_slurm.web.announcements import Announcement, Announcements

PATIENCE = 30.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class FileSystem:
    """Opens files while it answers, and counts."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.opened = 0

    def open(self, path: str) -> int | None:
        self.opened += 1
        assert self.answers.wait(PATIENCE)
        return open_file(path)


@pytest.fixture
def files(mocker: MockerFixture) -> Iterator[FileSystem]:
    made = FileSystem()
    mocker.patch.object(OwnAccount, "open", lambda _self, path: made.open(path))
    yield made
    made.answers.set()


@pytest.fixture
def clock_of_cache() -> Clock:
    return Clock()


@pytest.fixture
def ports(world: World, clock_of_cache: Clock) -> Iterator[Announcements]:
    pool = Bulkhead(8, clock=clock_of_cache)
    yield Announcements(world.provider, Lazy(lambda: pool), clock_of_cache)
    pool.close()


class Page:
    """The web page of a job that runs."""

    def __init__(self, world: World, ports: Announcements) -> None:
        job_id = world.submit()
        world.model.begin_run(world.slurm(job_id))
        world.work(1)
        self.row = world.row(job_id)
        self.session = Session("", job_id, 0, Kind.WEB, "user", "", None, self.row.run_submitted, world.clock())
        self._file = Path(world.provider.job_paths(self.row).port_file(0))
        self._ports = ports

    def announce(self, text: str) -> None:
        self._file.write_text(text)

    def port(self) -> int | None:
        found = self._ports.of(self.session, self.row)
        return found.port if found is not None else None


@pytest.fixture
def page(world: World, ports: Announcements) -> Page:
    return Page(world, ports)


def test_a_port_is_found_when_it_is_announced_and_when_it_changes(page: Page, clock_of_cache: Clock) -> None:
    assert page.port() is None
    page.announce("20001 /lab")
    clock_of_cache.now += 1
    assert page.port() == 20001
    page.announce("20002")
    assert page.port() == 20001
    clock_of_cache.now += announcements.FRESH_SECONDS + 1
    assert page.port() == 20002


def test_while_its_file_is_read_the_port_that_was_announced_is_used(
    page: Page, files: FileSystem, clock_of_cache: Clock, mocker: MockerFixture
) -> None:
    mocker.patch.object(announcements, "WAIT_SECONDS", 0.01)
    page.announce("20001")
    wait_until("it is announced", lambda: page.port() == 20001, seconds=PATIENCE)
    opened = files.opened
    files.answers.clear()
    clock_of_cache.now += announcements.FRESH_SECONDS + 1
    assert page.port() == 20001
    mocker.patch.object(announcements, "WAIT_SECONDS", 3600.0)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(lambda: [page.port() for _ in range(20)])
        try:
            assert asked.result(PATIENCE / 3) == [20001] * 20  # nobody else waits
        except TimeoutError:
            files.answers.set()
            raise
    assert files.opened == opened + 1  # one read at a time
    mocker.patch.object(announcements, "WAIT_SECONDS", 0.01)
    clock_of_cache.now += announcements.STALE_SECONDS + 1
    assert page.port() is None
    page.announce("20002")
    files.answers.set()
    wait_until("it is read again", lambda: page.port() == 20002, seconds=PATIENCE)


def test_while_the_program_of_its_user_does_not_answer_the_port_that_was_announced_is_used_for_a_while(
    page: Page, clock_of_cache: Clock, mocker: MockerFixture
) -> None:
    page.announce("20001")
    assert page.port() == 20001
    open_ = mocker.patch.object(OwnAccount, "open", side_effect=ImpersonationUnavailableError("it is stopped"))
    clock_of_cache.now += announcements.FRESH_SECONDS + 1
    assert [page.port() for _ in range(20)] == [20001] * 20
    assert open_.call_count == 1
    clock_of_cache.now += announcements.STALE_SECONDS
    assert page.port() is None


def test_requests_for_a_file_that_is_not_read_wait_together_and_not_one_after_the_other(
    page: Page, files: FileSystem, clock_of_cache: Clock
) -> None:
    page.announce("20001")
    files.answers.clear()
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(page.port) for _ in range(20)]  # as a page that loads its parts does
        wait_until("it is opened", lambda: files.opened == 1, seconds=PATIENCE)
        files.answers.set()
        wait(asked, PATIENCE)
    assert {each.result() for each in asked} <= {20001, None}  # on a busy machine one may have waited long enough
    assert files.opened == 1


def test_a_read_that_takes_long_is_waited_for_once(page: Page, files: FileSystem, clock_of_cache: Clock) -> None:
    files.answers.clear()
    assert page.port() is None
    clock_of_cache.now += announcements.WAIT_SECONDS
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(lambda: [page.port() for _ in range(200)])
        assert asked.result(200) == [None] * 200  # it would take minutes, if each of them waited
    assert files.opened == 1


def test_one_persons_file_system_stops_nobody_elses_page(
    world: World, ports: Announcements, files: FileSystem, mocker: MockerFixture
) -> None:
    mocker.patch.object(announcements, "WAIT_SECONDS", 0.01)
    files.answers.clear()
    for _ in range(10):
        stuck = Page(world, ports)
        stuck.port()
    assert files.opened <= 2  # the share of one owner
    mocker.patch.object(OwnAccount, "open", lambda _self, path: open_file(path))
    mocker.patch.object(announcements, "WAIT_SECONDS", PATIENCE)
    other = Page(world, ports)
    other.row = replace(other.row, owner="other")
    other.announce("20003")
    assert other.port() == 20003


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"20001", Announcement(20001, "/")),
        (b"20001 /lab?token=x\n", Announcement(20001, "/lab?token=x")),
        (b"1023", None),
        (b"65536", None),
        (b"20001 //evil.example", None),
        (b"20001 /\\evil.example", None),
        (b"20001 lab", None),
        (b"", None),
    ],
)
def test_an_announcement_is_a_port_of_the_node_and_a_path_of_the_page(text: bytes, found: Announcement | None) -> None:
    assert Announcement.read(text) == found
