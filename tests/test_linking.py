"""Linking by proof: who types a code is known from the kernel, and a code connects once, soon, and nobody else."""

import grp
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tests.conftest import Clock, Serve, World, configuration
from tests.model import Model
from ucloud_slurm.cli.link import linking
from ucloud_slurm.errors import Forbidden
from ucloud_slurm.provider import Provider
from ucloud_slurm.sandbox.core import ERAS, CoreError, SimulatedCore
from ucloud_slurm.store.people import Link
from ucloud_slurm.users import linking as daemon
from ucloud_slurm.users.linking import Server
from ucloud_slurm.users.runner import listener
from ucloud_slurm.worker.one_pass import Result

BASE = "/ucloud/example"
USER = "Ada#1234"
APPROVE = "providers.im.control.approveConnection"
ADA, BOB, LOCKED, OUTSIDER = 64321, 64322, 64323, 64324
GROUP = 64000
NAMES = {ADA: "ada", BOB: "bob-b", LOCKED: "locked", OUTSIDER: "outsider"}

# Says one line to a socket, as another account.
SAYING = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
connection = socket.socket(socket.AF_UNIX); connection.connect(sys.argv[2])
connection.sendall(sys.stdin.buffer.read()); connection.shutdown(socket.SHUT_WR)
sys.stdout.write(connection.makefile().readline())
"""
# The command line, as another account.
TYPING = """
import os, sys
from ucloud_slurm.cli.main import main
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
main(sys.argv[2:], prog_name="ucloud-slurm")
"""


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Accounts that this process believes to be on the host."""
    if os.geteuid() != 0:
        pytest.skip("only root can become others")
    getpwuid, getpwnam, getgrnam, getgrouplist = pwd.getpwuid, pwd.getpwnam, grp.getgrnam, os.getgrouplist
    entries = {
        uid: pwd.struct_passwd((
            name, "x", uid, uid, "", str(tmp_path), "/usr/sbin/nologin" if uid == LOCKED else "/bin/bash"
        ))
        for uid, name in NAMES.items()
    }  # fmt: skip
    by_name = {entry.pw_name: entry for entry in entries.values()}
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entries.get(uid) or getpwuid(uid))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: by_name.get(name) or getpwnam(name))
    monkeypatch.setattr(
        grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=GROUP) if name == "ucloud-users" else getgrnam(name)
    )
    monkeypatch.setattr(
        os, "getgrouplist",
        lambda name, gid: [gid, *([GROUP] if name != "outsider" else [])] if name in by_name
        else getgrouplist(name, gid),
    )  # fmt: skip
    # Jobs of Ada's are then made in this process.
    monkeypatch.setattr("ucloud_slurm.provider.own_account", lambda: "ada")


@pytest.fixture
def provider(core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path) -> Iterator[Provider]:
    config = configuration(core, tmp_path, users={"mapping": "table"}, provider={"url": "https://hpc.example.org"})
    provider = Provider.open(config, now=clock, scheduler=model)
    model.user = "ada"
    yield provider
    provider.close()


@pytest.fixture
def world(core: SimulatedCore, provider: Provider, serve: Serve, model: Model, clock: Clock) -> World:
    return World(core, provider, model, clock, serve(provider))


@pytest.fixture
def path(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The daemon, in a folder that everybody can reach."""
    monkeypatch.setattr(daemon, "LOOK_UP", 0.05)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    with listener(folder / "link.sock", 0o666) as waiting:
        thread = threading.Thread(target=Server(linking(provider)).serve, args=(waiting,))
        thread.start()
        yield folder / "link.sock"
        waiting.close()
        thread.join()
    shutil.rmtree(folder)


def say(path: Path, line: bytes, uid: int = ADA) -> Any:
    """What the daemon answers an account; None when it says nothing."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", SAYING, str(uid), str(path)], input=line, capture_output=True, check=True,
        timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout) if done.stdout else None


def ask(path: Path, uid: int = ADA, /, **message: Any) -> Any:
    return say(path, json.dumps(message).encode() + b"\n", uid)


def typed(path: Path, *words: str, uid: int = ADA, keys: str = "") -> tuple[int, str]:
    """What somebody sees who types the command; and its status."""
    done = subprocess.run(
        [sys.executable, "-c", TYPING, str(uid), *words, "--socket", str(path)], input=keys, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    return done.returncode, done.stdout


def connect(world: World, user: str = USER) -> str:
    """A user presses Connect at UCloud; returns the code."""
    target = world.core.connect_user(user)
    prefix = f"https://hpc.example.org{BASE}/link/"
    assert target.startswith(prefix)
    return target.removeprefix(prefix)


def shown(world: World, code: str) -> requests.Response:
    return requests.get(f"{world.url}{BASE}/link/{code}", timeout=5)


# -- the whole way ----------------------------------------------------------------------------------------------


@pytest.mark.every_era
def test_a_user_who_types_the_code_is_connected_and_can_start_jobs(world: World, path: Path) -> None:
    with pytest.raises(CoreError, match="under Providers, choose this provider and Connect"):
        world.core.submit(("sleeper", "1.0.0"), "example-compute-1", owner=USER)
    code = connect(world)
    assert f"ucloud-slurm link {code}" in shown(world, code).text
    status, text = typed(path, "link", code, keys="y\n")
    assert (status, text) == (
        0,
        f"This lets the UCloud user {USER} start jobs on this cluster as you (ada). Go on? [y/N]: "
        f"{USER} is connected with ada.\n",
    )
    assert USER in world.core.connected
    link = world.provider.people.of(USER)
    assert link is not None
    assert (link.local_user, link.uid, link.added_by) == ("ada", ADA, "ada")
    job = world.submit(owner=USER)
    assert world.row(job).local_user == "ada"


def test_a_code_is_taken_in_any_case_with_dashes_or_without(world: World, path: Path) -> None:
    code = connect(world)
    for text in (code, code.lower(), code.replace("-", ""), f" {code.replace('-', ' ')} "):
        assert ask(path, verb="whose", code=text) == {"username": USER, "account": "ada"}


def test_whoever_does_not_confirm_changes_nothing(world: World, path: Path) -> None:
    code = connect(world)
    for keys in ("n\n", "\n"):
        status, text = typed(path, "link", code, keys=keys)
        assert status == 1
        assert "Nothing was changed." in text
    assert world.provider.people.listed() == []
    assert typed(path, "link", code, "--yes")[0] == 0


def test_a_name_of_ucloud_does_nothing_to_a_terminal(world: World, path: Path) -> None:
    code = world.provider.codes.new("Ada\x07\x1b[2J#1", world.clock())
    assert typed(path, "link", code, "--yes") == (0, "Ada [2J#1 is connected with ada.\n")


def test_without_the_daemon_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    status, text = typed(tmp_path / "none", "link", "x")
    assert status == 1
    assert "Type this on the login node of the cluster" in text
    assert "Traceback" not in text


# -- codes ------------------------------------------------------------------------------------------------------


def test_a_code_works_once(world: World, path: Path) -> None:
    code = connect(world)
    assert ask(path, verb="link", code=code)["username"] == USER
    world.provider.people.remove(USER, "test", world.clock())
    for verb in ("whose", "link"):
        assert "not valid" in ask(path, verb=verb, code=code)["refused"]
    assert world.provider.people.listed() == []
    assert shown(world, code).status_code == 404


def test_a_code_works_for_ten_minutes(world: World, path: Path) -> None:
    code = connect(world)
    world.clock.advance(599)
    assert ask(path, verb="whose", code=code)["username"] == USER
    assert shown(world, code).status_code == 200
    world.clock.advance(1)
    assert "not valid" in ask(path, verb="link", code=code)["refused"]
    assert shown(world, code).status_code == 404


def test_only_the_newest_code_of_a_user_works(world: World, path: Path) -> None:
    old, other, new = connect(world), connect(world, "Bob#1"), connect(world)
    assert "not valid" in ask(path, verb="link", code=old)["refused"]
    assert shown(world, old).status_code == 404
    assert ask(path, verb="whose", code=new)["username"] == USER
    assert ask(path, verb="whose", code=other)["username"] == "Bob#1"


def test_the_database_does_not_hold_the_code(world: World) -> None:
    code = connect(world)
    text = str([dict(row) for row in world.provider.store.rows("select * from codes")])
    assert code not in text
    assert code.replace("-", "") not in text


def test_wrong_codes_are_limited_for_the_account_that_tries_them_alone(world: World, path: Path) -> None:
    code = connect(world)
    for _ in range(daemon.WRONG):
        assert "not valid" in ask(path, verb="whose", code="2222-2222-2222")["refused"]
    assert "Too many" in ask(path, verb="link", code=code)["refused"]
    assert ask(path, BOB, verb="whose", code=code)["username"] == USER
    world.clock.advance(61)
    assert ask(path, verb="link", code=code)["username"] == USER


# -- who calls --------------------------------------------------------------------------------------------------


def test_who_calls_is_what_the_kernel_says_whatever_the_message_claims(world: World, path: Path) -> None:
    code = connect(world)
    claims = {"uid": ADA, "user": "ada", "account": "ada", "local_user": "ada"}
    assert ask(path, BOB, verb="link", code=code, **claims)["account"] == "bob-b"
    link = world.provider.people.of(USER)
    assert link is not None
    assert (link.local_user, link.uid) == ("bob-b", BOB)
    assert "not connected" in ask(path, ADA, verb="unlink", username=USER, **claims)["refused"]
    assert world.provider.people.of(USER) == link


@pytest.mark.parametrize("uid", [0, LOCKED, OUTSIDER, 1, 64999])
@pytest.mark.parametrize("verb", ["whose", "link"])
def test_accounts_that_jobs_may_not_run_as_are_not_connected_and_learn_nothing(
    world: World, path: Path, uid: int, verb: str
) -> None:
    code = connect(world)
    answer = ask(path, uid, verb=verb, code=code)
    assert list(answer) == ["refused"]
    assert USER not in answer["refused"]
    assert world.provider.people.listed() == []
    assert ask(path, verb="whose", code=code)["username"] == USER


def test_root_is_told_to_use_its_own_account(path: Path) -> None:
    assert typed(path, "link", "x", uid=0) == (
        1,
        "ucloud-slurm: root cannot be connected with a user of UCloud. Type this in your own account.\n",
    )
    assert "own account" in ask(path, 0, verb="unlink")["refused"]


def test_an_account_and_a_user_are_connected_with_one_other_and_the_code_is_kept(world: World, path: Path) -> None:
    ask(path, verb="link", code=connect(world))
    second = connect(world, "Other#1")
    assert "Type ucloud-slurm unlink first" in ask(path, verb="link", code=second)["refused"]
    again = connect(world)
    answer = ask(path, BOB, verb="link", code=again)["refused"]
    assert "connected with another account" in answer
    assert "ada" not in answer
    ask(path, verb="unlink")
    assert ask(path, verb="link", code=second)["username"] == "Other#1"


@pytest.mark.parametrize(("line", "why"), [
    (b"\n", None),
    (b"", None),
    (b'{"verb": "whose"}', None),
    (b"[]\n", "cannot be read"),
    (b"[" * 1000 + b"\n", "cannot be read"),
    (b"\xff\xfe\n", "cannot be read"),
    (b"{}\n", "no such request"),
    (b'{"verb": ["whose"]}\n', "no such request"),
    (b'{"verb": "whose"}\n', "not valid"),
    (b'{"verb": "whose", "code": 7}\n', "not valid"),
    (b'{"verb": "whose"}' + b" " * 2000 + b"\n", "too long"),
])  # fmt: skip
def test_what_is_not_a_request_is_refused_and_the_next_is_served(
    world: World, path: Path, line: bytes, why: str | None
) -> None:
    answer = say(path, line)
    assert (answer is None) is (why is None)
    assert why is None or why in answer["refused"]
    assert ask(path, verb="whose", code=connect(world))["username"] == USER


def test_whoever_says_nothing_is_let_go_and_holds_nobody_else_up(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "WITHIN", 0.3)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(2 * daemon.MOST)]
    for each in silent:
        each.connect(str(path))
    assert ask(path, verb="whose", code=connect(world))["username"] == USER
    said = []
    for each in silent:
        with each, each.makefile() as answers:
            said.append(json.loads(answers.readline())["refused"])
    assert set(said) == {"The request took too long.", "One at a time."}


# -- telling UCloud ---------------------------------------------------------------------------------------------


@pytest.fixture
def told(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom UCloud was told of, with success."""
    names: list[str] = []
    approve = world.provider.core.approve_connection

    def counted(self: Any, username: str, **more: Any) -> None:
        approve(username, **more)
        names.append(username)

    monkeypatch.setattr(type(world.provider.core), "approve_connection", counted)
    return names


def test_while_ucloud_is_away_the_link_counts_and_it_is_told_later_once(
    world: World, path: Path, told: list[str]
) -> None:
    code = connect(world)
    world.core.faults.outage(True)
    status, text = typed(path, "link", code, "--yes")
    assert (status, "is told soon" in text) == (0, True)
    assert world.provider.people.of(USER) is not None
    assert world.work(1) is Result.NOT_ALL
    assert USER not in world.core.connected
    world.core.faults.outage(False)
    for _ in range(3):
        world.work(20)
    assert USER in world.core.connected
    assert told == [USER]


def test_of_whom_ucloud_was_told_at_once_it_is_not_told_again(world: World, path: Path, told: list[str]) -> None:
    assert ask(path, verb="link", code=connect(world))["told"] is True
    world.work(100)
    assert told == [USER]


def test_one_tells_ucloud_at_a_time_and_another_when_it_died(world: World, told: list[str]) -> None:
    world.provider.people.add([Link(USER, "ada", ADA, world.clock(), "root")])
    assert world.provider.people.asking(USER, world.clock())
    assert world.work(1) is Result.DONE
    assert told == []
    world.work(60)
    assert told == [USER]


def test_ucloud_is_told_of_those_whom_an_administrator_connects(world: World, told: list[str]) -> None:
    world.provider.people.add([Link(USER, "ada", ADA, world.clock(), "root")])
    assert world.work(1) is Result.DONE
    assert told == [USER]
    assert USER in world.core.connected


def test_what_ucloud_refuses_for_good_is_written_down_and_not_repeated(world: World, told: list[str]) -> None:
    world.provider.people.add([Link(USER, "ada", ADA, world.clock(), "root")])
    world.core.faults.answer(APPROVE, 400, {"why": "no such user"})
    assert world.work(1) is Result.DONE
    assert world.work(100) is Result.DONE
    assert told == []
    assert "no such user" in world.provider.people.history()[-1]["what"]


@pytest.mark.parametrize(("status", "body"), [(404, None), (403, {"why": "no"})])
def test_a_refusal_that_is_not_about_the_person_is_tried_again(
    world: World, told: list[str], status: int, body: Any
) -> None:
    world.provider.people.add([Link(USER, "ada", ADA, world.clock(), "root")])
    world.core.faults.answer(APPROVE, status, body)
    assert world.work(1) is Result.NOT_ALL
    assert world.work(1) is Result.DONE
    assert told == [USER]


def test_a_user_who_connects_again_is_told_of_again(world: World, path: Path, told: list[str]) -> None:
    ask(path, verb="link", code=connect(world))
    world.clock.advance(10)
    assert ask(path, verb="link", code=connect(world))["told"] is True
    assert told == [USER, USER]
    assert len(world.provider.people.listed()) == 1


# -- giving it up -----------------------------------------------------------------------------------------------


def test_a_person_gives_the_connection_up_on_the_cluster(world: World, path: Path) -> None:
    ask(path, verb="link", code=connect(world))
    assert typed(path, "unlink") == (0, f"{USER} is not connected with ada any more.\n")
    with pytest.raises(Forbidden):
        world.provider.mapping.identity(USER, None)
    assert world.provider.people.history()[-1]["who"] == "ada"
    status, text = typed(path, "unlink")
    assert status == 1
    assert "not connected" in text


@pytest.mark.parametrize("era", ["2022"], scope="session")
def test_a_person_gives_the_connection_up_at_ucloud(world: World, path: Path) -> None:
    assert ERAS["2022"].has_unlinked
    ask(path, verb="link", code=connect(world))
    world.core.unlink(USER)
    assert world.provider.people.listed() == []
    assert world.provider.people.history()[-1]["who"] == "UCloud"
    world.core.unlink(USER)


# -- the calls and the page -------------------------------------------------------------------------------------


def test_only_connected_people_are_prepared_for_and_never_with_449(world: World) -> None:
    answer = world.core.call("POST", f"{BASE}/integration/init", {"username": USER})
    assert answer == (400, {"why": "Unknown user", "errorCode": None})
    world.provider.people.add([Link(USER, "ada", ADA, world.clock(), "root")])
    assert world.core.call("POST", f"{BASE}/integration/init", {"username": USER}) == (200, {})


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300])
def test_what_is_no_name_gets_no_code(world: World, name: str) -> None:
    assert world.core.call("POST", f"{BASE}/integration/connect", {"username": name})[0] == 400


def test_the_page_tells_the_code_and_never_whose_it_is(world: World) -> None:
    code = connect(world)
    page = shown(world, code)
    assert page.status_code == 200
    assert "within ten minutes" in page.text
    assert "Ada" not in page.text + str(page.headers)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_page_is_kept_nowhere_and_loads_nothing(world: World, wrong: bool) -> None:
    page = shown(world, "x%3Cb%3E" if wrong else connect(world))
    assert page.status_code == (404 if wrong else 200)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "<b>" not in page.text
    assert ("choose\nConnect" in page.text) is wrong


def test_nothing_but_the_page_is_public(world: World) -> None:
    code = connect(world)
    for verb, path in (("POST", f"link/{code}"), ("GET", "link"), ("GET", f"link/{code}/x")):
        answer = requests.request(verb, f"{world.url}{BASE}/{path}", timeout=5)
        assert answer.status_code in (401, 404, 405)
        assert code not in answer.text
    assert requests.post(f"{world.url}{BASE}/integration/connect", json={"username": "x"}, timeout=5).status_code == 401


@pytest.mark.parametrize("mapping", ["service", "script"])
def test_with_another_mapping_nobody_connects(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, serve: Callable[..., str], mapping: str
) -> None:
    users = {"mapping": mapping, "script": "/bin/true"} if mapping == "script" else {"mapping": mapping}
    provider = Provider.open(configuration(core, tmp_path, users=users), now=clock, scheduler=model)
    url = serve(provider)
    with pytest.raises(CoreError):
        core.connect_user(USER)
    status, body = core.call("POST", f"{BASE}/integration/connect", {"username": USER})
    assert status == 400
    assert "no need to connect" in body["why"]
    code = provider.codes.new(USER, clock())
    assert requests.get(f"{url}{BASE}/link/{code}", timeout=5).status_code == 404
    provider.close()


def test_unlinking_needs_no_fit_account(world: World, path: Path) -> None:
    world.provider.people.add([Link(USER, "locked", LOCKED, world.clock(), "root")])
    assert ask(path, LOCKED, verb="unlink")["usernames"] == [USER]


def test_an_account_made_anew_is_not_the_one_that_was_connected(world: World, path: Path) -> None:
    world.provider.people.add([Link(USER, "ada", 63000, world.clock(), "root")])
    assert "refused" in ask(path, verb="unlink")
    assert "connected with another account" in ask(path, verb="link", code=connect(world))["refused"]
    assert world.provider.people.of(USER) is not None
