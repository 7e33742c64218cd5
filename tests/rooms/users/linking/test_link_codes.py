"""Linking by proof: the kernel identifies the account, and a code connects one account, once, within ten minutes."""

import socket
from pathlib import Path

import pytest

from tests.conftest import World
from tests.rooms.users.linking.people import ADA, BOB, LOCKED, OUTSIDER, USER, ask, connect, framed, say, shown, typed
from tests.sandbox.core import ERAS, CoreError
from ucloud_slurm.errors import Forbidden
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.system import ipc
from ucloud_slurm.users import linking as daemon

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


def test_without_a_confirmation_nothing_changes(world: World, path: Path) -> None:
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


def test_invalid_codes_are_limited_only_for_the_account_that_tries_them(world: World, path: Path) -> None:
    code = connect(world)
    for _ in range(daemon.INVALID_CODES):
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


def test_root_is_refused_with_the_advice_to_use_an_own_account(path: Path) -> None:
    assert typed(path, "link", "x", uid=0) == (
        1,
        "ucloud-slurm: root cannot be connected with a user of UCloud. Type this in your own account.\n",
    )
    assert "own account" in ask(path, 0, verb="unlink")["refused"]


def test_an_account_and_a_user_are_connected_with_one_other_and_the_code_is_kept(world: World, path: Path) -> None:
    ask(path, verb="link", code=connect(world))
    second = connect(world, "Other#1")
    assert "Type ucloud-slurm unlink first" in ask(path, verb="link", code=second)["refused"]
    again = world.provider.codes.new(USER, world.clock())
    answer = ask(path, BOB, verb="link", code=again)["refused"]
    assert "connected with another account" in answer
    assert "ada" not in answer
    ask(path, verb="unlink")
    assert ask(path, verb="link", code=second)["username"] == "Other#1"


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"\0\0\0", None),
        (b"", None),
        (framed(b'{"verb": "whose"}')[:-1], None),
        (framed(b""), "cannot be read"),
        (framed(b"[]"), "cannot be read"),
        (framed(b"[" * 1000), "cannot be read"),
        (framed(b"\xff\xfe"), "cannot be read"),
        (framed(b"{}"), "no such request"),
        (framed(b'{"verb": ["whose"]}'), "no such request"),
        (framed(b'{"verb": "whose"}'), "not valid"),
        (framed(b'{"verb": "whose", "code": 7}'), "not valid"),
        (framed(b'{"verb": "whose"}' + b" " * 2000), "too long"),
        (b"\xff\xff\xff\xff", "too long"),
        (b'{"verb": "whose"}\n', "too long"),
    ],
)
def test_what_is_not_a_request_is_refused_and_the_next_is_served(
    world: World, path: Path, sent: bytes, why: str | None
) -> None:
    answer = say(path, sent)
    assert (answer is None) is (why is None)
    assert why is None or why in answer["refused"]
    assert ask(path, verb="whose", code=connect(world))["username"] == USER


def test_a_silent_connection_is_closed_and_delays_no_other(world: World, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "MESSAGE_SECONDS", 0.3)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(2 * daemon.CONNECTIONS)]
    for each in silent:
        each.connect(str(path))
    assert ask(path, verb="whose", code=connect(world))["username"] == USER
    said = []
    for each in silent:
        with each:
            said.append(ipc.receive(each, 1024, within=10)[0]["refused"])
    assert set(said) == {"The request was not understood: the message took too long.", "One at a time."}


# -- giving it up -----------------------------------------------------------------------------------------------


def test_a_person_gives_the_connection_up_on_the_cluster(world: World, path: Path) -> None:
    ask(path, verb="link", code=connect(world))
    assert typed(path, "unlink") == (0, f"{USER} is not connected with ada any more.\n")
    with pytest.raises(Forbidden):
        world.provider.mapping.identity(USER, None)
    assert world.provider.people.history()[-1].who == "ada"
    status, text = typed(path, "unlink")
    assert status == 1
    assert "not connected" in text


@pytest.mark.parametrize("era", ["2022"], scope="session")
def test_a_person_gives_the_connection_up_at_ucloud(world: World, path: Path) -> None:
    assert ERAS["2022"].has_unlinked
    ask(path, verb="link", code=connect(world))
    world.core.unlink(USER)
    assert world.provider.people.listed() == []
    assert world.provider.people.history()[-1].who == "UCloud"
    world.core.unlink(USER)


def test_unlinking_needs_no_fit_account(world: World, path: Path) -> None:
    world.provider.people.add([UserLink(USER, "locked", LOCKED, world.clock(), "root")])
    assert ask(path, LOCKED, verb="unlink")["usernames"] == [USER]


def test_an_account_made_anew_is_not_the_one_that_was_connected(world: World, path: Path) -> None:
    world.provider.people.add([UserLink(USER, "ada", 63000, world.clock(), "root")])
    assert "refused" in ask(path, verb="unlink")
    assert "connected with another account" in ask(path, verb="link", code=connect(world))["refused"]
    assert world.provider.people.of(USER) is not None
