"""Somebody with several Slurm accounts chooses one in UCloud's form; nobody gets one that is not theirs."""

import pwd
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Serve, World, configuration
from tests.sandbox.core import CoreError, SimulatedCore
from tests.support.factories import application, job_data, text, word
from tests.support.model import Model
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.slurm_accounts import NAME
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.worker.run import run_once

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
CPU = {"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}
FORM = {"owner": {"createdBy": "user", "project": None}, "application": application(word("true"))}


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def world(
    core: SimulatedCore,
    clock: Clock,
    model: Model,
    tmp_path: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
) -> World:
    getpwnam = pwd.getpwnam
    ada = pwd.struct_passwd(("ada", "x", 54321, 54321, "", str(tmp_path), "/bin/bash"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: ada if name == "ada" else getpwnam(name))
    monkeypatch.setattr("ucloud_slurm.provider.context.own_account", lambda: "ada")
    config = configuration(core, tmp_path, **({"users": {"mapping": "table"}, "products": [CPU]} | settings))
    provider = Provider.open(config, now=clock, scheduler=model)
    provider.people.add([UserLink("user", "ada", 54321, 0.0, "root")])
    model.user, model.of_user = "ada", ("chemistry", "physics")
    return World(core, provider, model, clock, serve(provider))


def asked(world: World) -> list[str]:
    """The accounts that the form offers."""
    status, body = world.core.call("POST", "/ucloud/example/jobs/requestDynamicParameters", FORM)
    assert status == 200
    if not body["parameters"]:
        return []
    (choice,) = body["parameters"]
    assert (choice["type"], choice["name"], choice["optional"]) == ("enumeration", NAME, True)
    return [option["value"] for option in choice["options"]]


def start(world: World, account: str) -> str:
    return world.submit(parameters={"seconds": {"type": "integer", "value": 60}, NAME: text(account)})


def test_the_form_offers_the_accounts_of_a_person_and_the_job_gets_the_chosen_one(world: World) -> None:
    assert asked(world) == ["chemistry", "physics"]
    assert world.slurm(start(world, "physics")).submission.account == "physics"
    assert world.slurm(world.submit()).submission.account is None


def test_an_account_of_somebody_else_is_refused(world: World) -> None:
    data = job_data("7", app=application(word("true")), parameters={NAME: text("biology")})
    status, body = world.core.call("POST", "/ucloud/example/jobs", {"items": [data]})
    assert (status, body["why"]) == (400, "The Slurm account biology is not one of yours; choose another.")
    assert world.model.jobs == []


@pytest.mark.parametrize(
    "settings", [{"users": {"mapping": "table", "personal_account": "{user}"}}, {"products": [CPU | {"account": "site"}]}]
)
def test_where_the_site_decides_there_is_no_choice(world: World) -> None:
    assert asked(world) == []
    data = job_data("7", app=application(word("true")), parameters={NAME: text("physics")})
    assert world.core.call("POST", "/ucloud/example/jobs", {"items": [data]})[0] == 200
    assert world.slurm("7").submission.account in ("ada", "site")


def test_who_has_one_account_is_asked_nothing(world: World) -> None:
    world.model.of_user = ("physics",)
    assert asked(world) == []


def test_slurm_is_asked_once_in_a_while(world: World, clock: Clock) -> None:
    for _ in range(5):
        asked(world)
    assert world.model.counts["sacctmgr"] == 1
    clock.advance(301)
    asked(world)
    assert world.model.counts["sacctmgr"] == 2


def test_while_slurm_does_not_say_the_form_works_and_a_chosen_account_waits_for_it(world: World) -> None:
    world.core.directory.add_user("user")
    world.model.accounting = False
    assert asked(world) == []
    data = job_data("7", app=application(word("true")), parameters={NAME: text("biology")})
    assert world.core.call("POST", "/ucloud/example/jobs", {"items": [data]})[0] == 200
    run_once(world.provider)
    assert world.model.jobs == []
    world.model.accounting = True
    run_once(world.provider)
    assert world.row("7").refused_why == "The Slurm account biology is not one of yours; choose another."


def test_somebody_who_is_not_connected_sees_the_form_and_is_refused_at_the_start(world: World) -> None:
    world.provider.people.remove("user", "root", 1.0)
    assert asked(world) == []
    with pytest.raises(CoreError, match="not connected"):
        world.submit()
