"""UCloud is told of everybody who is connected: once, soon, and whatever happens on the way."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import World
from tests.linking.people import ADA, APPROVE, USER, ask, connect, typed
from ucloud_slurm.store.people import Link
from ucloud_slurm.worker.one_pass import Result


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
