"""Drives: registered once for whom UCloud has named, found again after the database was lost, and used by jobs."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Serve, World
from tests.sandbox.core import CoreDrive, CoreError, SimulatedCore
from tests.support.drives import ADA, BOB, EVE, HOME, accounts, drive_provider, name_project, name_users, project_drive, sync
from tests.support.factories import application, parameter, var
from tests.support.model import Model
from ucloud_slurm.bridge.drives import drive_path
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import resolve
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.users.mapping import Identity, IdentityUnavailableError, Table
from ucloud_slurm.worker import drives as worker_drives
from ucloud_slurm.worker.run import Result

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
LOOK_SECONDS = 60.0  # between two looks for those who have no drive
READER = application(var("data"), parameters=[parameter("data", "input_file")])


@pytest.fixture
def rules(tmp_path: Path) -> list[dict[str, Any]]:
    return [HOME, project_drive(tmp_path, read_only=True)]


@pytest.fixture
def world(
    core: SimulatedCore,
    clock: Clock,
    model: Model,
    tmp_path: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    rules: list[dict[str, Any]],
) -> World:
    accounts(tmp_path, monkeypatch)
    provider = drive_provider(core, clock, model, tmp_path, rules)
    return World(core, provider, model, clock, serve(provider))


def opened_again(world: World, tmp_path: Path, drives: list[dict[str, Any]]) -> World:
    """The provider after its database was lost."""
    world.provider.close()
    for path in tmp_path.glob("test.db*"):
        path.unlink()
    provider = drive_provider(world.core, world.clock, world.model, tmp_path, drives)
    return World(world.core, provider, world.model, world.clock, "")


def home(world: World, owner: str = ADA) -> CoreDrive:
    return world.core.drives.named(f"h-example/home/{owner}")


def titles(world: World, user: str, project: str | None = None) -> list[str]:
    return [each["specification"]["title"] for each in world.core.browse_drives(user, project)]


def test_everybody_connected_gets_a_drive_once_ucloud_has_named_them(world: World, caplog: pytest.LogCaptureFixture) -> None:
    sync(world)
    name_users(world, ADA, EVE)
    with caplog.at_level(logging.INFO):
        assert world.work() is Result.DONE
    assert f"drive {home(world).id} (home of Ada#1): registered" in caplog.messages
    assert titles(world, ADA) == ["Home"]
    assert [each.owner for each in world.core.drives.all()] == [ADA]  # Bob is not named yet, Eve is not connected
    name_users(world, BOB)
    world.work()
    assert titles(world, BOB) == ["Home"], "in the next pass"
    calls = len(world.core.exchanges)
    world.work(LOOK_SECONDS)
    assert not [each for each in world.core.exchanges[calls:] if "files.collections" in each.call]


def test_a_pass_with_all_drives_registered_writes_nothing(world: World) -> None:
    sync(world)
    name_users(world, ADA)
    world.work()
    world.work(LOOK_SECONDS)
    (before,) = world.provider.store.rows("select number from generation")
    world.work(LOOK_SECONDS)
    assert world.provider.store.rows("select number from generation") == [before]


def test_a_user_whom_ucloud_has_named_in_a_call_needs_no_channel(world: World) -> None:
    sync(world)
    world.core.directory.add_user(ADA)
    world.provider.link_states.named(ADA, world.clock())
    world.work()
    assert titles(world, ADA) == ["Home"]


def test_a_project_gets_a_drive_that_all_its_members_read(world: World) -> None:
    sync(world)
    name_project(world, "P", EVE, ADA)
    name_project(world, "Q", EVE)  # nobody of ours is in it
    world.work()
    (drive,) = [each for each in world.core.drives.all() if each.project]
    assert (drive.project, drive.provider_generated_id) == ("P", "p-example/project/P")
    assert world.core.drives.permissions(drive, ADA) == ["READ"]  # of a rule that is read-only
    world.core.directory.add_project("P", {EVE: "PI"})
    assert world.core.drives.permissions(drive, ADA) == []


def test_no_drive_is_registered_before_its_product(world: World, caplog: pytest.LogCaptureFixture) -> None:
    name_users(world, ADA)
    world.work()
    assert world.core.drives.all() == []
    assert "drives wait: UCloud has no product home; run ucloud-slurm products sync" in caplog.messages
    sync(world)
    world.work(120)
    assert titles(world, ADA) == ["Home"]


def test_a_lost_database_finds_all_drives_again(world: World, tmp_path: Path, rules: list[dict[str, Any]]) -> None:
    sync(world)
    name_project(world, "P", ADA, BOB)
    world.work()
    before = {each.id for each in world.core.drives.all()}
    again = opened_again(world, tmp_path, rules)
    name_project(again, "P", ADA, BOB)
    again.work(LOOK_SECONDS)
    assert {each.id for each in again.core.drives.all()} == before
    assert {each.drive_id for each in again.provider.drives.listed(10)} == before
    again.provider.close()


def test_a_registration_whose_answer_was_lost_makes_no_second_drive(world: World) -> None:
    sync(world)
    name_users(world, ADA)
    world.core.faults.drop_answer("files.collections.control.register")
    assert world.work() is Result.DONE
    (drive,) = world.core.drives.all()
    assert world.provider.drives.of_id(drive.id) is not None


def test_ucloud_away_leaves_drives_for_later(world: World) -> None:
    sync(world)
    name_users(world, ADA)
    world.core.stop()
    assert world.work() is Result.NOT_ALL
    world.core.start(int(world.core.url.rpartition(":")[2]))
    world.work(600)
    assert titles(world, ADA) == ["Home"]


def test_a_pass_registers_a_few_and_the_next_ones_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_drives, "MOST_IN_PASS", 1)
    sync(world)
    name_users(world, ADA, BOB)
    world.work()
    assert len(world.core.drives.all()) == 1
    world.work(1)
    assert len(world.core.drives.all()) == 2


def test_one_that_ucloud_refuses_does_not_hold_up_the_others(world: World) -> None:
    sync(world)
    name_users(world, ADA, BOB)
    world.core.faults.answer("files.collections.control.register", 400, {"why": "no"})
    world.work()
    assert len(world.core.drives.all()) == 1
    world.work(61)
    assert len(world.core.drives.all()) == 2


def test_a_name_with_a_comma_is_found_again(world: World, tmp_path: Path, rules: list[dict[str, Any]]) -> None:
    sync(world)
    strange = "Ada, 100%#1"
    world.provider.people.remove(ADA, "root", 0.0)
    world.provider.people.add([UserLink(strange, "ada", 54321, 0.0, "root")])
    name_users(world, strange)
    world.work()
    (drive,) = world.core.drives.all()
    assert "," not in (drive.provider_generated_id or "")
    assert [each.id for each in world.provider.core.drives([drive.provider_generated_id or ""])] == [drive.id]


def test_a_mapping_by_a_script_is_asked_before_a_drive_is_registered(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts(tmp_path, monkeypatch)
    script = tmp_path / "who"
    script.write_text('#!/bin/sh\ncase $(cat) in *Ada*) echo \'{"user": "ada"}\';; *) echo \'{"refused": "no"}\';; esac\n')
    script.chmod(0o755)
    users = {"mapping": "script", "script": str(script)}
    provider = drive_provider(core, clock, model, tmp_path, [HOME, project_drive(tmp_path)], users=users)
    world = World(core, provider, model, clock, "")
    sync(world)
    name_project(world, "P", EVE, ADA)
    name_project(world, "Q", EVE)
    assert world.work() is Result.DONE
    assert sorted(each.provider_generated_id or "" for each in core.drives.all()) == [
        f"h-example/home/{ADA}",
        "p-example/project/P",
    ]
    script.write_text("#!/bin/sh\nexit 1\n")
    clock.advance(3600)
    assert world.work() is Result.NOT_ALL  # a script that fails says nothing about anybody
    provider.close()


def test_a_project_without_an_account_has_no_drive_yet(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts(tmp_path, monkeypatch)
    rules = [project_drive(tmp_path, local="/projects/{account}")]
    world = World(core, drive_provider(core, clock, model, tmp_path, rules), model, clock, "")
    sync(world)
    name_project(world, "P", ADA)
    world.work()
    assert core.drives.all() == []
    world.provider.people.add_project("P", "physics", "root", 0.0)
    world.work(15 * 60)
    (drive,) = core.drives.all()
    assert resolve(world.provider, drive_path(f"/{drive.id}"), ADA).place.root == "/projects/physics"
    world.provider.close()


# -- jobs ---------------------------------------------------------------------------------------------------------


def prepared(world: World) -> World:
    sync(world)
    name_project(world, "P", ADA, BOB)
    world.work()
    world.core.catalogue.add_application(READER)
    return world


def start(world: World, path: str, owner: str = ADA, **more: Any) -> str:
    name = READER["metadata"]["name"], "1.0"
    data = {"type": "file", "path": path}
    return world.submit(application=name, parameters={"data": data}, owner=owner, **more)


def script(world: World, job_id: str) -> str:
    return (Path(world.provider.job_paths(world.row(job_id)).folder) / "job.sh").read_text()


def test_an_input_of_a_job_is_in_the_folder_that_its_drive_means(world: World, tmp_path: Path) -> None:
    prepared(world)
    text = script(world, start(world, f"/{home(world).id}/data/in.dat"))
    assert f"{tmp_path}/homes/ada/data/in.dat {tmp_path}/homes/ada" in text  # and the script checks that no link leads out


def test_a_drive_of_a_project_is_used_by_a_job_of_ones_own(world: World, tmp_path: Path) -> None:
    prepared(world)
    drive = world.core.drives.named("p-example/project/P")
    assert f"{tmp_path}/projects/P/x {tmp_path}/projects/P" in script(world, start(world, f"/{drive.id}/x"))


def test_a_drive_that_is_not_in_the_table_is_looked_up_once(world: World) -> None:
    prepared(world)
    world.provider.store.change("delete from drives")
    path = f"/{home(world).id}/a"
    start(world, path)
    start(world, path)
    asked = [each for each in world.core.exchanges if each.call == "files.collections.control.retrieve"]
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["another provider's", "deleted", "not configured"])
def test_a_drive_that_is_not_ours_is_refused_in_a_sentence_that_names_the_parameter(world: World, kind: str) -> None:
    prepared(world)
    provider = "elsewhere" if kind == "another provider's" else "example"
    key = None if kind == "not configured" else "h-example/old/x"
    drive = world.core.drives.add("Theirs", {"id": "x", "category": "x", "provider": provider}, ADA, None, key)
    with pytest.raises(CoreError) as refusal:
        start(world, f"/{drive.id}/a")
    assert (refusal.value.status, refusal.value.why) == (404, f"The parameter 'data': this provider has no drive {drive.id}.")


def test_a_drive_whose_rule_was_removed_answers_404(world: World) -> None:
    prepared(world)
    world.provider.store.change("update drives set name = 'old'")
    with pytest.raises(CoreError, match="does not offer this drive any more") as refusal:
        start(world, f"/{home(world).id}/a")
    assert refusal.value.status == 404


def test_the_drive_of_somebody_else_means_their_folder_and_never_ones_own(world: World, tmp_path: Path) -> None:
    """UCloud says who may use a drive, the kernel what may be done: the job runs as its own user."""
    prepared(world)
    drive = home(world, BOB)
    with pytest.raises(CoreError, match="permission"):
        start(world, f"/{drive.id}/x")
    acl = [{"entity": {"type": "user", "username": ADA}, "permissions": ["READ"]}]
    world.core.drives.change(drive.id, acl=tuple(acl))
    text = script(world, start(world, f"/{drive.id}/x"))
    assert f"{tmp_path}/homes/bob/x {tmp_path}/homes/bob" in text
    world.provider.people.remove(BOB, "root", 0.0)
    with pytest.raises(CoreError, match="The parameter 'data': the owner of this drive is not connected"):
        start(world, f"/{drive.id}/x")


@pytest.mark.parametrize("path", ["/{}/../x", "/{}//x", "/{}/./x", "/{}/..\\..", "/0/../{}/x"])
def test_no_path_leads_out_of_a_drive_by_its_text(world: World, path: str, tmp_path: Path) -> None:
    prepared(world)
    try:
        job_id = start(world, path.format(home(world).id))
    except CoreError as refusal:
        assert refusal.status in (400, 403, 404)  # noqa: PT017
    else:
        assert f"{tmp_path}/homes/ada/..\\.." in script(world, job_id)  # a name like others


def test_a_job_is_built_later_while_ucloud_does_not_say_whose_drive_it_is(world: World, tmp_path: Path) -> None:
    prepared(world)
    world.provider.store.change("delete from drives")
    world.core.faults.answer("files.collections.control.retrieve", 500, {"why": "busy"}, times=20)
    job_id = start(world, f"/{home(world).id}/a")
    assert world.row(job_id).built is None
    world.core.faults.clear()
    world.work(600)
    assert f"{tmp_path}/homes/ada/a" in script(world, job_id)


def test_a_job_is_built_later_while_the_mapping_does_not_say_who_owns_its_drive(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(world)
    drive = home(world, BOB)
    world.core.drives.change(drive.id, acl=({"entity": {"type": "user", "username": ADA}, "permissions": ["READ"]},))
    identity = Table.identity

    def asked(table: Table, username: str, project: str | None, within: float | None = None) -> Identity:
        if username == BOB:
            raise IdentityUnavailableError
        return identity(table, username, project, within)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "identity", asked)
        job_id = start(world, f"/{drive.id}/a")
        assert world.row(job_id).built is None
    world.work(600)
    assert f"{tmp_path}/homes/bob/a" in script(world, job_id)


def test_a_running_job_shows_its_folder_in_the_home_drive(world: World) -> None:
    prepared(world)
    job_id = world.submit(owner=ADA)
    world.model.begin_run(world.slurm(job_id))
    world.work(60)
    assert world.core.job(job_id).output_folder == f"/{home(world).id}/jobs/{job_id}"


def test_a_job_that_ended_within_a_second_shows_its_folder_too(world: World) -> None:
    prepared(world)
    job_id = world.submit(owner=ADA)
    world.model.begin_run(world.slurm(job_id))
    world.model.end(world.slurm(job_id))
    world.work(60)
    assert world.core.job(job_id).state == "SUCCESS"
    assert world.core.job(job_id).output_folder == f"/{home(world).id}/jobs/{job_id}"


def test_a_drive_that_is_registered_later_shows_the_folder_of_a_job_that_runs(world: World) -> None:
    job_id = world.submit(owner=ADA)
    world.model.begin_run(world.slurm(job_id))
    world.work(60)
    assert world.core.job(job_id).output_folder is None
    sync(world)
    name_users(world, ADA)
    world.work(600)
    world.work(60)
    assert world.core.job(job_id).output_folder == f"/{home(world).id}/jobs/{job_id}"


@pytest.mark.parametrize("rules", [[HOME, {**HOME, "name": "jobs", "title": "Jobs", "local": "{home}/jobs"}]])
def test_the_innermost_drive_shows_the_folder_of_a_job(world: World, rules: list[dict[str, Any]]) -> None:
    prepared(world)
    job_id = world.submit(owner=ADA)
    world.model.begin_run(world.slurm(job_id))
    world.work(60)
    drive = world.core.drives.named(f"h-example/jobs/{ADA}")
    assert world.core.job(job_id).output_folder == f"/{drive.id}/{job_id}"


def test_a_site_without_drives_asks_ucloud_for_nothing_about_them(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts(tmp_path, monkeypatch)
    provider: Provider = drive_provider(core, clock, model, tmp_path, [])
    world = World(core, provider, model, clock, "")
    name_users(world, ADA)
    world.work(60)
    assert not [each for each in core.exchanges if "files" in each.call]
    provider.close()
