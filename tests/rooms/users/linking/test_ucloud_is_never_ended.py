"""Nothing that happens to connections here ends UCloud's process, which would end it for all providers.

That it lives is asserted at the end of each test, by the fixture ``core``.
"""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, World, configuration
from tests.rooms.users.linking.people import ADA, APPROVE, BASE, USER, connect
from tests.sandbox.core import SimulatedCore
from tests.support.database import mark_restored
from tests.support.model import Model
from ucloud_slurm.errors import CoreUnavailableError
from ucloud_slurm.provider import linking
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.linking import report_connection
from ucloud_slurm.store.people import IN_WORK_SECONDS, UNLINK_SECONDS, UserLink
from ucloud_slurm.system.filelock import CONNECTIONS, exclusive_lock
from ucloud_slurm.worker.run import run_once

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")


def calls(core: SimulatedCore) -> list[str]:
    """What UCloud was asked about connections, in order."""
    names = [each.call.rpartition(".")[2] for each in core.exchanges if each.direction == "provider->core"]
    return [name.removesuffix("Connection") for name in names if name.endswith("Connection")]


@pytest.fixture
def other(core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path) -> Iterator[Provider]:
    """The same provider with a new database."""
    (tmp_path / "new").mkdir()
    config = configuration(core, tmp_path / "new", users={"mapping": "table"}, provider={"url": "https://hpc.example.org"})
    provider = Provider.open(config, now=clock, scheduler=model)
    yield provider
    provider.close()


@pytest.fixture(autouse=True)
def user(core: SimulatedCore) -> None:
    """UCloud has the user, as everybody whom it names."""
    core.directory.add_user(USER)


def link(provider: Provider, clock: Clock) -> None:
    """An administrator links a user whom UCloud has named."""
    provider.link_states.disconnected(USER, clock())
    provider.people.add([UserLink(USER, "ada", ADA, clock(), "root")])


def connected(world: World) -> None:
    """The user is connected, here and at UCloud."""
    link(world.provider, world.clock)
    world.work(1)
    assert USER in world.core.connected


def test_with_a_new_database_a_user_whom_ucloud_has_as_connected_is_connected_again(
    world: World, other: Provider, clock: Clock
) -> None:
    connected(world)
    link(other, clock)
    run_once(other)
    assert calls(world.core) == ["clear", "approve"] * 2
    assert USER in world.core.connected
    assert str(other.link_states.of(USER)) == "connected"


@pytest.mark.parametrize("known", [False, None])
def test_with_yesterdays_database_a_user_whom_ucloud_has_as_connected_is_connected_again(
    world: World, known: bool | None
) -> None:
    connected(world)
    world.provider.store.change("update connections set known = ?", [known])
    world.work(300)
    assert calls(world.core)[-2:] == ["clear", "approve"]
    assert USER in world.core.connected


def test_from_an_older_database_no_connection_is_reported_before_it_was_reconciled(world: World) -> None:
    link(world.provider, world.clock)
    mark_restored(world.provider.store, world.clock())
    with pytest.raises(CoreUnavailableError, match="reconcile"):
        report_connection(world.provider, USER)
    assert calls(world.core) == []
    world.work(1)
    world.work(1)
    assert calls(world.core) == ["clear", "approve"]


def test_a_connection_is_reported_by_one_process_at_a_time(world: World) -> None:
    link(world.provider, world.clock)
    with exclusive_lock(world.provider.store.path, CONNECTIONS) as mine:
        assert mine
        reporter = threading.Thread(target=report_connection, args=(world.provider, USER))
        reporter.start()
        reporter.join(0.05)
        assert calls(world.core) == []
    reporter.join()
    assert calls(world.core) == ["clear", "approve"]


def test_a_process_that_stands_still_between_the_two_calls_keeps_others_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(world.provider, world.clock)
    monkeypatch.setattr(linking, "LOCK_SECONDS", 0.1)
    seen: list[list[str]] = []

    def stand_still(_: Any) -> None:
        world.clock.advance(10 * IN_WORK_SECONDS)  # whatever a claim in the database allows
        other = threading.Thread(target=report_connection, args=(world.provider, USER))
        other.start()
        other.join()
        seen.append(calls(world.core))

    stop = world.core.before_answer("providers.im.control.clearConnection", stand_still)
    report_connection(world.provider, USER)
    stop()
    assert seen == [["clear"]]
    assert calls(world.core) == ["clear", "approve"]


def test_an_approval_that_may_still_be_in_work_is_not_followed_by_another(world: World) -> None:
    link(world.provider, world.clock)
    world.core.faults.late(APPROVE)
    world.work(1)
    assert calls(world.core) == ["clear", "approve"]
    connect(world)  # the user tries again meanwhile
    for _ in range(3):
        world.work(20)
    assert calls(world.core) == ["clear", "approve"]
    world.core.catch_up()
    assert USER in world.core.connected
    world.work(IN_WORK_SECONDS)
    assert calls(world.core) == ["clear", "approve"] * 2
    assert USER in world.core.connected


def test_a_process_that_died_after_it_sent_an_approval_is_not_followed_by_another(world: World) -> None:
    link(world.provider, world.clock)
    assert world.provider.link_states.claim(USER, world.clock()) is not None  # and it dies
    connect(world)
    world.work(1)
    assert calls(world.core) == []
    world.work(IN_WORK_SECONDS)
    assert calls(world.core) == ["clear", "approve"]


def test_a_connection_that_ucloud_may_make_again_itself_is_not_made_here(world: World) -> None:
    """UCloud makes a connection again when the provider does not say in time that it has ended."""
    connected(world)
    before = calls(world.core)
    world.core.call("POST", f"{BASE}/integration/unlinked", {"username": USER})
    link(world.provider, world.clock)
    report_connection(world.provider, USER)
    world.work(1)
    assert calls(world.core) == before
    world.work(UNLINK_SECONDS)
    assert calls(world.core) == [*before, "clear", "approve"]


def test_a_connection_that_ucloud_ends_between_the_two_calls_is_not_made_for_a_while(world: World) -> None:
    link(world.provider, world.clock)

    def unlink(_: Any) -> None:
        world.core.call("POST", f"{BASE}/integration/unlinked", {"username": USER})
        world.provider.people.add([UserLink(USER, "ada", ADA, world.clock(), "root")])  # and the user is linked at once

    stop = world.core.before_answer("providers.im.control.clearConnection", unlink)
    world.work(1)
    stop()
    assert calls(world.core) == ["clear"]
    world.work(1)
    assert calls(world.core) == ["clear"]
    world.work(UNLINK_SECONDS)
    assert calls(world.core) == ["clear"]
    world.work(IN_WORK_SECONDS)
    assert calls(world.core) == ["clear", "clear", "approve"]


def test_a_call_for_old_uclouds_in_front_of_todays_clears_all_the_same(world: World, tmp_path: Path) -> None:
    """ucloud.era says 2021 although UCloud is today's."""
    connected(world)
    settings = {"users": {"mapping": "table"}, "provider": {"url": "https://hpc.example.org"}}
    (tmp_path / "wrong").mkdir()
    config = configuration(world.core, tmp_path / "wrong", **settings)
    config = replace(config, ucloud=replace(config.ucloud, era="2021"))
    provider = Provider.open(config, now=world.clock, scheduler=world.model)
    link(provider, world.clock)
    report_connection(provider, USER)
    provider.close()
    assert calls(world.core) == ["clear", "approve"] * 2


def test_a_bare_404_for_the_clearing_is_followed_by_no_approval(world: World) -> None:
    link(world.provider, world.clock)
    world.core.directory.connect(USER)
    world.core.faults.answer("providers.im.control.clearConnection", 404)
    world.work(1)
    assert calls(world.core) == ["clear"]
    world.work(20)
    assert calls(world.core) == ["clear", "clear", "approve"]
