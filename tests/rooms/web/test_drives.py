"""Drives as UCloud asks for them: what they support, and refusals that keep UCloud from forgetting one for ever."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.support.drives import ADA, BOB, EVE, HOME, accounts, drive_provider, name_project, project_drive, sync
from tests.support.model import Model
from ucloud_slurm.bridge.drives import drive_path
from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.errors import Forbidden, NotFound, Problem
from ucloud_slurm.provider.drives import check_writable, resolve
from ucloud_slurm.users.files import Place
from ucloud_slurm.users.mapping import Identity, IdentityUnavailableError

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
NOT_SUPPORTED = "FEATURE_NOT_SUPPORTED_BY_PROVIDER"
BASE = "/ucloud/example"
EXAMPLES = Path(__file__).parents[4] / "shared" / "contract" / "examples"


@pytest.fixture
def world(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> World:
    accounts(tmp_path, monkeypatch)
    rules = [HOME, project_drive(tmp_path, read_only=True)]
    provider = drive_provider(core, clock, model, tmp_path, rules)
    world = World(core, provider, model, clock, serve(provider))
    sync(world)
    name_project(world, "P", ADA, BOB)
    world.work()
    return world


def drive_id(world: World, key: str = f"h-example/home/{ADA}") -> str:
    return world.core.drives.named(key).id


def test_what_drives_support_is_answered_from_the_configuration_alone(world: World) -> None:
    world.core.stop()
    world.provider.store.close()
    status, said = world.core.call("GET", f"{BASE}/files/collections/retrieveProducts")
    assert status == 200
    home, project = said["responses"]
    assert home["product"] == {"id": "home", "category": "storage", "provider": "example"}
    assert not any(home["collection"].values())
    files = {"trashSupported", "openInTerminal"}
    assert {flag for flag, on in home["files"].items() if on} == files
    assert {flag for flag, on in project["files"].items() if on} == {"isReadOnly"}
    assert home["stats"]["sizeInBytes"]
    assert not home["stats"]["visualization"]


def test_ucloud_reads_what_it_is_answered_when_it_polls(world: World) -> None:
    world.core.poll()
    assert world.core.drives.support.keys({"id": "home", "category": "storage", "provider": "example"}) == [
        "drive.ops.trash",
        "drive.stats.size",
        "drive.stats.timestamps",
        "drive.stats.unix",
    ]


def test_a_drive_of_the_configuration_is_never_deleted(world: World) -> None:
    with pytest.raises(CoreError, match="cannot be deleted") as refusal:
        world.core.delete_drive(drive_id(world), ADA)
    assert (refusal.value.status, refusal.value.error_code) == (400, NOT_SUPPORTED)
    assert world.core.drives.get(drive_id(world)).owner == ADA


def test_users_make_rename_and_share_no_drives(world: World) -> None:
    with pytest.raises(CoreError, match="Not supported"):  # UCloud does not even ask
        world.core.create_drive("Mine", "home", ADA)
    for path in ("files/collections", "files/collections/rename", "files/collections/updateAcl", "shares"):
        status, said = world.core.call("POST", f"{BASE}/{path}", {"items": [{"id": "1", "newTitle": "x"}]}, user=ADA)
        assert (status, said["errorCode"]) == (400, NOT_SUPPORTED)
        assert len(said["why"].split()) > 4
    with pytest.raises(CoreError, match="shared"):
        world.core.share_folder(f"/{drive_id(world)}/x", BOB, user=ADA)


def test_labels_of_a_drive_are_ucloud_s(world: World) -> None:
    world.core.label_drive(drive_id(world), {"a": "b"}, ADA)
    assert world.core.drives.get(drive_id(world)).labels == {"a": "b"}


@pytest.mark.parametrize(
    "verb", ["GET retrieveProducts", "POST rename", "POST verify", "POST updateAcl", "POST onUpdatedLabels", "DELETE ", "POST "]
)
def test_no_call_about_drives_is_answered_without_a_token(world: World, verb: str) -> None:
    method, _, name = verb.partition(" ")
    path = f"{BASE}/files/collections/{name}".removesuffix("/")
    assert world.core.call(method, path, {"items": []}, token="")[0] == 401


def test_a_site_without_drives_has_none_to_show(open_provider: Open, serve: Serve, core: SimulatedCore) -> None:
    serve(open_provider())
    assert core.call("GET", f"{BASE}/files/collections/retrieveProducts") == (200, {"responses": []})
    assert core.call("DELETE", f"{BASE}/files/collections", {"items": []})[0] in (404, 405)


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples of the contract are not here")
@pytest.mark.parametrize(
    ("name", "verb", "path", "status"),
    [
        ("create", "POST", "files/collections", 400),
        ("delete", "DELETE", "files/collections", 400),
        ("rename", "POST", "files/collections/rename", 400),
    ],
)
def test_examples_of_the_contract_are_answered(world: World, name: str, verb: str, path: str, status: int) -> None:
    body = json.loads((EXAMPLES / f"files.collections.{name}.request.json").read_text())
    said = world.core.call(verb, f"{BASE}/{path}", body, user=ADA)
    assert (said[0], said[1]["errorCode"]) == (status, NOT_SUPPORTED)


# -- which folder a path means --------------------------------------------------------------------------------------


def test_a_path_means_a_folder_of_the_drive_s_owner_and_the_rights_of_who_acts(world: World, tmp_path: Path) -> None:
    mine = resolve(world.provider, drive_path(f"/{drive_id(world)}/a/b"), ADA, 2.0)
    assert mine.place == Place(f"{tmp_path}/homes/ada", ("a", "b"))
    assert mine.acting.user == "ada"
    theirs = resolve(world.provider, drive_path(f"/{drive_id(world)}/a"), BOB)
    assert theirs.place == Place(f"{tmp_path}/homes/ada", ("a",))
    assert theirs.acting.user == "bob"


def test_a_drive_of_a_project_is_read_only_by_its_rule(world: World, tmp_path: Path) -> None:
    found = resolve(world.provider, drive_path(f"/{drive_id(world, 'p-example/project/P')}"), BOB)
    assert found.place == Place(f"{tmp_path}/projects/P", ())
    with pytest.raises(Problem, match="read-only") as refusal:
        check_writable(found)
    assert refusal.value.status == 403


def test_somebody_who_is_not_connected_reaches_nothing(world: World) -> None:
    with pytest.raises(Forbidden, match="not connected"):
        resolve(world.provider, drive_path(f"/{drive_id(world)}"), EVE)


def test_a_drive_that_nobody_has_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="has no drive 999"):
        resolve(world.provider, drive_path("/999/a"), ADA)


def test_a_mapping_that_does_not_answer_says_nothing_about_a_drive(world: World) -> None:
    with pytest.raises(IdentityUnavailableError):
        resolve(world.provider, drive_path(f"/{drive_id(world)}"), ADA, 0.0)


def test_ucloud_away_is_no_answer_about_a_drive(world: World) -> None:
    path = drive_path(f"/{drive_id(world)}")
    world.provider.store.change("delete from drives")
    world.core.stop()
    began = time.monotonic()
    with pytest.raises(Problem, match="try again") as refusal:
        resolve(world.provider, path, ADA, 1.0)
    assert refusal.value.status == 502
    assert time.monotonic() - began < 5


def test_a_drive_that_somebody_else_registered_under_our_id_is_not_adopted(world: World) -> None:
    """Only a drive whose owner is the one in its id is ours: no folder of one user is shown as another's."""
    drive = world.core.drives.add(
        "x", {"id": "home", "category": "storage", "provider": "example"}, ADA, None, f"h-example/home/{BOB}x"
    )
    with pytest.raises(NotFound):
        resolve(world.provider, drive_path(f"/{drive.id}"), ADA)


def test_a_home_that_is_the_whole_file_system_is_no_drive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(_self: object, *_arguments: Any) -> Identity:
        return Identity(LocalUser("ada", "/", "/bin/sh"), None)

    monkeypatch.setattr(type(world.provider.mapping), "identity", everything)
    with pytest.raises(Problem, match="no folder"):
        resolve(world.provider, drive_path(f"/{drive_id(world)}"), ADA)
