"""Shells in folders of drives: where the site has them, as who asks, once, and never outside the drive."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.processes import wait_until
from tests.support.drives import ADA, BOB, HOME, UIDS, accounts, drive_provider, name_project, name_users, project_drive
from tests.support.file_world import ORIGINS, FileWorld, file_world
from tests.support.model import Model
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.users.file_problems import problem
from ucloud_slurm.users.files import Place
from ucloud_slurm.users.own_files import OwnFiles

pytestmark = [pytest.mark.parametrize("era", ["today"], scope="session"), pytest.mark.usefixtures("quick_hub")]
Json = dict[str, Any]


@pytest.fixture
def world(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> World:
    """With a terminal in the home, in one of two drives of projects, and in one that is read-only."""
    accounts(tmp_path, monkeypatch)
    rules = [
        HOME,
        project_drive(tmp_path),
        project_drive(tmp_path, name="archive", product="archive", read_only=True, terminal=True),
        project_drive(tmp_path, name="closed", product="closed", read_only=True),
    ]
    provider = drive_provider(core, clock, model, tmp_path, rules, ucloud=ORIGINS)
    return World(core, provider, model, clock, serve(provider))


@pytest.fixture
def place(world: World, tmp_path: Path) -> Iterator[FileWorld]:
    with file_world(world, tmp_path) as place:
        yield place


@pytest.fixture
def project(place: FileWorld) -> dict[str, str]:
    """UCloud's ids of the drives of a project of Ada's and Bob's, whose folder exists."""
    name_project(place.world, "p1", ADA, BOB)
    name_users(place.world, ADA, BOB)
    (place.root.parents[1] / "projects/p1").mkdir(parents=True)
    place.world.work(3600)
    drives = place.world.core.drives
    return {name: drives.named(f"p-example/{name}/p1").id for name in ("project", "archive", "closed")}


def opened(place: FileWorld, path: str, user: str = ADA) -> Json:
    found = place.world.core.open_terminal(path, user)
    # Where browsers would reach the provider nobody listens in these tests.
    assert found["domainOverride"] == "ws://127.0.0.1:1"
    return found | {"domainOverride": ""}


def refused(place: FileWorld, path: str, user: str = ADA) -> CoreError:
    with pytest.raises(CoreError) as refusal:
        place.world.core.open_terminal(path, user)
    return refusal.value


def not_opened(place: FileWorld, session: Json) -> CoreError:
    with pytest.raises(CoreError) as refusal:
        place.world.core.shell(session)
    return refusal.value


def sessions(place: FileWorld) -> list[Any]:
    return list(place.world.provider.store.rows("select * from sessions"))


def test_a_shell_opens_in_a_folder_and_ends_when_the_browser_leaves(place: FileWorld, tmp_path: Path) -> None:
    (place.root / "a b").mkdir()
    session = opened(place, place.at("a b"))
    assert session | {"sessionIdentifier": ""} == {
        "type": "shell", "jobId": "", "rank": 0, "sessionIdentifier": "", "domainOverride": ""
    }  # fmt: skip
    pid_file = tmp_path / "pid"
    with place.world.core.shell(session, cols=100, rows=30) as shell:
        assert shell.send(f"echo $$ > {pid_file}; pwd -P; echo [`stty size`]\r").payload == {"type": "ack"}
        shell.wait_for(f"\r{place.root}/a b\r\n")
        shell.wait_for("[30 100]")
        assert shell.resize(132, 43).payload == {"type": "ack"}
        shell.send("echo [`stty size`]\r")
        shell.wait_for("[43 132]")
    pid = int(pid_file.read_text())
    wait_until("the shell is gone", lambda: not Path(f"/proc/{pid}").exists(), seconds=30)
    wait_until("the session has ended", lambda: sessions(place)[0]["ended_at"] is not None, seconds=30)


def test_a_shell_that_its_user_ends_is_over(place: FileWorld) -> None:
    with place.world.core.shell(opened(place, place.at())) as shell:
        shell.send("exit\r")
        assert shell.wait_closed(30).status == 200


def test_a_drive_has_terminals_only_where_its_rule_says_so(place: FileWorld, project: dict[str, str]) -> None:
    for name in ("project", "closed"):
        error = refused(place, f"/{project[name]}")
        assert (error.status, error.error_code) == (400, "FEATURE_NOT_SUPPORTED_BY_PROVIDER")
        assert "no terminals" in str(error)
    assert sessions(place) == []
    support = place.world.core.drives.support
    drives = place.world.core.drives
    offered = {name: support.flag(drives.get(id_).product, "files", "openInTerminal") for name, id_ in project.items()}
    assert offered == {"project": False, "archive": True, "closed": False}


def test_a_drive_that_is_read_only_may_have_terminals(place: FileWorld, project: dict[str, str]) -> None:
    with place.world.core.shell(opened(place, f"/{project['archive']}")) as shell:
        shell.send("pwd -P\r")
        shell.wait_for("/projects/p1\r\n")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/{drive}/none", 404), ("/{drive}/file", 400), ("/{drive}/out", 400), ("/999999/a", 404), ("/{drive}/../999999", 400),
     ("/{drive}/a/./b", 400), ("/{drive}//a", 400), ("", 400), ("/", 400), ("/home/ada", 400), ("/{drive}/a\0b", 400)],
)  # fmt: skip
def test_what_is_no_folder_of_a_drive_gets_no_terminal(place: FileWorld, path: str, status: int) -> None:
    (place.root / "file").touch()
    (place.root / "out").symlink_to("/etc")
    assert refused(place, path.format(drive=place.drive)).status == status
    assert sessions(place) == []


def test_a_folder_that_is_swapped_for_a_link_that_leads_out_gets_no_shell(place: FileWorld) -> None:
    (place.root / "folder").mkdir()
    session = opened(place, place.at("folder"))
    (place.root / "folder").rmdir()
    (place.root / "folder").symlink_to("/etc")
    error = not_opened(place, session)
    assert (error.status, "leads out" in str(error)) == (403, True)


def test_a_link_opens_one_shell_once_and_soon(place: FileWorld) -> None:
    session, late = opened(place, place.at()), opened(place, place.at())
    with place.world.core.shell(session):
        assert not_opened(place, session).status == 404
    place.world.clock.advance(61)
    assert not_opened(place, late).status == 404
    assert session["sessionIdentifier"] not in str(sessions(place))


def test_a_shell_is_that_of_the_user_who_asked(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a drive that somebody else owns."""
    asked: list[tuple[str, Place]] = []

    class Files(OwnFiles):
        def __init__(self, user: str) -> None:
            self.user = user

        def shell(self, folder: Place, *_arguments: Any, **_more: Any) -> Any:
            asked.append((self.user, folder))
            raise problem("denied", folder.parts)

    monkeypatch.setattr("ucloud_slurm.provider.context.Provider.files", lambda _provider, user: Files(user))
    name_users(place.world, BOB)
    bobs, adas = opened(place, place.at(), BOB), opened(place, place.at())
    for session in (bobs, adas):
        assert not_opened(place, session).status == 403
    home = Place(str(place.root), ())
    assert asked == [("bob", home), ("ada", home)]


def test_who_its_user_is_counts_when_a_shell_is_opened(place: FileWorld) -> None:
    session = opened(place, place.at())
    place.world.provider.people.remove(ADA, "root", 0.0)
    assert not_opened(place, session).status == 403
    name_users(place.world, "Eve#3")
    assert refused(place, place.at(), "Eve#3").status == 403


@pytest.mark.parametrize("account", [None, "bob"])
def test_a_shell_ends_when_its_user_is_disconnected_or_connected_with_another_account(
    place: FileWorld, account: str | None
) -> None:
    people = place.world.provider.people
    with place.world.core.shell(opened(place, place.at())) as shell, place.world.core.shell(opened(place, place.at())) as other:
        other.send("echo it runs\r")
        other.wait_for("it runs\r\n")
        with place.world.provider.store.writing():  # nobody sees what is between
            people.remove(ADA, "root", 0.0)
            if account is not None:
                people.remove(BOB, "root", 0.0)
                people.add([UserLink(ADA, account, UIDS[account], 0.0, "root")])
        for one in (shell, other):
            assert one.wait_closed(30).status == 403
    wait_until("the sessions have ended", lambda: all(row["ended_at"] for row in sessions(place)), seconds=30)


def test_a_terminal_that_the_site_has_taken_away_meanwhile_is_not_opened(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(place, place.at())
    rule = place.world.provider.config.drives[0]
    monkeypatch.setattr(type(place.world.provider.config), "drive", lambda _config, _name: replace(rule, terminal=False))
    assert not_opened(place, session).status == 400


def test_a_user_has_a_part_of_all_shells(place: FileWorld) -> None:
    most = place.world.provider.config.sessions.most // 4
    for _ in range(most):
        opened(place, place.at())
    assert refused(place, place.at()).status == 429


def test_a_shell_that_does_not_start_says_nothing_about_the_system(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> Any:
        raise OSError(28, "No space left on device")

    session = opened(place, place.at())
    monkeypatch.setattr("pty.openpty", fails)
    error = not_opened(place, session)
    assert (error.status, str(error)) == (500, "500: No shell can be opened at the moment; please try again later.")
    assert "a shell of Ada#1 as ada: the system gives no pseudo-terminal (No space left on device)" in caplog.messages


def test_who_opened_a_shell_where_is_one_line_in_the_journal(place: FileWorld, caplog: pytest.LogCaptureFixture) -> None:
    (place.root / "a\nb").mkdir()
    session = opened(place, place.at("a\nb"))
    with caplog.at_level("INFO"), place.world.core.shell(session):
        pass
    assert [line for line in caplog.messages if line.startswith("files:")] == [
        f"files: Ada#1 as ada: opened a shell in '/{place.drive}/a\\nb'"
    ]


def test_many_shells_leave_no_thread_and_no_terminal(place: FileWorld) -> None:
    def left() -> int:
        terminals = 0
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                terminals += str(path.readlink()).startswith("/dev/p")
        return terminals + sum(thread.name == "files" for thread in threading.enumerate())

    for _ in range(3):
        with place.world.core.shell(opened(place, place.at())):
            assert left() >= 2
    wait_until("nothing is left", lambda: left() == 0, seconds=30)


def test_a_session_of_a_folder_is_forgotten_with_the_others(place: FileWorld) -> None:
    opened(place, place.at())
    assert sessions(place)[0]["job_id"] is None
    place.world.clock.advance(30 * 86400)
    opened(place, place.at())
    place.world.clock.advance(30 * 86400)
    opened(place, place.at())
    assert len(sessions(place)) == 2
