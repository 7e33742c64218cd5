"""Drives at the simulated Core of today: as strict with a provider as UCloud is, and as deadly."""

from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import FakeProvider, Json
from tests.rooms.sandbox.core.today.conftest import Provider
from tests.sandbox.core import CoreError, SimulatedCore

STORAGE: Json = {"id": "home", "category": "files", "provider": "example"}
REGISTER = "/api/files/collections/control/register"
SUPPORT: Json = {"product": STORAGE, "files": {"trashSupported": True}, "stats": {"modifiedAt": True}}


def product() -> Json:
    unit = {"name": "GB", "namePlural": "GB", "floatingPoint": False, "displayFrequencySuffix": False}
    category = {
        "name": "files",
        "provider": "example",
        "productType": "STORAGE",
        "accountingUnit": unit,
        "accountingFrequency": "ONCE",
        "freeToUse": True,
        "allowSubAllocations": True,
    }
    return {"type": "storage", "category": category, "name": "home", "productType": "STORAGE", "price": 1}


def item(**more: Any) -> Json:
    spec = {"title": "Home", "product": STORAGE, "labels": None} | more.pop("spec", {})
    return {"spec": spec, "providerGeneratedId": "h-example/home/user", "createdBy": "user", "project": None} | more


@pytest.fixture
def shop(core: SimulatedCore, client: Provider) -> Provider:
    core.directory.add_user("user")
    assert client.items("/api/products/v2", product()).status_code == 200
    return client


def test_a_drive_is_registered_once_and_read_back(core: SimulatedCore, shop: Provider) -> None:
    (made,) = shop.items(REGISTER, item()).json()["responses"]
    assert shop.items(REGISTER, item()).status_code == 409
    path = "/api/files/collections/control"
    query = "itemsPerPage=1000&includeOthers=true&filterProviderIds=h-example%2Fhome%2Fuser"
    (found,) = shop.send("GET", f"{path}/browse?{query}", "").json()["items"]
    assert found == shop.send("GET", f"{path}/retrieve?id={made['id']}", "").json()
    assert (found["id"], found["status"]["preferredDrive"]) == (made["id"], True)
    assert found["owner"] == {"createdBy": "user", "project": None}
    assert shop.send("GET", f"{path}/retrieve?id=999", "").status_code == 403
    there = [{"type": "file_collection", "id": each} for each in (made["id"], "999")]
    assert shop.items("/api/providers/resources/checkExistence", *there).json() == {"responses": [True, False]}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"createdBy": "nobody"}, "user"),
        ({"project": "none"}, "project"),
        ({"spec": {"title": ""}}, "title"),
        ({"spec": {"title": "x" * 4097}}, "title"),
        ({"providerGeneratedId": "x" * 2601}, "index"),
        ({"spec": {"title": "a\0b"}}, "NUL"),
    ],
)
def test_what_no_column_holds_ends_core(core: SimulatedCore, shop: Provider, changes: Json, why: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        shop.items(REGISTER, item(**changes))
    assert why in (core.ended or "")
    core._complaints._ended = None
    core._complaints._protocol_errors.clear()


def test_drives_of_a_product_that_is_not_there_are_complained_of(core: SimulatedCore, client: Provider) -> None:
    core.directory.add_user("user")
    assert client.items(REGISTER, item()).status_code == 200
    assert client.items(REGISTER, item(spec={"product": STORAGE | {"provider": "other"}, "x": 1})).status_code == 409
    assert "product" in core.protocol_errors[0]
    core._complaints._protocol_errors.clear()


def test_all_users_of_a_project_read_its_drive_and_strangers_do_not(core: SimulatedCore, shop: Provider) -> None:
    core.directory.add_project("P", {"user": "PI", "bob": "USER"})
    shop.items(REGISTER, item(createdBy=None, project="P", projectAllRead=True, projectAllWrite=False))
    (drive,) = core.drives.all()
    rights = [core.drives.permissions(drive, name) for name in ("user", "bob", "eve")]
    assert rights == [["ADMIN", "READ", "EDIT"], ["READ"], []]
    assert [each["id"] for each in core.browse_drives("bob", "P")] == []  # a member file, by its h-
    assert [each["id"] for each in core.browse_drives("bob", "P", member_files=True)] == [drive.id]
    core.directory.add_project("P", {"user": "PI"})
    assert core.drives.permissions(drive, "bob") == []


def test_support_is_read_by_type(core: SimulatedCore, shop: Provider, provider: FakeProvider) -> None:
    provider.answer("files/collections/retrieveProducts", (200, {"responses": [SUPPORT]}), (200, {"responses": [{"stats": 1}]}))
    core.retrieve_drive_products()
    assert core.drives.support.keys(STORAGE) == ["drive.ops.trash", "drive.stats.timestamps"]
    with pytest.raises(CoreError, match="Invalid response"):
        core.retrieve_drive_products()
    assert core.drives.support.flag(STORAGE, "files", "trashSupported")
    core._complaints._protocol_errors.clear()


def test_a_job_gets_files_of_readable_drives_only_and_read_only_without_edit(
    core: SimulatedCore, shop: Provider, provider: FakeProvider
) -> None:
    core.directory.add_project("P", {"pi": "PI", "user": "USER"})
    drive = core.drives.add("Ours", STORAGE, "pi", "P", "p-1", acl=[core.drives.all_users("P", "READ")])
    file = {"type": "file", "path": f"/0/../{drive.id}/x", "readOnly": False}
    core.submit(("sleeper", "1.0.0"), "example-compute-1", resources=[file])
    (sent,) = provider.at("jobs")[0].body["items"][0]["specification"]["resources"]
    assert (sent["path"], sent["readOnly"]) == (file["path"], True)
    with pytest.raises(CoreError, match="permission"):
        core.submit(("sleeper", "1.0.0"), "example-compute-1", resources=[file], owner="eve")


def test_only_the_answer_keeps_a_drive_from_being_deleted(core: SimulatedCore, shop: Provider, provider: FakeProvider) -> None:
    drive = core.drives.add("Home", STORAGE, "user", None, "h-1")
    provider.answer("files/collections", (400, {"why": "no"}), (200, {"responses": []}))
    with pytest.raises(CoreError, match="no"):
        core.delete_drive(drive.id)
    assert core.drives.get(drive.id) == drive
    core.delete_drive(drive.id)
    assert core.drives.all() == []
