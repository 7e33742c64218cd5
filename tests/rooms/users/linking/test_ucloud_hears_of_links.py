"""Every connection is reported to UCloud once and soon, whatever fails on the way."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.rooms.users.linking.people import ADA, APPROVE, USER, ask, connect, linked, typed
from tests.sandbox.core.exchanges import Exchange
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.ucloud.eras import ERAS
from ucloud_slurm.web.linking import CONNECTED
from ucloud_slurm.worker.run import Result


@pytest.fixture
def told(world: World) -> list[tuple[str, str]]:
    """What UCloud was told with success: which call, and of whom."""
    calls: list[tuple[str, str]] = []

    def note(phase: str, each: Exchange) -> None:
        call = each.call.rpartition(".")[2].removesuffix("Connection")
        if phase == "response" and each.delivered and each.status == 200 and call in ("approve", "clear"):
            calls.append((call, each.request["username"]))

    world.core.on_exchange(note)
    return calls


def add(world: World, *, named: bool = True) -> None:
    """An administrator connects a user, whom UCloud has named before or not."""
    if named:
        world.provider.link_states.disconnected(USER, world.clock())
    world.provider.people.add([UserLink(USER, "ada", ADA, world.clock(), "root")])


def test_while_ucloud_does_not_answer_the_link_counts_and_is_reported_once_later(
    world: World, path: Path, told: list[Any]
) -> None:
    browser = connect(world)
    code = browser.code()
    world.core.faults.outage(True)
    with browser.answering():
        status, text = typed(path, "link", "--yes", keys=f"{code}\n")
    assert (status, "is informed soon" in text) == (0, True)
    assert world.provider.people.of(USER) is not None
    assert world.work(1) is Result.NOT_ALL
    assert USER not in world.core.connected
    world.core.faults.outage(False)
    for _ in range(3):
        world.work(20)
    assert USER in world.core.connected
    assert [each for each in told if each[0] == "approve"] == [("approve", USER)]


def test_a_connection_that_was_reported_at_once_is_not_reported_again(world: World, path: Path, told: list[Any]) -> None:
    assert linked(world, path)["reported"] is True
    world.work(200)
    world.work(200)
    assert told == [("approve", USER)]


def test_one_process_reports_a_connection_and_another_takes_over_when_it_died(world: World, told: list[Any]) -> None:
    add(world)
    assert world.provider.link_states.claim(USER, world.clock()) is not None
    assert world.work(1) is Result.DONE
    assert told == []
    world.work(120)
    assert told[-1] == ("approve", USER)


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_what_an_unanswered_call_may_have_done_is_taken_back_before_it_is_made_again(
    world: World, told: list[Any], era: str
) -> None:
    add(world)
    world.core.faults.drop_answer(APPROVE)
    assert world.work(1) is Result.NOT_ALL
    assert USER in world.core.connected, "UCloud had heard it"
    assert world.work(1) is Result.DONE
    clear = [("clear", USER)] if ERAS[era].has_clear_connection else []
    assert told == [*clear, *clear, ("approve", USER)]


def test_no_user_is_named_to_ucloud_that_it_has_not_named(world: World, told: list[Any]) -> None:
    add(world, named=False)
    assert world.work(1) is Result.DONE
    assert told == []
    browser = connect(world)
    assert browser.secret == CONNECTED, "who is connected here needs no code"
    assert browser.look().status_code == 200
    assert world.work(1) is Result.DONE
    assert told == [("approve", USER)]
    assert USER in world.core.connected


def test_a_job_names_its_owner(world: World, told: list[Any]) -> None:
    add(world, named=False)
    world.submit(owner=USER)
    world.work(1)
    assert told == [("approve", USER)]


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
@pytest.mark.parametrize("way", ["unlink", "remove"])
def test_the_end_of_a_connection_is_reported_where_ucloud_has_a_call_for_it(
    world: World, path: Path, told: list[Any], era: str, way: str
) -> None:
    linked(world, path)
    if way == "unlink":
        ask(path, verb="unlink")
    else:
        world.provider.people.remove(USER, "root", world.clock())
    assert world.work(1) is Result.DONE
    world.work(200)
    has = ERAS[era].has_clear_connection
    assert (USER in world.core.connected) is not has
    assert told == ([("clear", USER), ("approve", USER), ("clear", USER)] if has else [("approve", USER)])


@pytest.mark.parametrize("era", ["2022"], scope="session")
def test_the_end_of_a_connection_at_ucloud_is_not_reported_to_it(world: World, path: Path, told: list[Any]) -> None:
    linked(world, path)
    world.core.unlink(USER)
    world.work(200)
    assert told == [("clear", USER), ("approve", USER)]
    assert linked(world, path)["reported"] is True
    assert told == [("clear", USER), ("approve", USER)] * 2


def test_what_ucloud_refuses_for_good_is_written_down_and_not_repeated_until_the_user_connects_again(
    world: World, told: list[Any]
) -> None:
    add(world)
    world.core.faults.answer(APPROVE, 400, {"why": "no such user"})
    assert world.work(1) is Result.DONE
    assert world.work(200) is Result.DONE
    assert told == []
    assert "no such user" in world.provider.people.history()[-1].what
    assert str(world.provider.link_states.of(USER)) == "refused: no such user"
    connect(world)
    assert world.work(1) is Result.DONE
    assert told == [("approve", USER)]
    assert str(world.provider.link_states.of(USER)) == "connected"


@pytest.mark.parametrize(("status", "body"), [(404, None), (403, {"why": "no"})])
def test_a_refusal_that_is_not_about_the_person_is_tried_again(world: World, told: list[Any], status: int, body: Any) -> None:
    add(world)
    world.core.faults.answer(APPROVE, status, body)
    assert world.work(1) is Result.NOT_ALL
    assert world.work(1) is Result.DONE
    assert told[-1] == ("approve", USER)


@pytest.mark.parametrize("body", [{"why": "Forbidden"}, None])
@pytest.mark.parametrize("era", ["today"], scope="session")
def test_an_access_token_that_is_not_taken_says_nothing_about_the_person(world: World, told: list[Any], body: Any) -> None:
    connect(world)
    add(world, named=False)
    for call in (APPROVE, "providers.resources.checkExistence"):
        world.core.faults.answer(call, 403, body, times=8)
    assert world.work(1) is Result.NOT_ALL
    world.core.faults.clear()
    assert world.work(1) is Result.DONE
    assert told[-1] == ("approve", USER)


def test_a_user_who_connects_again_is_reported_again(world: World, path: Path, told: list[Any]) -> None:
    linked(world, path)
    assert connect(world).secret == CONNECTED
    assert world.work(10) is Result.DONE
    assert told == [("approve", USER)] * 2
    assert len(world.provider.people.listed()) == 1
