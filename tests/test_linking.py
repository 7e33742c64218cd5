"""Linking by proof: who somebody is here the kernel says, UCloud hears of it once, and it can be taken back."""

import grp
import json
import os
import pwd
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import Clock, Serve, configuration
from tests.model import Model
from ucloud_slurm.app import create_app
from ucloud_slurm.cli.main import main
from ucloud_slurm.provider import Provider
from ucloud_slurm.sandbox.core import CoreError, SimulatedCore
from ucloud_slurm.store.linking import ALPHABET, LENGTH, VALID
from ucloud_slurm.store.people import Link
from ucloud_slurm.users.linkd import LARGEST, LinkServer
from ucloud_slurm.users.linking import WRONG, Linking
from ucloud_slurm.users.runner import listener
from ucloud_slurm.worker import people
from ucloud_slurm.worker.one_pass import Result as PassResult
from ucloud_slurm.worker.one_pass import one_pass

BASE = "/ucloud/example"
ADA, EVE, NEW = 54321, 54322, 54323
USER = "Ada#1234"
APPROVE, CLEAR = "providers.im.control.approveConnection", "providers.im.control.clearConnection"
GROUP = 64321


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch) -> dict[str, pwd.struct_passwd]:
    """Accounts of this host: those that there are, and three people more, two of them in the group."""
    made = {
        name: pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", "/bin/bash"))
        for name, uid in (("ada", ADA), ("eve", EVE), ("new", NEW))
    }
    by_name, by_uid, groups, group = pwd.getpwnam, pwd.getpwuid, os.getgrouplist, grp.getgrnam

    def by_uid_(uid: int) -> pwd.struct_passwd:
        return next((entry for entry in made.values() if entry.pw_uid == uid), None) or by_uid(uid)

    def group_(name: str) -> grp.struct_group:
        return grp.struct_group((name, "x", GROUP, [])) if name == "ucloud-users" else group(name)

    monkeypatch.setattr(pwd, "getpwnam", lambda name: made.get(name) or by_name(name))
    monkeypatch.setattr(pwd, "getpwuid", by_uid_)
    monkeypatch.setattr(grp, "getgrnam", group_)

    def groups_(name: str, gid: int) -> list[int]:
        return groups(name, gid) if name not in made else [gid] if name == "new" else [gid, GROUP]

    monkeypatch.setattr(os, "getgrouplist", groups_)
    return made


@pytest.fixture
def provider(core: SimulatedCore, clock: Clock, tmp_path: Path, serve: Serve) -> Iterator[Provider]:
    """A provider with the table, reached by Core."""
    opened = Provider.open(configuration(core, tmp_path, users={"mapping": "table"}), now=clock, scheduler=Model(clock))
    serve(opened)
    yield opened
    opened.close()


@pytest.fixture
def linking(provider: Provider) -> Linking:
    return Linking(
        provider.config.users, provider.store, provider.now, lambda username: people.tell(provider, username)
    )


def code_of(core: SimulatedCore, username: str = USER) -> str:
    return core.connect_user(username).rpartition("/")[2]


def link(linking: Linking, code: str, uid: int = ADA) -> str:
    answer = linking.answer(uid, {"do": "link", "code": code})
    return str(answer.get("done") or answer["refused"])


def heard(core: SimulatedCore) -> list[str]:
    """What Core was told of connections, in order."""
    calls = [each.call for each in core.exchanges if each.call in (APPROVE, CLEAR) and each.status == 200]
    return [call.rpartition(".")[2].removesuffix("Connection") for call in calls]


@contextmanager
def away(core: SimulatedCore) -> Iterator[None]:
    """UCloud answers nothing."""
    core.faults.outage(True)
    yield
    core.faults.outage(False)


# -- the whole


@pytest.mark.every_era
def test_a_code_typed_on_the_login_node_connects_and_ucloud_hears_it_once(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    assert link(linking, code_of(core)) == f"{USER} is connected with ada."
    for _ in range(3):
        one_pass(provider)
    assert core.connected == {USER}
    assert heard(core) == ["approve"]
    found = provider.people.of(USER)
    assert found is not None
    assert (found.local_user, found.uid, found.added_by) == ("ada", ADA, "ada")
    assert [row["what"] for row in provider.people.history()] == [f"connected {USER} with ada"]


def test_without_a_table_nobody_can_connect(core: SimulatedCore, clock: Clock, tmp_path: Path, serve: Serve) -> None:
    provider = Provider.open(configuration(core, tmp_path), now=clock, scheduler=Model(clock))
    serve(provider)
    with pytest.raises(CoreError, match="not supported"):
        core.connect_user(USER)
    status, body = core.call("POST", f"{BASE}/integration/connect", {"username": USER})
    assert (status, "no need to connect" in body["why"]) == (400, True)
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER}) == (200, {})
    provider.close()


def test_init_knows_those_who_are_connected_and_no_others(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER})[0] == 400
    link(linking, code_of(core))
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER}) == (200, {})
    assert core.call("POST", f"{BASE}/integration/init", {"username": USER.lower()})[0] == 400


def test_somebody_who_is_not_connected_is_told_where_to(core: SimulatedCore, provider: Provider) -> None:
    with pytest.raises(CoreError, match=r"not connected.*Providers.*/ucloud/example/link") as refusal:
        core.submit(("sleeper", "1.0.0"), "example-compute-1", {"seconds": {"type": "integer", "value": 1}}, owner=USER)
    assert refusal.value.status == 403


# -- the code


def test_a_code_is_long_readable_and_kept_as_a_hash_only(core: SimulatedCore, provider: Provider) -> None:
    code = code_of(core)
    assert re.fullmatch(r"(\w{4})-(\w{4})-(\w{4})", code)
    assert set(code) <= {*ALPHABET, "-"}
    assert not set(ALPHABET) & set("01OILU")
    assert len(ALPHABET) ** LENGTH > 2**58
    assert code not in str([dict(row) for row in provider.store.rows("select * from codes")])
    assert code.replace("-", "") not in str([dict(row) for row in provider.store.rows("select * from codes")])


def test_a_code_may_be_typed_carelessly(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    code = code_of(core)
    assert "is connected" in link(linking, f" {code.lower().replace('-', ' ')} ")


def test_a_code_works_once(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    code = code_of(core)
    link(linking, code)
    assert "not known" in link(linking, code)
    assert "not known" in link(linking, code, EVE)
    assert [each.local_user for each in provider.people.listed()] == ["ada"]


@pytest.mark.parametrize(("seconds", "works"), [(VALID - 1, True), (VALID, False), (VALID + 1e6, False), (-5, False)])
def test_a_code_works_for_ten_minutes(
    core: SimulatedCore, provider: Provider, linking: Linking, clock: Clock, seconds: float, works: bool
) -> None:
    code = code_of(core)
    clock.advance(seconds)
    assert ("is connected" in link(linking, code)) is works


def test_the_newest_code_of_a_user_counts(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    first, second = code_of(core), code_of(core)
    assert "not known" in link(linking, first)
    assert "is connected" in link(linking, second)


def test_of_two_who_use_a_code_at_once_one_is_connected(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code, said = code_of(core), []
    both = [threading.Thread(target=lambda uid=uid: said.append(link(linking, code, uid))) for uid in (ADA, EVE)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted("is connected" in each for each in said) == [False, True]
    assert len(provider.people.listed()) == 1


def test_whoever_guesses_is_stopped_and_others_are_not(
    core: SimulatedCore, provider: Provider, linking: Linking, clock: Clock
) -> None:
    code = code_of(core)
    for _ in range(WRONG):
        assert "not known" in link(linking, "AAAA-AAAA-AAAA", EVE)
    assert "too many" in link(linking, code, EVE)
    assert "too many" in linking.answer(EVE, {"do": "look", "code": code})["refused"]
    assert linking.answer(ADA, {"do": "look", "code": code})["ucloud_user"] == USER
    clock.advance(61)
    assert "is connected" in link(linking, code, EVE)


# -- who may


def test_looking_at_a_code_says_whose_it_is_and_uses_nothing(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code = code_of(core)
    for _ in range(2):
        assert linking.answer(ADA, {"do": "look", "code": code}) == {"account": "ada", "ucloud_user": USER}
    assert provider.people.listed() == []


@pytest.mark.parametrize(("uid", "said"), [
    (0, "not as root"), (1, "uid 1;"), (65534, "nobody|name"), (54399, "no account"),
    (NEW, "gpasswd --add new ucloud-users"),
])  # fmt: skip
def test_no_account_is_connected_that_jobs_may_not_run_as(
    core: SimulatedCore, provider: Provider, linking: Linking, uid: int, said: str
) -> None:
    assert re.search(said, link(linking, code_of(core), uid))
    assert provider.people.listed() == []
    assert heard(core) == []


def test_an_account_has_one_user_and_a_user_one_account(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    codes = code_of(core), code_of(core, "Mallory#1")
    link(linking, codes[0])
    assert f"connected with {USER} already" in link(linking, codes[1])
    provider.codes.make(USER, provider.now())
    assert "another account, ada" in link(linking, provider.codes.make(USER, provider.now()), EVE)
    assert [(each.username, each.local_user) for each in provider.people.listed()] == [(USER, "ada")]


def test_an_account_made_anew_under_its_old_name_can_be_connected_anew(
    core: SimulatedCore, provider: Provider, linking: Linking, accounts: dict[str, Any]
) -> None:
    link(linking, code_of(core))
    accounts["ada"] = pwd.struct_passwd(("ada", "x", 54444, 54444, "", "/home/ada", "/bin/bash"))
    assert "is connected" in link(linking, provider.codes.make(USER, provider.now()), 54444)
    assert [each.uid for each in provider.people.listed()] == [54444]


def test_what_the_caller_says_of_themselves_counts_for_nothing(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    request = {"do": "link", "code": code_of(core), "uid": EVE, "account": "eve", "ucloud_user": "Eve#1"}
    assert linking.answer(ADA, request)["done"] == f"{USER} is connected with ada."


# -- telling UCloud


@pytest.mark.every_era
def test_while_ucloud_is_away_the_connection_is_kept_and_told_later(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code = code_of(core)
    with away(core):
        assert "UCloud does not answer" in link(linking, code)
        assert one_pass(provider) is PassResult.NOT_ALL
    assert provider.people.of(USER) is not None
    one_pass(provider)
    one_pass(provider)
    assert core.connected == {USER}


@pytest.mark.every_era
def test_after_a_lost_answer_the_connection_is_never_approved_twice_in_a_row_where_that_is_an_error(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    code = code_of(core)
    core.faults.drop_answer(APPROVE)
    assert "UCloud does not answer" in link(linking, code)
    one_pass(provider)
    one_pass(provider)
    clears = provider.era.has_clear_connection
    assert heard(core) == (["approve", "clear", "approve"] if clears else ["approve", "approve"])
    assert core.connected == {USER}


def test_two_who_tell_at_once_tell_it_once(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    code = code_of(core)
    with away(core):
        link(linking, code)
    (owed,) = provider.connections.owed(provider.now())
    before = len(heard(core))
    assert provider.connections.claim(owed, provider.now(), provider.now() + 60)
    assert not provider.connections.claim(owed, provider.now(), provider.now() + 60)
    people.tell(provider)
    assert len(heard(core)) == before


def test_what_ucloud_refuses_waits_and_is_no_trouble_for_others(
    core: SimulatedCore, provider: Provider, linking: Linking, clock: Clock
) -> None:
    codes = code_of(core), code_of(core, "Eve#1")
    core.faults.answer(APPROVE, 400, {"why": "No such user", "errorCode": None})
    link(linking, codes[0])
    link(linking, codes[1], EVE)
    for _ in range(3):
        one_pass(provider)
    assert core.connected == {"Eve#1"}
    assert heard(core) == ["approve"]
    clock.advance(people.LATER)
    one_pass(provider)
    assert core.connected == {"Eve#1", USER}


def test_somebody_whom_the_administrator_has_added_is_told_when_ucloud_asks(
    core: SimulatedCore, provider: Provider
) -> None:
    provider.people.add([Link(USER, "ada", ADA, provider.now(), "root")])
    one_pass(provider)
    assert heard(core) == [], "a name that UCloud does not know may be wrong"
    assert core.connect_user(USER).endswith("/ucloud/example/link/connected")
    one_pass(provider)
    one_pass(provider)
    assert core.connected == {USER}
    assert heard(core) == ["approve"]


@pytest.mark.parametrize("era", ["2022"])
def test_who_is_disconnected_here_is_disconnected_at_ucloud_once(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    link(linking, code_of(core))
    provider.people.remove(USER, "root", provider.now())
    with away(core):
        one_pass(provider)
    assert core.connected == {USER}
    for _ in range(3):
        one_pass(provider)
    assert core.connected == set()
    assert heard(core)[-1] == "clear"
    assert provider.store.rows("select * from connections") == []


@pytest.mark.parametrize("era", ["2022"])
def test_who_comes_back_before_ucloud_was_told_stays_connected(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    link(linking, code_of(core))
    provider.people.remove(USER, "root", provider.now())
    assert "is connected" in link(linking, provider.codes.make(USER, provider.now()))
    one_pass(provider)
    assert core.connected == {USER}
    assert heard(core) == ["approve", "clear", "approve"]


@pytest.mark.parametrize("era", ["2022"])
def test_what_ucloud_has_taken_back_is_forgotten_here_and_not_said_again(
    core: SimulatedCore, provider: Provider, linking: Linking
) -> None:
    link(linking, code_of(core))
    core.unlink(USER)
    one_pass(provider)
    assert provider.people.listed() == []
    assert heard(core) == ["approve"]
    history = [(row["who"], row["what"]) for row in provider.people.history()]
    assert history[-1] == ("UCloud", f"disconnected {USER} from ada")
    core.unlink(USER)
    assert "is connected" in link(linking, code_of(core))
    assert core.connected == {USER}


@pytest.mark.every_era
def test_unlink_takes_it_back_on_both_sides(core: SimulatedCore, provider: Provider, linking: Linking) -> None:
    link(linking, code_of(core))
    assert linking.answer(EVE, {"do": "unlink"}) == {"refused": "No user of UCloud is connected with eve."}
    assert "any more" in linking.answer(ADA, {"do": "unlink"})["done"]
    assert provider.people.listed() == []
    assert core.connected == (set() if provider.era.has_clear_connection else {USER})
    assert linking.answer(ADA, {"do": "mine"})["ucloud_users"] == []


# -- the page


def test_the_page_shows_the_command_and_nothing_of_it_is_kept(core: SimulatedCore, provider: Provider) -> None:
    browser, code = create_app(provider=provider).test_client(), code_of(core)
    shown = browser.get(f"{BASE}/link/{code}")
    assert (shown.status_code, f"<pre>ucloud-slurm link {code}</pre>" in shown.text) == (200, True)
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert shown.headers["Cache-Control"] == "no-store"
    assert shown.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Set-Cookie" not in shown.headers
    assert USER not in shown.text
    assert browser.get(f"{BASE}/link").status_code == browser.get(f"{BASE}/link/connected").status_code == 200
    wrong = browser.get(f"{BASE}/link/%3Cscript%3E")
    assert (wrong.status_code, "<script>" in wrong.text) == (404, False)
    assert "press Connect" in wrong.text


@pytest.mark.parametrize("username", ["", "a\nb", "x" * 201, "\u202eada"])
def test_a_name_that_could_fool_somebody_who_reads_it_gets_no_code(
    core: SimulatedCore, provider: Provider, username: str
) -> None:
    status, body = core.call("POST", f"{BASE}/integration/connect", {"username": username})
    assert status == 400
    assert body["why"].startswith("username")


# -- the socket and the commands


@pytest.fixture
def door(linking: Linking) -> Iterator[Path]:
    """A real socket that everybody on this host can reach."""
    folder = Path(f"/tmp/ucloud-slurm-link-{os.getpid()}")
    folder.mkdir(mode=0o755)
    path = folder / "link.sock"
    server = LinkServer(linking.answer)
    with listener(path, 0o666) as made:
        thread = threading.Thread(target=server.serve, args=(made,))
        thread.start()
        yield path
        server.stop()
        thread.join()
    path.unlink()
    folder.rmdir()


CHILD = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[2])
    connection.sendall(sys.argv[3].encode() + b"\\n")
    print(connection.makefile().readline())
"""


def as_uid(uid: int, path: Path, request: dict[str, Any]) -> Any:
    command = [sys.executable, "-c", CHILD, str(uid), str(path), json.dumps(request)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
def test_who_is_connected_is_whom_the_kernel_names(core: SimulatedCore, provider: Provider, door: Path) -> None:
    code = code_of(core)
    assert as_uid(NEW, door, {"do": "look", "code": code, "uid": ADA})["account"] == "new"
    assert "root" in as_uid(0, door, {"do": "link", "code": code})["refused"]
    assert as_uid(EVE, door, {"do": "link", "code": code, "uid": ADA, "account": "ada"})["account"] == "eve"
    assert [(each.username, each.uid) for each in provider.people.listed()] == [(USER, EVE)]


def raw(path: Path, data: bytes) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return json.loads(connection.makefile().readline())


@pytest.mark.parametrize("data", [b"", b"\n", b"[]\n", b'"x"\n', b"\xff\n", b"{" * 900 + b"\n", b"x" * (LARGEST + 1)])
def test_what_is_no_request_is_refused_and_the_next_is_served(provider: Provider, door: Path, data: bytes) -> None:
    assert "not" in str(raw(door, data)["refused"]) or "no request" in str(raw(door, data)["refused"])
    assert "root" in raw(door, b'{"do": "mine"}\n')["refused"] or os.geteuid() != 0


def test_one_account_cannot_take_all_the_places(provider: Provider, door: Path) -> None:
    waiting = []
    for _ in range(4):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(door))
        waiting.append(connection)
    assert "Too many" in raw_answer(door)
    for connection in waiting:
        connection.close()


def raw_answer(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        return connection.makefile().readline()


def typed(*words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, [*words], input=answer)


@pytest.fixture
def as_ada(linking: Linking, door: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The socket, where this process counts as ada: what the kernel would say otherwise is tested above."""
    monkeypatch.setattr("ucloud_slurm.users.linkd.peer", lambda _connection: ADA)
    return door


def test_the_command_asks_first_and_says_whose_code_it_is(
    core: SimulatedCore, provider: Provider, as_ada: Path
) -> None:
    code = code_of(core)
    no = typed("link", code, "--socket", str(as_ada), answer="\n")
    assert (no.exit_code, f"lets the UCloud user {USER} start jobs on this cluster as you (ada)" in no.output) == (
        1,
        True,
    )
    assert provider.people.listed() == []
    yes = typed("link", code, "--socket", str(as_ada), answer="y\n")
    assert (yes.exit_code, f"{USER} is connected with ada." in yes.output) == (0, True)
    again = typed("link", code, "--socket", str(as_ada), "--yes")
    assert (again.exit_code, "not known" in again.output) == (1, True)
    gone = typed("unlink", "--socket", str(as_ada), "--yes")
    assert (gone.exit_code, "any more" in gone.output) == (0, True)
    assert provider.people.listed() == []


def test_the_command_needs_no_configuration_and_says_what_to_do_where_nobody_listens(tmp_path: Path) -> None:
    done = typed("--config", "/nonexistent", "link", "AAAA-AAAA-AAAA", "--socket", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert "Is this the login node?" in done.output
    assert "ucloud-slurm-link.socket" in done.output
