"""P1, P2, P5: of two hosts that share a standby folder one works; the other takes over without a second job or a wrong bill."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_mock import MockerFixture

import ucloud_slurm
from tests.conftest import Clock, Open, Serve, World, configuration
from tests.sandbox.core import SimulatedCore
from tests.support.pages import steps
from tests.support.restore import check, end, started
from ucloud_slurm.cli.main import main
from ucloud_slurm.config.database import DatabaseSection
from ucloud_slurm.errors import Conflict, Misconfigured
from ucloud_slurm.provider.status import read_status
from ucloud_slurm.store import backup, standby
from ucloud_slurm.store.fence import LEASE_SECONDS, ElsewhereError, Fence, Instant, Permit, this_instant
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.lease import Host, Lease, StandbyFolder
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.standby import COPY_SECONDS, RENEW_SECONDS, WATCH_SECONDS, Keeper, take_over
from ucloud_slurm.worker.run import Result, run_once

T = TypeVar("T")
SHARED = "/shared/ucloud-slurm"  # in the guide
HOUSE = Path(ucloud_slurm.__file__).parent

# ---- never two at the same time


class KilledError(Exception):
    """The process has ended in the midst of a call."""


class Both:
    """Two hosts, a folder that both see, and what happens to them."""

    def __init__(self, place: Path, rate: float, events: list[tuple[str, int, float]]) -> None:
        self.time, self.events, self.shared = 0.0, events, place / "shared"
        self.shared.mkdir()
        self.machines = [Machine(place / name, self, each) for name, each in (("login1", 1.0), ("login2", rate))]
        StandbyFolder(self.shared).take(1, self.machines[0].host)
        (self.shared / "copy-000001-000000001.db").touch()

    def interrupt(self) -> None:
        """The next thing happens, in the midst of what is under way."""
        if self.events:
            what, which, seconds = self.events.pop()
            self.machines[which].happen(what, seconds)
            self.pass_time(0)

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        assert not all(machine.works() for machine in self.machines), "both work"


class Machine:
    """A host with clocks of its own."""

    def __init__(self, place: Path, both: Both, rate: float) -> None:
        place.mkdir()
        self.section = DatabaseSection(path=place / "test.db", standby=both.shared)
        self.host, self.both, self.rate, self.booted_at, self.wall = Host(None, place.name), both, rate, -1000.0, 0.0
        self.busy: set[str] = set()
        self.killed = False
        self.keeper = self._started()

    def _started(self) -> Keeper:
        keeper = Keeper(self.section, self.host, self.clock)
        keeper.folder = SlowFolder(self)
        return keeper

    def clock(self) -> Instant:
        return Instant((self.both.time - self.booted_at) * self.rate, self.both.time + self.wall)

    def works(self) -> bool:
        return Fence(self.section.path, self.clock).why() is None

    def happen(self, what: str, seconds: float) -> None:
        match what:
            case "time":
                self.both.pass_time(seconds)
            case "step":
                self._do(what, self.keeper.step)
            case "take over":
                self._do(what, self._take_over)
            case "reboot":
                self.killed = bool(self.busy)
                Path(f"{self.section.path}.lease").unlink(missing_ok=True)  # by tmpfiles.d, before anything starts
                self.both.pass_time(seconds)
                self.booted_at = self.both.time
                self.keeper = self._started()
            case "clock":
                self.wall += seconds - 30

    def _do(self, what: str, do: Callable[[], object]) -> None:
        if what not in self.busy:
            self.busy.add(what)
            with suppress(KilledError, Conflict, Misconfigured):
                do()
            self.busy.remove(what)
            self.killed = self.killed and bool(self.busy)

    def _take_over(self) -> None:
        take_over(self.section, host=self.host, clock=self.clock, wait=self._wait)
        self.keeper.step()  # its administrator starts it

    def _wait(self, seconds: float) -> None:
        self.both.pass_time(5 * seconds / self.rate)
        self.both.interrupt()


class SlowFolder(StandbyFolder):
    """The shared folder. Before and after each of its calls something else happens, and the process may end."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.both.shared)
        self._machine = machine

    def newest(self) -> Lease | None:
        return self._slowly(super().newest)

    def take(self, number: int, host: Host) -> Lease | None:
        return self._slowly(lambda: StandbyFolder.take(self, number, host))

    def renew(self, lease: Lease, *, released: bool = False) -> Lease:
        return self._slowly(lambda: StandbyFolder.renew(self, lease, released=released))

    def _slowly(self, call: Callable[[], T]) -> T:
        self.pause()
        result = call()
        self.pause()
        return result

    def pause(self) -> None:
        self._machine.both.interrupt()
        if self._machine.killed:
            raise KilledError


EVENTS = st.tuples(
    st.sampled_from([*["nothing"] * 6, "time", "time", "step", "step", "step", "reboot", "clock", "take over", "take over"]),
    st.integers(0, 1),
    st.sampled_from([0.5, 5.0, 20.0, LEASE_SECONDS - 1, LEASE_SECONDS]),
)


@settings(max_examples=60)
@given(events=st.lists(EVENTS, min_size=60, max_size=120), rate=st.sampled_from([0.9, 1.0, 1.1]))
def test_two_hosts_never_work_at_the_same_time(events: list[tuple[str, int, float]], rate: float) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        both = Both(Path(folder), rate, events)
        patch.setattr(standby, "folder_of", lambda section: SlowFolder(_of(both, section)))
        patch.setattr(standby, "restore", lambda *_: both.interrupt())  # an interruption of a take-over, and nothing else
        while both.events:
            both.interrupt()


def _of(both: Both, section: DatabaseSection) -> Machine:
    (found,) = (machine for machine in both.machines if machine.section is section)
    return found


@dataclass
class Stall:
    """A folder whose next call of a kind takes long: before or after it something else happens."""

    folder: StandbyFolder
    call: str
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        done = getattr(self.folder, name)
        if name != self.call:
            return done

        def slow(*arguments: Any, **more: Any) -> Any:
            self.call = ""
            self.before()
            result = done(*arguments, **more)
            self.after()
            return result

        return slow


def stall(login: "Login", call: str, **more: Callable[[], object]) -> None:
    login.keeper.folder = cast("StandbyFolder", Stall(login.keeper.folder, call, **more))


def works(login: "Login") -> bool:
    return Fence(login.section.path, login.now).why() is None


def test_a_renewal_that_comes_after_another_host_has_taken_over_does_not_count(
    world: World, login1: "Login", login2: "Login"
) -> None:
    login2.section.path.parent.mkdir()
    folder = StandbyFolder(login1.keeper.folder.path)

    def other() -> None:
        world.clock.advance(WATCH_SECONDS - LEASE_SECONDS + 1)  # it has watched since the last renewal
        assert folder.take(3, login2.host)
        login2.keeper.step()

    world.clock.advance(LEASE_SECONDS - 1)
    stall(login1, "renew", before=other)
    for _ in range(2):
        login1.keeper.step()
        assert (works(login1), works(login2)) == (False, True)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_lease_lasts_from_the_beginning_of_its_renewal(world: World, login1: "Login", side: str) -> None:
    stall(login1, "renew", **{side: lambda: world.clock.advance(20)})
    login1.keeper.step()
    assert works(login1)
    world.clock.advance(11)
    assert not works(login1)
    stall(login1, "take", **{side: lambda: world.clock.advance(20)})
    login1.keeper.step()
    assert works(login1)
    world.clock.advance(11)
    assert not works(login1)


def test_of_two_hosts_that_take_the_same_lease_one_gets_it(world: World, login1: "Login", login2: "Login") -> None:
    login2.section.path.parent.mkdir()
    folder = StandbyFolder(login1.keeper.folder.path)

    def other() -> None:
        assert folder.take(3, login2.host)
        login2.keeper.step()

    world.clock.advance(LEASE_SECONDS)
    stall(login1, "take", before=other)
    login1.keeper.step()
    assert (works(login1), works(login2)) == (False, True)


def test_a_look_that_takes_long_is_no_watch(
    world: World, login1: "Login", login2: "Login", monkeypatch: pytest.MonkeyPatch
) -> None:
    login1.keeper.copy()
    folder = StandbyFolder(login1.keeper.folder.path)

    def renewed_meanwhile() -> None:
        for _ in range(12):
            world.clock.advance(5)
            login1.keeper.step()

    watched = Stall(folder, "", after=renewed_meanwhile)
    first = Stall(cast("StandbyFolder", watched), "newest", after=lambda: setattr(watched, "call", "newest"))
    monkeypatch.setattr(standby, "folder_of", lambda _: first)
    with pytest.raises(Conflict, match="the host login1 works"):
        login2.take_over()
    assert works(login1)


@pytest.mark.parametrize(("boot", "wall"), [(0, 40), (40, 0), (-1000, 60), (0, -5)])
def test_a_permit_ends_with_either_clock_also_over_a_reboot_or_a_pause(login1: "Login", boot: float, wall: float) -> None:
    now = login1.now()
    assert works(login1)
    assert Fence(login1.section.path, lambda: Instant(now.boot + boot, now.wall + wall)).why() is not None


# ---- the other host goes on


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.mkdir()
    return path


class Login:
    """A host over the one model of Slurm and the one Core."""

    def __init__(self, section: DatabaseSection, name: str, clock: Clock) -> None:
        self.section, self.host, self._clock = section, Host(None, name), clock
        self.keeper = Keeper(section, self.host, self.now)

    def now(self) -> Instant:
        return Instant(self._clock(), self._clock())

    def begin(self, world: World) -> World:
        """Its service works by the lease."""
        world.provider.store.fence = Fence(self.section.path, self.now)
        self.keeper.step()
        return world

    def take_over(self, **more: bool) -> Path | None:
        return take_over(self.section, host=self.host, clock=self.now, wait=self._clock.advance, **more)


@pytest.fixture
def login1(world: World, shared: Path, tmp_path: Path) -> Login:
    login = Login(DatabaseSection(path=tmp_path / "test.db", standby=shared), "login1", world.clock)
    login.take_over(first=True)
    login.begin(world)
    return login


@pytest.fixture
def login2(world: World, shared: Path, tmp_path: Path) -> Login:
    return Login(DatabaseSection(path=tmp_path / "login2" / "test.db", standby=shared), "login2", world.clock)


def goes_on(world: World, login: Login, open_provider: Open, serve: Serve) -> World:
    """The world with the service of another host."""
    provider = open_provider(database={"path": str(login.section.path)})
    return login.begin(World(world.core, provider, world.model, world.clock, serve(provider)))


def work(world: World, login: Login, seconds: int) -> None:
    """Passes of the worker, while the lease is renewed."""
    for _ in range(seconds // 20):
        world.clock.advance(20)
        login.keeper.step()
        world.work()


@pytest.mark.every_era
def test_what_came_after_the_last_copy_is_one_slurm_job_and_is_billed_once(
    world: World, login1: Login, login2: Login, open_provider: Open, serve: Serve
) -> None:
    before = started(world)
    login1.keeper.copy()
    job = world.submit()
    login1.keeper.step()
    login1.keeper.copy()
    after, url = started(world), world.url
    work(world, login1, 120)

    world.clock.advance(LEASE_SECONDS)  # login1 hangs
    booked, told = world.booked(after), world.told(after)
    status, answer = world.core.call("POST", "/ucloud/example/jobs", {"items": [world.core.rendered(after)]}, user="user")
    assert (status, "does not work on this host" in str(answer)) == (500, True)
    assert world.work() is Result.NOT_ALL
    with pytest.raises(ElsewhereError):
        _ = world.provider.core
    login2.section.path.parent.mkdir()
    login2.take_over()
    assert job in {row.id for row in Jobs(Store(login2.section.path)).newest(9)}, "the newest copy"
    old, world = world, goes_on(world, login2, open_provider, serve)
    work(world, login2, 120)

    assert old.work() is Result.NOT_ALL, "login1 is back"
    assert not login1.keeper.step().mine
    assert login1.section.path.exists()
    assert world.url != url
    assert world.told(after) == told, "nothing is reported again"
    assert world.booked(after) >= booked
    new = world.submit()
    work(world, login2, 60)
    for job in (before, after):
        end(world, job)
    for _ in range(10):
        work(world, login2, 20)
    assert [world.core.job(job).state for job in (before, after)] == ["SUCCESS"] * 2
    assert [len(world.model.of(job)) for job in (before, after, new)] == [1, 1, 1]
    check(world, before, after)


def test_after_a_release_nothing_is_lost_and_nobody_waits(
    world: World, login1: Login, login2: Login, open_provider: Open, serve: Serve
) -> None:
    world.model.controller = False
    job = world.submit()
    login1.keeper.release()
    with pytest.raises(ElsewhereError):
        world.provider.store.change("delete from jobs")
    login2.section.path.parent.mkdir()
    at = world.clock()
    login2.take_over()
    assert world.clock() == at, "the other host has said that it ended its work"
    world = goes_on(world, login2, open_provider, serve)
    world.model.controller = True
    work(world, login2, 200)
    world.model.begin_run(world.slurm(job))
    work(world, login2, 40)
    assert world.core.job(job).state == "RUNNING"


def test_a_job_that_is_in_no_copy_and_not_at_slurm_ends_and_is_not_submitted(
    world: World, login1: Login, login2: Login, open_provider: Open, serve: Serve
) -> None:
    login1.keeper.copy()
    world.model.controller = False
    job = world.submit()
    world.model.controller = True
    login2.section.path.parent.mkdir()
    login2.take_over()
    world = goes_on(world, login2, open_provider, serve)
    work(world, login2, 600)
    assert (world.core.job(job).state, world.model.of(job)) == ("FAILURE", [])


def test_a_host_that_works_is_not_taken_over(world: World, login1: Login, login2: Login) -> None:
    login1.keeper.copy()

    def renewing(seconds: float) -> None:
        world.clock.advance(seconds)
        login1.keeper.step()

    with pytest.raises(Conflict, match="the host login1 works"):
        take_over(login2.section, host=login2.host, clock=login2.now, wait=renewing)
    assert not login2.section.path.exists()
    assert world.work() is Result.DONE


def test_a_host_that_is_watched_and_releases_its_lease_is_waited_for_no_longer(
    world: World, login1: Login, login2: Login
) -> None:
    login1.keeper.copy()
    login2.section.path.parent.mkdir()
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        world.clock.advance(seconds)
        login1.keeper.release()

    assert take_over(login2.section, host=login2.host, clock=login2.now, wait=wait) is not None
    assert len(waited) == 1


class Pauses(threading.Event):
    """What a thread waits for; it ends after three pauses."""

    def __init__(self, between: Callable[[], object] = int) -> None:
        super().__init__()
        self.all: list[float | None] = []
        self._between = between

    def wait(self, timeout: float | None = None) -> bool:
        self.all.append(timeout)
        self._between()
        return len(self.all) > 3


def test_a_host_that_gets_the_lease_makes_its_first_copy_within_seconds(world: World, login1: Login) -> None:
    login1.keeper.release()
    count = len(login1.keeper.folder.copies())
    waits = Pauses()
    login1.keeper._copy_regularly(waits)
    assert waits.all == [RENEW_SECONDS] * 4, "it has no lease, and looks for one"
    begins = Pauses(login1.keeper.step)
    login1.keeper._copy_regularly(begins)
    first, second, *_ = begins.all
    assert (first, len(login1.keeper.folder.copies())) == (RENEW_SECONDS, count + 1)
    assert second is not None
    assert second >= COPY_SECONDS


def test_copies_for_the_other_host_leave_the_space_without_which_no_job_is_accepted(
    world: World, login1: Login, mocker: MockerFixture
) -> None:
    made = mocker.spy(backup, "make")
    login1.keeper.copy()
    assert made.call_args.kwargs["leave"] == login1.section.minimum_free
    world.submit()
    login1.keeper.release()
    assert made.call_args.kwargs["leave"] == 0, "the last copy may have all of it"


def test_a_host_that_does_not_work_makes_no_backups_in_the_place_of_older_ones(
    world: World, login1: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(world.provider.config, database=login1.section)
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: config)
    done = CliRunner().invoke(main, ["database", "backup"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "does not work on this host" in done.stderr
    assert not login1.section.backup_folder.exists()


def test_a_folder_without_a_lease_makes_no_host_work(world: World, login1: Login, login2: Login, shared: Path) -> None:
    """The shared file system is not mounted: the folder is there, and empty."""
    assert world.work() is Result.DONE
    for path in shared.iterdir():
        path.unlink()
    for login in (login1, login2):
        login.section.path.parent.mkdir(exist_ok=True)
        why = login.keeper.step().why_not(login.now())
        assert why is not None
        assert "is it mounted?" in why
    with pytest.raises(Misconfigured, match="is it mounted"):
        login2.take_over()
    assert world.work() is Result.NOT_ALL


def test_a_host_that_was_away_makes_a_lease_of_its_own_and_works_again(world: World, login1: Login) -> None:
    world.clock.advance(LEASE_SECONDS)
    assert run_once(world.provider) is Result.NOT_ALL
    permit = login1.keeper.step()
    assert (permit.number, permit.mine) == (3, True)
    assert run_once(world.provider) is Result.DONE


def test_the_other_host_says_who_works_and_when_nobody_does(world: World, login1: Login, login2: Login) -> None:
    login2.section.path.parent.mkdir()

    def seen() -> str:
        why = login2.keeper.step().why_not(login2.now())
        assert why is not None
        return why

    assert seen() == "the host login1 has the lease 2, and works"
    world.clock.advance(WATCH_SECONDS)
    assert "login1 has not renewed its lease for 40 s, and no host works; ucloud-slurm database take-over" in seen()
    login1.keeper.step()
    assert seen() == "the host login1 has the lease 3, and works"


def test_only_the_newest_two_copies_are_kept_and_those_of_a_later_lease_are_newer(login1: Login, world: World) -> None:
    folder = login1.keeper.folder
    for text in ("a", "b", "c"):
        login1.section.path.with_name("source").write_text(text)
        folder.add_copy(login1.section.path.with_name("source"), 12)
    (folder.path / ".copy-000010.new").touch()  # of a host that failed in the midst of one
    folder.add_copy(login1.section.path, 11)
    assert not [*folder.path.glob(".copy-*")]
    assert [path.name for path in folder.copies()] == ["copy-000012-000000002.db", "copy-000012-000000003.db"]
    assert [path.read_text() for path in folder.copies()] == ["b", "c"]


# ---- what administrators see


def test_where_a_folder_is_configured_nothing_works_before_the_unit_does(open_provider: Open, shared: Path) -> None:
    provider = open_provider(database={"standby": str(shared)})
    assert run_once(provider) is Result.NOT_ALL
    with pytest.raises(ElsewhereError, match="no valid lease"):
        provider.store.change("delete from jobs")


def test_a_host_that_stands_by_can_be_opened_after_a_change_of_its_configuration(open_provider: Open, shared: Path) -> None:
    hooks = [{"events": ["job-ended"], "program": "/program"}]

    def hooked() -> list[tuple[str]]:
        provider = open_provider(database={"standby": str(shared)}, hooks=hooks)
        return provider.store.tuples("select event from hooked")

    assert hooked() == []
    Permit(1, "login1", mine=True, since=this_instant()).write(open_provider().config.database.path)
    assert hooked() == [("job-ended",)]


def test_who_opens_the_configured_database_needs_the_lease_to_write() -> None:
    opened = {
        f"{path.relative_to(HOUSE)}: {call}"
        for path in HOUSE.rglob("*.py")
        for call in re.findall(r"\w*Store(?:\.of)?\([^()]*(?:\([^()]*\))*[^()]*\)", path.read_text())
        if re.match(r"(ReadOnly)?Store\b", call) and not call.endswith("Store)")
    }
    assert len(opened) > 8
    assert {each for each in opened if "Store.of(" not in each} == {
        "listener/__main__.py: Store(Path(settings.database), fenced=settings.standby)",
        # They open it before this host has the lease, and after it has given it up.
        "store/restore.py: Store(database, backups)",
        "store/standby.py: Store(self._section.path, self._section.backup_folder)",
    }


@pytest.mark.parametrize(
    ("looked", "problem", "well", "text"),
    [
        (0.0, None, True, "the host login2 has the lease 4, and works"),
        (0.0, "gone", False, "gone"),
        (LEASE_SECONDS, None, False, "systemctl restart ucloud-slurm-standby"),
        (None, None, False, "this host has no valid lease"),
    ],
)
def test_the_status_of_a_host_that_does_not_work_says_which_one_does(
    core: SimulatedCore, tmp_path: Path, shared: Path, looked: float | None, problem: str | None, well: bool, text: str
) -> None:
    config = configuration(core, tmp_path, database={"standby": str(shared)})
    if looked is not None:
        now = this_instant()
        since = Instant(now.boot - looked, now.wall - looked)
        Permit(4, "login2", mine=False, since=since, problem=problem).write(config.database.path)
    (condition,) = read_status(config, time.time()).conditions
    assert (condition.what, condition.well, text in condition.text) == ("standby", well, True)


def test_the_commands_of_the_guide_run_and_print_what_it_shows(
    core: SimulatedCore, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    hosts = [
        (name, configuration(core, tmp_path, database=_database(tmp_path / name, shared))) for name in ("login1", "login2")
    ]
    for (name, config), (command, shown) in zip(hosts, _ours(), strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(Host, "this", lambda name=name: Host(None, name))
            patch.setattr("ucloud_slurm.cli.context.read", lambda _path, config=config: config)
            done = CliRunner().invoke(main, command, catch_exceptions=False)
        printed = done.output.replace(str(config.database.path.parent), "/var/lib/ucloud-slurm").replace(str(shared), SHARED)
        assert (done.exit_code, printed.splitlines()) == (0, shown)
        Store(config.database.path).close()
        keeper = Keeper(config.database, Host(None, name))
        keeper.step()
        keeper.release()


def _database(folder: Path, shared: Path) -> dict[str, str]:
    folder.mkdir()
    return {"path": str(folder / "ucloud-slurm.db"), "standby": str(shared)}


def _ours() -> list[tuple[list[str], list[str]]]:
    found = [(command.partition(" -- ")[2].split()[1:], shown) for command, shown in steps("two-login-nodes")]
    return [(words, shown) for words, shown in found if words]


def test_a_folder_with_older_leases_than_this_host_has_seen_makes_it_stop(login1: Login, shared: Path) -> None:
    """An earlier state of the file system was mounted."""
    (shared / "lease-000002").unlink()
    why = login1.keeper.step().why_not(login1.now())
    assert why is not None
    assert "older lease" in why
