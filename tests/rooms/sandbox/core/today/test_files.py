"""Files at the simulated Core of today: what it checks itself, what it sends, and how strictly it reads the answers."""

from typing import Any

import pytest

from tests.rooms.sandbox.core.conftest import FakeProvider, Json
from tests.sandbox.core import CoreError, SimulatedCore
from tests.sandbox.core.drives import CoreDrive

STORAGE: Json = {"id": "home", "category": "files", "provider": "example"}
BROKEN = "Invalid response from provider"


def storage() -> Json:
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


@pytest.fixture
def drive(core: SimulatedCore) -> CoreDrive:
    """A drive of a project, whose members may read it; alice is its PI."""
    core.catalogue.put(storage())
    core.directory.add_project("P", {"alice": "PI", "bob": "USER"})
    support(core)
    return core.drives.add("Ours", STORAGE, "alice", "P", "p-1", acl=[core.drives.all_users("P", "READ")])


def support(core: SimulatedCore, **files: bool) -> None:
    core.drives.support.learn([{"product": STORAGE, "files": {"trashSupported": True} | files}])


def entry(path: str, **changes: Any) -> Json:
    """A ProviderFile."""
    status = {"type": "FILE", "sizeInBytes": 3, "modifiedAt": 1_795_000_000_000, "accessedAt": 1_795_000_000_000}
    created = {"createdAt": changes.pop("createdAt")} if "createdAt" in changes else {}
    return {"id": path, "status": status | changes, **created}


def complaints(core: SimulatedCore) -> list[str]:
    """What was complained of, which is forgotten."""
    found = core.protocol_errors
    core._complaints._protocol_errors.clear()
    return found


def test_a_folder_is_asked_for_with_the_whole_drive_and_the_path_as_it_came(
    core: SimulatedCore, drive: CoreDrive, provider: FakeProvider
) -> None:
    path = f"/{drive.id}//data/./"
    file = entry(f"/{drive.id}//data/./in.dat")
    provider.answer("files/browse", (200, {"items": [file], "itemsPerPage": 250, "next": "x"}))
    page = core.browse("bob", path)
    (seen,) = provider.at("files/browse")
    assert (seen.body["resolvedCollection"]["id"], seen.body["Browse"]["flags"]["path"]) == (drive.id, path)
    assert (seen.body["Browse"]["itemsPerPage"], seen.body["Browse"]["flags"]["filterHiddenFiles"]) == (250, True)
    assert (page["next"], page["items"][0]["permissions"]["myself"]) == ("x", ["READ"])
    assert core.protocol_errors == []


def test_without_a_number_of_entries_there_is_no_key(core: SimulatedCore, drive: CoreDrive, provider: FakeProvider) -> None:
    provider.answer("files/browse", (200, {"items": [], "next": None}))
    core.browse("bob", f"/{drive.id}", most=0)
    assert "itemsPerPage" not in provider.at("files/browse")[0].body["Browse"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"createdAt": None},
        {"createdAt": 1.0},
        {"modifiedAt": None},
        {"accessedAt": 1.5},
        {"sizeInBytes": 3.0},
        {"sizeInBytes": "3"},
        {"unixMode": 416.0},
        {"type": 1},
        {"icon": 1},
    ],
    ids=repr,
)
def test_one_field_of_another_type_makes_the_whole_answer_unreadable(
    core: SimulatedCore, drive: CoreDrive, provider: FakeProvider, wrong: Json
) -> None:
    file = entry(f"/{drive.id}/a", **wrong)
    provider.answer("files/browse", (200, {"items": [entry(f"/{drive.id}/b"), file], "next": None}))
    provider.answer("files/retrieve", (200, file))
    for ask, path in ((core.browse, f"/{drive.id}"), (core.retrieve, f"/{drive.id}/a")):
        with pytest.raises(CoreError, match=BROKEN) as refused:
            ask("bob", path)
        assert refused.value.status == 502
    assert len(complaints(core)) == 2


@pytest.mark.parametrize("after", [250, 1.0, {"a": 1}, False])
def test_the_next_page_is_text_or_null(core: SimulatedCore, drive: CoreDrive, provider: FakeProvider, after: object) -> None:
    provider.answer("files/browse", (200, {"items": [], "next": after}))
    with pytest.raises(CoreError, match=BROKEN):
        core.browse("bob", f"/{drive.id}")
    complaints(core)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"type": "file"}, "neither a FILE"),
        ({"icon": "TRASH"}, "icon"),
        ({"path": "/{}/other/x"}, "is not in"),
        ({"path": "/{}/"}, "is not in"),
        ({"sizeInBytes": -1}, "negative"),
        ({"size": 1}, "does not know"),
    ],
)
def test_what_users_would_see_wrongly_is_complained_of(
    core: SimulatedCore, drive: CoreDrive, provider: FakeProvider, changes: Json, why: str
) -> None:
    path = changes.pop("path", "/{}/x").format(drive.id)
    provider.answer("files/browse", (200, {"items": [entry(path, **changes)], "next": None}))
    core.browse("bob", f"/{drive.id}")
    (found,) = complaints(core)
    assert why in found


def test_a_file_without_times_is_of_the_year_1(core: SimulatedCore, drive: CoreDrive, provider: FakeProvider) -> None:
    provider.answer("files/retrieve", (200, {"id": f"/{drive.id}/x", "status": {"type": "FILE"}}))
    assert core.retrieve("bob", f"/{drive.id}/x")["status"]["modifiedAt"] < -62_000_000_000_000
    assert "year 1" in complaints(core)[0]


def test_the_drive_is_found_in_a_path_as_core_finds_it(core: SimulatedCore, drive: CoreDrive, provider: FakeProvider) -> None:
    other = core.drives.add("Bob's", STORAGE, "bob", None, "h-bob")
    for path, found in (
        (f"/{drive.id}/../{other.id}/x", other.id),
        (f"/{other.id}\\..\\..\\etc", other.id),
        (f"{other.id}/x", other.id),
        (f"//{other.id}", other.id),
    ):
        provider.answer("files/retrieve", (200, entry(path)))
        core.retrieve("bob", path)
        body = provider.at("files/retrieve")[-1].body
        assert (body["resolvedCollection"]["id"], body["retrieve"]["id"]) == (found, path)
    for path in ("", "/", f"/{other.id}/..", f"/{other.id}/../999", "/999/x"):
        with pytest.raises(CoreError, match="permission") as refused:
            core.retrieve("bob", path)
        assert refused.value.status == 403
    assert len(provider.at("files/retrieve")) == 4


def test_changes_need_more_than_the_right_to_read(core: SimulatedCore, drive: CoreDrive, provider: FakeProvider) -> None:
    path = f"/{drive.id}/x"
    provider.answer("files/download", (200, {"responses": [{"endpoint": "https://p/x"}]}))
    assert core.download_link("bob", path) == "https://p/x"
    for change in (
        lambda user: core.create_folder(user, path),
        lambda user: core.upload_link(user, path),
        lambda user: core.trash(user, path),
        lambda user: core.empty_trash(user, path),
        lambda user: core.delete(user, path),
        lambda user: core.move(user, (path, f"{path}2")),
        lambda user: core.copy(user, (path, f"{path}2")),
    ):
        for user in ("bob", "eve"):
            with pytest.raises(CoreError, match="permission"):
                change(user)
    assert [seen.path for seen in provider.seen] == ["/ucloud/example/files/download"]


def test_only_the_destination_of_a_move_is_looked_at_in_a_read_only_drive(
    core: SimulatedCore, drive: CoreDrive, provider: FakeProvider
) -> None:
    core.catalogue.put(storage() | {"name": "scratch"})
    scratch = STORAGE | {"id": "scratch"}
    other = core.drives.add("Scratch", scratch, "alice", None, "h-2")
    frozen = {"product": STORAGE, "files": {"isReadOnly": True, "trashSupported": True}}
    core.drives.support.learn([frozen, {"product": scratch}])
    core.move("alice", (f"/{drive.id}/x", f"/{other.id}/x"))
    assert len(provider.at("files/move")) == 1
    for change in (
        lambda: core.move("alice", (f"/{other.id}/x", f"/{drive.id}/x")),
        lambda: core.copy("alice", (f"/{other.id}/x", f"/{drive.id}/x")),
        lambda: core.create_folder("alice", f"/{drive.id}/x"),
        lambda: core.upload_link("alice", f"/{drive.id}/x"),
        lambda: core.trash("alice", f"/{drive.id}/x"),
        lambda: core.delete("alice", f"/{drive.id}/x"),
    ):
        with pytest.raises(CoreError, match="read only"):
            change()
    with pytest.raises(CoreError) as refused:
        core.trash("alice", f"/{other.id}/x")
    assert refused.value.status == 404


@pytest.mark.parametrize("answer", [{}, {"responses": []}, {"responses": [{}]}, {"responses": [None]}])
def test_answers_without_a_meaning_are_not_counted(
    core: SimulatedCore, drive: CoreDrive, provider: FakeProvider, answer: Json
) -> None:
    provider.answer("files/folder", (200, answer))
    core.create_folder("alice", f"/{drive.id}/x")
    assert core.protocol_errors == []


@pytest.mark.parametrize(
    "links", [[], [{"endpoint": "https://p/x"}, {"endpoint": "https://p/y"}], [{"endpoint": ""}], [{}]], ids=repr
)
def test_there_is_one_address_for_each_file(
    core: SimulatedCore, drive: CoreDrive, provider: FakeProvider, links: list[Json]
) -> None:
    provider.answer("files/download", (200, {"responses": links}))
    provider.answer("files/upload", (200, {"responses": [link | {"protocol": "CHUNKED", "token": "t"} for link in links]}))
    for ask in (core.download_link, core.upload_link):
        with pytest.raises(CoreError, match="malformed"):
            ask("alice", f"/{drive.id}/x")
    assert len(complaints(core)) == 2


@pytest.mark.parametrize(
    ("link", "kind", "why"),
    [
        ({"protocol": "FTP"}, "FILE", "no browser"),
        ({"protocol": "CHUNKED", "token": ""}, "FILE", "no token"),
        ({"protocol": "CHUNKED"}, "FOLDER", "hangs"),
        ({"endpoint": "/upload"}, "FILE", "not an address"),
    ],
)
def test_an_upload_that_no_browser_can_make_is_complained_of(
    core: SimulatedCore, drive: CoreDrive, provider: FakeProvider, link: Json, kind: str, why: str
) -> None:
    whole = {"endpoint": "https://p/x", "protocol": "CHUNKED", "token": "t"} | link
    provider.answer("files/upload", (200, {"responses": [whole]}))
    core.upload_link("alice", f"/{drive.id}/x", kind=kind)
    assert why in " ".join(complaints(core))


def test_users_read_what_the_provider_answered(core: SimulatedCore, drive: CoreDrive, provider: FakeProvider) -> None:
    provider.answer("files/move", (409, {"why": "There is a file of that name already.", "errorCode": ""}))
    with pytest.raises(CoreError, match="of that name already") as refused:
        core.move("alice", (f"/{drive.id}/a", f"/{drive.id}/b"))
    assert refused.value.status == 409
