"""Who asked for a long change, and what its drives are, counts when it is begun: it may have waited for long."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.drives import ADA, BOB, UIDS
from tests.support.file_world import FileWorld
from ucloud_slurm.errors import Problem
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.store.tasks import Task
from ucloud_slurm.transfer.tasks import LEASE_SECONDS, TaskRunner
from ucloud_slurm.ucloud.tasks import TaskState
from ucloud_slurm.users.mapping import IdentityUnavailableError, Table

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")


@pytest.fixture
def task(place: FileWorld) -> None:
    """Ada has asked for a copy, which has not begun."""
    (place.root / "a").write_text("text")
    place.world.core.files.copy(ADA, (place.at("a"), place.at("b")))


def done(place: FileWorld) -> Task:
    assert TaskRunner(place.world.provider).run_once() == 1
    task = place.world.provider.tasks.of(1)
    assert task is not None
    return task


def set_rule(place: FileWorld, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    rule = replace(place.world.provider.config.drives[0], **changes) if changes else None
    monkeypatch.setattr(type(place.world.provider.config), "drive", lambda _config, _name: rule)


@pytest.mark.usefixtures("task")
def test_what_waits_is_done_where_nothing_has_changed(place: FileWorld) -> None:
    assert done(place).state is TaskState.SUCCESS
    assert place.names() == ["a", "b"]


@pytest.mark.usefixtures("task")
def test_what_a_user_asked_for_is_not_done_once_they_are_disconnected(place: FileWorld) -> None:
    place.world.provider.people.remove(ADA, "root", 0.0)
    task = done(place)
    assert (task.state, "is not connected" in str(task.progress)) == (TaskState.FAILURE, True)
    assert place.names() == ["a"]


@pytest.mark.usefixtures("task")
def test_what_a_user_asked_for_is_not_done_with_an_account_that_is_not_theirs_any_more(place: FileWorld) -> None:
    people = place.world.provider.people
    for name in (ADA, BOB):
        people.remove(name, "root", 0.0)
    people.add([UserLink(ADA, "bob", UIDS["bob"], 0.0, "root")])
    task = done(place)
    assert (task.state, "has changed" in str(task.progress)) == (TaskState.FAILURE, True)
    assert place.names() == ["a"]


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize(
    ("changes", "why"),
    [({}, "does not offer this drive"), ({"read_only": True}, "read-only"), ({"local": "/x"}, "has changed")],
)
def test_nothing_is_done_in_a_drive_that_the_site_has_taken_away_or_changed(
    place: FileWorld, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], why: str
) -> None:
    set_rule(place, monkeypatch, **changes)
    task = done(place)
    assert (task.state, why in str(task.progress)) == (TaskState.FAILURE, True)
    assert place.names() == ["a"]


@pytest.mark.usefixtures("task")
def test_a_task_waits_while_nobody_can_say_who_its_user_is(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object) -> Problem:
        raise IdentityUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(Table, "identity", fails)
        assert done(place).ended_at is None
    place.world.clock.advance(LEASE_SECONDS)
    assert done(place).state is TaskState.SUCCESS
    assert place.names() == ["a", "b"]
