"""The program of somebody who is shown a form is started; no call waits for that, and nobody else's is."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.conftest import World
from tests.sandbox.processes import wait_until
from ucloud_slurm.errors import Forbidden
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.breaker import RUNNER, person
from ucloud_slurm.users.impersonation import RunnerClient, RunnerUnavailableError
from ucloud_slurm.users.script import MIN_ASK_SECONDS
from ucloud_slurm.web import calls, greeting
from ucloud_slurm.web.greeting import Greeter

PATIENCE = 30.0


class Mapped:
    """What the greeter sees of a provider whose users are mapped by adding an ``l``; nobody else is connected."""

    def __init__(self, world: World) -> None:
        self.woken: list[str] = []
        self.asked: list[str] = []
        self.hangs = threading.Event()
        self.hangs.set()
        self.world = world

    def identity(self, username: str, _project: str | None) -> Any:
        self.hangs.wait(PATIENCE)
        self.asked.append(username)
        if not username.endswith("#1"):
            raise Forbidden("not connected")
        return type("Identity", (), {"person": type("Person", (), {"user": username[:-2]})})


@pytest.fixture
def mapped(world: World, mocker: MockerFixture) -> Iterator[Mapped]:
    mapped = Mapped(world)
    mocker.patch.object(
        type(world.provider.mapping), "identity", lambda _self, name, project, _within=None: mapped.identity(name, project)
    )
    mocker.patch.object(Provider, "impersonation", lambda _self, user: RunnerClient(world.provider.store.path, user))
    mocker.patch.object(RunnerClient, "wake", lambda self: mapped.woken.append(self._user))
    yield mapped
    mapped.hangs.set()


def greeter(world: World) -> Greeter:
    made = Greeter(world.provider)
    made._maps = True
    return made


def done(greeter: Greeter) -> None:
    wait_until("it is done", lambda: greeter._waiting == 0, seconds=PATIENCE)


def test_a_persons_program_is_started_once_in_a_while(world: World, mapped: Mapped, mocker: MockerFixture) -> None:
    one = greeter(world)
    for name in ("ada#1", "ada#1", None, "bob#1", "ada#1"):
        one.greet(name)
    done(one)
    assert sorted(mapped.woken) == ["ada", "bob"]
    mocker.patch.object(greeting, "AGAIN_SECONDS", 0.0)
    two = greeter(world)
    for _ in range(2):
        two.greet("ada#1")
        done(two)
    assert sorted(mapped.woken) == ["ada", "ada", "ada", "bob"]


def test_nothing_is_started_for_who_is_not_connected_or_has_a_program_that_does_not_answer(
    world: World, mapped: Mapped
) -> None:
    world.provider.breaker.open(person("bob"), "no answer", world.clock())
    one = greeter(world)
    for name in ("eve", "bob#1"):
        one.greet(name)
    done(one)
    world.provider.breaker.open(RUNNER, "away", world.clock())
    one.greet("ada#1")
    done(one)
    assert (sorted(mapped.asked), mapped.woken) == (["ada#1", "bob#1", "eve"], [])


def test_a_sites_program_is_not_run_before_a_call_needs_its_answer(world: World, mapped: Mapped, mocker: MockerFixture) -> None:
    asked = mocker.spy(type(world.provider.mapping), "identity")
    one = greeter(world)
    one.greet("ada#1")
    done(one)
    assert [call.args[3] < MIN_ASK_SECONDS for call in asked.call_args_list] == [True]


def test_who_waits_is_so_many_and_nobody_waits_for_them(world: World, mapped: Mapped) -> None:
    mapped.hangs.clear()
    one = greeter(world)
    for number in range(greeting.MOST_WAITING + 10):
        one.greet(f"user{number}#1")
    assert one._waiting == greeting.MOST_WAITING
    mapped.hangs.set()
    done(one)
    assert len(mapped.woken) == greeting.MOST_WAITING
    for number in range(greeting.MOST_KNOWN):
        one._waiting = 0
        one.greet(f"other{number}")
    assert len(one._again) == greeting.MOST_KNOWN
    every = greeting.MOST_WAITING + greeting.MOST_KNOWN
    wait_until("nobody is left to the next test", lambda: len(mapped.asked) == every, seconds=PATIENCE)


def test_a_runner_that_is_away_fails_no_call(world: World, mapped: Mapped, mocker: MockerFixture) -> None:
    mocker.patch.object(RunnerClient, "wake", side_effect=RunnerUnavailableError("away"))
    one = greeter(world)
    one.greet("ada#1")
    done(one)
    assert mapped.asked == ["ada#1"]


def test_the_calls_that_show_a_form_are_calls(world: World, mocker: MockerFixture) -> None:
    greeted: list[str | None] = []
    mocker.patch.object(Greeter, "greet", lambda _self, name: greeted.append(name))
    declared = {f"calls.{each.verb} {each.path}".replace("/", " ") for each in calls.declare(world.provider).declared}
    assert declared >= calls.SHOWN
    path = f"/ucloud/{world.core.provider}/jobs/retrieveProducts"
    assert world.core.call("GET", path, user="ada#1")[0] == 200
    assert world.core.call("GET", path, user="ada#1", token="none")[0] == 401
    assert greeted == ["ada#1"], "only where the token is valid"
    assert calls.CREATE not in calls.SHOWN
