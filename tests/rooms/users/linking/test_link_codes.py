"""Linking by proof: the kernel identifies the account that has the code, and the browser decides, once, in ten minutes."""

import itertools
import logging
import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import World
from tests.rooms.users.linking.people import (
    ADA,
    BASE,
    BOB,
    INVALID,
    LOCKED,
    NAMES,
    OUTSIDER,
    USER,
    ask,
    at_a_terminal,
    connect,
    framed,
    linked,
    say,
    typed,
    typing,
)
from tests.sandbox.browser import CONNECT, NEW_CODE, NOT_MINE, Browser
from tests.sandbox.core import ERAS, CoreError
from tests.sandbox.processes import wait_until
from ucloud_slurm.errors import Forbidden, StorageFullError
from ucloud_slurm.store.codes import Codes, code_text
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.system import ipc
from ucloud_slurm.users import linking as daemon

# -- the whole way ----------------------------------------------------------------------------------------------


@pytest.mark.every_era
def test_who_types_the_code_and_says_yes_in_the_browser_is_connected_and_can_start_jobs(world: World, path: Path) -> None:
    with pytest.raises(CoreError, match="under Providers, choose this provider and Connect"):
        world.core.submit(("sleeper", "1.0.0"), "example-compute-1", owner=USER)
    browser = connect(world)
    code = browser.code()
    with browser.answering():
        status, text = typed(path, "link", keys=f"{code}\ny\n")
    assert (status, text) == (
        0,
        f"This lets the UCloud user {USER} start jobs on this cluster as you (ada). Go on? [y/N]: "
        "Now answer the page of UCloud in your browser: it asks whether ada is your account.\n"
        f"{USER} is connected with ada.\n",
    )
    assert USER in world.core.connected
    link = world.provider.people.of(USER)
    assert link is not None
    assert (link.local_user, link.uid, link.added_by) == ("ada", ADA, "ada")
    job = world.submit(owner=USER)
    assert world.row(job).local_user == "ada"


def test_a_code_is_taken_in_any_case_with_dashes_or_without(world: World, path: Path) -> None:
    code = connect(world).code()
    for text in (code, code.lower(), code.replace("-", ""), f" {code.replace('-', ' ')} "):
        assert ask(path, verb="whose", code=text) == {"username": USER, "account": "ada", "before": []}


def test_without_a_confirmation_nothing_changes(world: World, path: Path) -> None:
    browser = connect(world)
    for keys in ("n\n", "\n"):
        status, text = typed(path, "link", keys=f"{browser.code()}\n{keys}")
        assert status == 1
        assert "Nothing was changed." in text
    assert world.provider.people.listed() == []
    assert NOT_MINE not in browser.look().text


def test_yes_skips_the_question_of_the_command_and_never_that_of_the_browser(world: World, path: Path) -> None:
    browser = connect(world)
    with browser.answering(NOT_MINE):
        status, text = typed(path, "link", "--yes", keys=f"{browser.code()}\n")
    assert (status, "has said that this is not their account" in text) == (1, True)
    assert world.provider.people.listed() == []


def test_a_code_as_an_argument_works_with_a_warning(world: World, path: Path) -> None:
    browser = connect(world)
    with browser.answering():
        status, text = typed(path, "link", "--yes", browser.code())
    assert (status, "other people on this host can read the code" in text) == (0, True)
    assert world.provider.people.of(USER) is not None


def test_at_a_terminal_the_code_is_asked_for_and_not_shown(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    with browser.answering():
        shown = at_a_terminal(path, "link", "--yes", keys=code)
    assert f"{USER} is connected with ada." in shown
    assert code not in shown


@pytest.mark.parametrize("keys", ["", "\n", "  \n", "\udcff\n"])
def test_what_is_no_code_is_refused_in_a_sentence(path: Path, keys: str) -> None:
    status, text = typed(path, "link", keys=keys)
    assert status == 1
    assert text == "ucloud-slurm: No code was typed.\n"


def test_a_name_of_ucloud_does_nothing_to_a_terminal(world: World, path: Path) -> None:
    browser = Browser(
        f"{world.url}{BASE}/link/{world.provider.codes.new(chr(7).join(('Ada', chr(27) + '[2J#1')), world.clock())}"
    )
    with browser.answering():
        status, text = typed(path, "link", "--yes", keys=f"{browser.code()}\n")
    assert (status, text.splitlines()[-1]) == (0, "Ada [2J#1 is connected with ada.")


def test_without_the_daemon_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    status, text = typed(tmp_path / "none", "link", keys="x\n")
    assert status == 1
    assert "Type this on the login node of the cluster" in text
    assert "Traceback" not in text


# -- the browser decides ----------------------------------------------------------------------------------------


def test_nothing_is_connected_before_the_browser_has_said_yes(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    assert ask(path, verb="claim", code=code)["account"] == "ada"
    assert ask(path, verb="outcome", code=code) == {"outcome": "waiting"}
    assert world.provider.people.listed() == []
    page = browser.look().text
    assert USER in page
    assert "<strong>ada</strong>" in page
    assert os.uname().nodename in page
    browser.press(CONNECT)
    assert ask(path, verb="outcome", code=code) == {"outcome": "connected", "reported": True}
    assert "is connected with ada" in browser.look().text


def test_who_reads_the_code_of_another_is_not_connected_with_them(
    world: World, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    browser = connect(world)
    stolen = browser.code()
    ask(path, BOB, verb="claim", code=stolen)
    assert "<strong>bob-b</strong>" in browser.look().text
    with caplog.at_level(logging.WARNING):
        browser.press(NOT_MINE)
    assert f"{USER} has refused to be connected with bob-b" in caplog.text
    assert "refused to be connected with bob-b" in world.provider.people.history()[-1].what
    assert "this is not their account" in ask(path, BOB, verb="outcome", code=stolen)["refused"]
    assert "not valid" in ask(path, BOB, verb="claim", code=stolen)["refused"]
    new = browser.code()
    assert new != stolen
    ask(path, verb="claim", code=new)
    browser.press(CONNECT)
    link = world.provider.people.of(USER)
    assert link is not None
    assert link.local_user == "ada"


def test_a_second_account_makes_the_code_invalid_for_both_and_both_hear_why(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    ask(path, BOB, verb="claim", code=code)
    asked = browser.look().text
    assert "in another account as well" in ask(path, verb="claim", code=code)["refused"]
    assert "in another account as well" in ask(path, BOB, verb="outcome", code=code)["refused"]
    assert browser.press(CONNECT, asked).status_code == 409
    page = browser.look().text
    assert "bob-b" in page
    assert "ada" in page
    assert world.provider.people.listed() == []
    browser.press(NEW_CODE)
    assert browser.code() != code


def test_yes_counts_only_for_the_account_that_was_shown(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    ask(path, verb="claim", code=code)
    asked = browser.look().text
    assert ask(path, verb="release", code=code) == {"outcome": "released"}
    ask(path, BOB, verb="claim", code=code)
    answer = browser.press(CONNECT, asked)
    assert (answer.status_code, "<strong>bob-b</strong>" in answer.text) == (409, True)
    assert world.provider.people.listed() == []


def test_who_gives_up_waiting_gives_the_code_back(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    with typing(path, "link", "--yes", keys=f"{code}\n") as process:
        wait_until("the page asks", lambda: NOT_MINE in browser.look().text, seconds=60)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert text.endswith("Given up. Nothing was changed.\n")
    assert browser.code() == code


def test_who_waits_goes_on_while_the_daemon_cannot_say_what_came_of_it(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = connect(world)
    failures = itertools.count()
    claimed = Codes.claimed

    def failing(self: Codes, *arguments: Any) -> Any:
        if next(failures) < 2:
            raise StorageFullError("the disk is full")
        return claimed(self, *arguments)

    monkeypatch.setattr(Codes, "claimed", failing)
    with browser.answering():
        status, text = typed(path, "link", "--yes", keys=f"{browser.code()}\n")
    assert (status, text.splitlines()[-1]) == (0, f"{USER} is connected with ada.")
    assert next(failures) > 2


def test_who_is_not_answered_in_time_is_not_connected(world: World, path: Path) -> None:
    browser = connect(world)
    world.clock.advance(598)
    status, text = typed(path, "link", "--yes", keys=f"{browser.code()}\n")
    assert (status, "The browser has not answered in time" in text) == (1, True)
    assert NOT_MINE not in browser.look().text


def test_an_outcome_is_only_for_the_account_that_has_typed_the_code(world: World, path: Path) -> None:
    code = connect(world).code()
    ask(path, verb="claim", code=code)
    for verb in ("outcome", "release"):
        assert "not valid" in ask(path, BOB, verb=verb, code=code)["refused"]
    assert ask(path, verb="outcome", code=code) == {"outcome": "waiting"}


def test_many_who_wait_hold_no_thread_of_the_daemon(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(typing(path, "link", "--yes", keys=f"{code}\n")) for _ in range(2 * daemon.CONNECTIONS_PER_USER)
        ]
        browser.wait_and_press()
        for process in waiting:
            text, _ = process.communicate(timeout=60)
            assert (process.returncode, text.splitlines()[-1]) in (
                (0, f"{USER} is connected with ada."),
                (1, "ucloud-slurm: One at a time."),
                (1, f"ucloud-slurm: {INVALID}"),
                (1, "ucloud-slurm: This code has been used."),
            )
    assert world.provider.people.of(USER) is not None


# -- connected anew ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("uid", "user"), [(BOB, USER), (ADA, "Other#1")])
def test_who_is_connected_with_somebody_else_than_before_is_noticed_everywhere(
    world: World, path: Path, caplog: pytest.LogCaptureFixture, uid: int, user: str
) -> None:
    linked(world, path)
    ask(path, verb="unlink")
    before = f"{USER} was connected with ada until {time.strftime('%Y-%m-%d', time.gmtime(world.clock()))}."
    browser = connect(world, user)
    code = browser.code()
    assert ask(path, uid, verb="whose", code=code)["before"] == [before]
    assert ask(path, uid, verb="claim", code=code)["before"] == [before]
    assert before in browser.look().text
    with caplog.at_level(logging.WARNING):
        browser.press(CONNECT)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line == f"{user} is connected with {NAMES[uid]}; {before}"
    assert world.provider.people.history()[-1].what == f"connected {user} with {NAMES[uid]}; {before}"


def test_who_is_connected_with_the_same_account_again_is_nothing_new(world: World, path: Path) -> None:
    linked(world, path)
    ask(path, verb="unlink")
    assert ask(path, verb="whose", code=connect(world).code())["before"] == []


# -- codes ------------------------------------------------------------------------------------------------------


def test_a_code_works_once(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    ask(path, verb="claim", code=code)
    asked = browser.look().text
    for _ in range(2):
        assert "is connected with ada" in browser.press(CONNECT, asked).text
    world.provider.people.remove(USER, "test", world.clock())
    for verb in ("whose", "claim"):
        assert "not valid" in ask(path, verb=verb, code=code)["refused"]
    assert browser.press(CONNECT, asked).status_code == 404
    assert world.provider.people.listed() == []


def test_a_code_works_for_ten_minutes(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    world.clock.advance(599)
    assert ask(path, verb="claim", code=code)["seconds"] == 1
    asked = browser.look().text
    world.clock.advance(1)
    assert "not valid" in ask(path, verb="claim", code=code)["refused"]
    assert browser.press(CONNECT, asked).status_code == 404
    assert browser.look().status_code == 404
    assert world.provider.people.listed() == []


def test_only_the_newest_code_of_a_user_works(world: World, path: Path) -> None:
    first = connect(world)
    old, other, new = first.code(), connect(world, "Bob#1").code(), connect(world).code()
    assert "not valid" in ask(path, verb="claim", code=old)["refused"]
    assert first.look().status_code == 404
    assert ask(path, verb="whose", code=new)["username"] == USER
    assert ask(path, verb="whose", code=other)["username"] == "Bob#1"


@pytest.mark.parametrize("contested", [True, False])
def test_an_earlier_page_is_over_whatever_became_of_its_code(world: World, path: Path, contested: bool) -> None:
    first = connect(world)
    code = first.code()
    ask(path, verb="claim", code=code)
    if contested:
        ask(path, BOB, verb="claim", code=code)
    page = first.look().text
    if not contested:
        first.press(NOT_MINE)
    second = connect(world)
    new = second.code()
    assert first.look().status_code == 404
    assert first.press(NEW_CODE if contested else CONNECT, page).status_code == 404
    assert first.look().status_code == 404
    assert second.code() == new


def test_the_database_holds_neither_the_code_nor_the_secret_of_its_page(world: World, path: Path) -> None:
    browser = connect(world)
    code = browser.code()
    ask(path, verb="claim", code=code)
    text = str([dict(row) for row in world.provider.store.rows("select * from codes")])
    for secret in (code, code.replace("-", ""), browser.secret):
        assert secret not in text


def test_the_code_does_not_lead_to_the_page(world: World) -> None:
    browser = connect(world)
    for code in (browser.code(), browser.code().replace("-", "")):
        other = Browser(f"{browser.address.rpartition('/')[0]}/{code}")
        assert other.look().status_code == 404
        assert requests.post(other.address, {"answer": "connect", "shown": f"1-{ADA}"}, timeout=5).status_code == 404


def test_invalid_codes_are_limited_only_for_the_account_that_tries_them(world: World, path: Path) -> None:
    code = connect(world).code()
    verbs = itertools.cycle(("whose", "claim", "outcome", "release"))
    for _ in range(daemon.INVALID_CODES):
        assert "not valid" in ask(path, verb=next(verbs), code="2222-2222-2222")["refused"]
    assert "Too many" in ask(path, verb="claim", code=code)["refused"]
    assert ask(path, BOB, verb="whose", code=code)["username"] == USER
    world.clock.advance(61)
    assert ask(path, verb="claim", code=code)["username"] == USER


# -- who calls --------------------------------------------------------------------------------------------------


def test_who_calls_is_what_the_kernel_says_whatever_the_message_claims(world: World, path: Path) -> None:
    browser = connect(world)
    claims = {"uid": ADA, "user": "ada", "account": "ada", "local_user": "ada", "host": "elsewhere"}
    assert ask(path, BOB, verb="claim", code=browser.code(), **claims)["account"] == "bob-b"
    assert "elsewhere" not in browser.look().text
    browser.press(CONNECT)
    link = world.provider.people.of(USER)
    assert link is not None
    assert (link.local_user, link.uid) == ("bob-b", BOB)
    assert "not connected" in ask(path, ADA, verb="unlink", username=USER, **claims)["refused"]
    assert world.provider.people.of(USER) == link


@pytest.mark.parametrize("uid", [0, LOCKED, OUTSIDER, 1, 64999])
@pytest.mark.parametrize("verb", ["whose", "claim"])
def test_accounts_that_jobs_may_not_run_as_are_not_connected_and_learn_nothing(
    world: World, path: Path, uid: int, verb: str
) -> None:
    code = connect(world).code()
    answer = ask(path, uid, verb=verb, code=code)
    assert list(answer) == ["refused"]
    assert USER not in answer["refused"]
    assert world.provider.people.listed() == []
    assert ask(path, verb="whose", code=code)["username"] == USER


def test_root_is_refused_with_the_advice_to_use_an_own_account(path: Path) -> None:
    assert typed(path, "link", uid=0, keys="x\n") == (
        1,
        "ucloud-slurm: root cannot be connected with a user of UCloud. Type this in your own account.\n",
    )
    assert "own account" in ask(path, 0, verb="unlink")["refused"]


def test_an_account_and_a_user_are_connected_with_one_other_and_the_code_is_kept(world: World, path: Path) -> None:
    linked(world, path)
    second = connect(world, "Other#1").code()
    assert "Type ucloud-slurm unlink first" in ask(path, verb="claim", code=second)["refused"]
    again = code_text(world.provider.codes.new(USER, world.clock()), 1)
    answer = ask(path, BOB, verb="claim", code=again)["refused"]
    assert "connected with another account" in answer
    assert "ada" not in answer
    ask(path, verb="unlink")
    assert ask(path, verb="claim", code=second)["username"] == "Other#1"


def test_an_account_that_got_its_connection_while_the_browser_was_asked_gets_no_second_one(world: World, path: Path) -> None:
    browser = connect(world, "Other#1")
    ask(path, verb="claim", code=browser.code())
    world.provider.people.add([UserLink(USER, "ada", ADA, world.clock(), "root")])
    answer = browser.press(CONNECT)
    assert (answer.status_code, USER in answer.text) == (409, False)
    assert [link.username for link in world.provider.people.listed()] == [USER]


@pytest.mark.parametrize("most", [2])
def test_a_site_may_allow_more_connections_of_an_account(world: World, path: Path, most: int) -> None:
    linked(world, path)
    assert linked(world, path, user="Other#1")["outcome"] == "connected"
    assert "unlink first" in ask(path, verb="claim", code=connect(world, "Third#1").code())["refused"]
    assert len(world.provider.people.listed()) == most


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
    assert ask(path, verb="whose", code=connect(world).code())["username"] == USER


def test_a_silent_connection_is_closed_and_delays_no_other(world: World, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "MESSAGE_SECONDS", 0.3)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(2 * daemon.CONNECTIONS)]
    for each in silent:
        each.connect(str(path))
    assert ask(path, verb="whose", code=connect(world).code())["username"] == USER
    said = []
    for each in silent:
        with each:
            said.append(ipc.receive(each, 1024, within=10)[0]["refused"])
    assert set(said) == {"The request was not understood: the message took too long.", "One at a time."}


# -- giving it up -----------------------------------------------------------------------------------------------


def test_a_person_gives_the_connection_up_on_the_cluster(world: World, path: Path) -> None:
    linked(world, path)
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
    linked(world, path)
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
    assert "connected with another account" in ask(path, verb="claim", code=connect(world).code())["refused"]
    assert world.provider.people.of(USER) is not None
