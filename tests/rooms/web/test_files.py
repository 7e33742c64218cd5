"""Folders of drives as users see them, and what they change in them. Acts are those of the user whom UCloud names."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from tests.conftest import Clock, Serve, World
from tests.sandbox.core import CoreError, SimulatedCore
from tests.support.drives import ADA, BOB, HOME, accounts, drive_provider, name_project, name_users, project_drive
from tests.support.file_world import ORIGINS, FileWorld, file_world
from tests.support.model import Model
from ucloud_slurm.errors import Conflict
from ucloud_slurm.users.file_problems import problem
from ucloud_slurm.users.own_files import OwnFiles
from ucloud_slurm.web import places

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")


@pytest.fixture
def world(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> World:
    accounts(tmp_path, monkeypatch)
    rules = [HOME, project_drive(tmp_path), project_drive(tmp_path, name="archive", product="archive", read_only=True)]
    provider = drive_provider(core, clock, model, tmp_path, rules, ucloud=ORIGINS)
    return World(core, provider, model, clock, serve(provider))


@pytest.fixture
def place(world: World, tmp_path: Path) -> Iterator[FileWorld]:
    with file_world(world, tmp_path) as place:
        yield place


def refused(place: FileWorld, verb: str, *arguments: Any, user: str = ADA, **more: Any) -> CoreError:
    """How UCloud answers what cannot be done."""
    with pytest.raises(CoreError) as error:
        getattr(place.world.core.files, verb)(user, *arguments, **more)
    return error.value


def shown(place: FileWorld, path: str, **more: Any) -> dict[str, Any]:
    page = place.world.core.files.browse(ADA, path, **more)
    return {entry["id"].rpartition("/")[2]: entry["status"] for entry in page["items"]}


def sent(place: FileWorld, call: str, body: dict[str, Any], user: str = ADA) -> Any:
    """What a UCloud that has checked nothing would send."""
    core = place.world.core
    return core.files.calls.for_user(f"files.provider.example.{call}", body, user)


def project_drives(place: FileWorld) -> tuple[str, str]:
    """UCloud's ids of a drive of a project that can be changed, and of one that cannot."""
    name_project(place.world, "p1", ADA, BOB)
    name_users(place.world, ADA, BOB)
    place.world.work(3600)
    drives = place.world.core.drives
    return drives.named("p-example/project/p1").id, drives.named("p-example/archive/p1").id


# ---- looking


def test_a_folder_shows_what_is_in_it(place: FileWorld) -> None:
    (place.root / "a.txt").write_bytes(b"text")
    (place.root / "a.txt").chmod(0o640)
    (place.root / "sub").mkdir()
    os.utime(place.root / "a.txt", (1_795_000_400, 1_795_000_300))
    found = shown(place, place.at())
    assert (found["a.txt"]["type"], found["a.txt"]["sizeInBytes"], found["a.txt"]["unixMode"]) == ("FILE", 4, 0o640)
    assert (found["a.txt"]["modifiedAt"], found["a.txt"]["accessedAt"]) == (1_795_000_300_000, 1_795_000_400_000)
    assert (found["a.txt"]["unixOwner"], found["a.txt"]["unixGroup"]) == (os.geteuid(), os.getegid())
    assert (found["sub"]["type"], found["sub"]["sizeInBytes"]) == ("DIRECTORY", None)


def test_hidden_files_are_shown_to_those_who_want_them(place: FileWorld) -> None:
    (place.root / ".bashrc").touch()
    (place.root / "a").touch()
    assert list(shown(place, place.at())) == ["a"]
    assert sorted(shown(place, place.at(), hidden=True)) == [".bashrc", "a"]


def test_a_page_has_as_many_entries_as_fit_and_all_pages_have_all(place: FileWorld) -> None:
    for number in range(1203):
        (place.root / f"{number:05}").touch()
    first = place.world.core.files.browse(ADA, place.at(), most=100_000)
    assert len(first["items"]) == 500
    assert first["itemsPerPage"] == 500
    assert len(place.world.core.files.browse(ADA, place.at(), most=0)["items"]) == 250
    assert len(place.web.folder(place.at())) == 1203


@pytest.mark.parametrize(
    ("by", "names"), [("SIZE", ["small", "large"]), ("MODIFIED_AT", ["large", "small"]), ("odd", ["large", "small"])]
)
def test_a_folder_is_sorted_as_asked(place: FileWorld, by: str, names: list[str]) -> None:
    (place.root / "large").write_bytes(b"xxxx")
    (place.root / "small").write_bytes(b"x")
    os.utime(place.root / "large", (1, 1))
    os.utime(place.root / "small", (2, 2))
    assert list(shown(place, place.at(), sort_by=by, direction="ascending")) == names
    assert list(shown(place, place.at(), sort_by=by, direction="descending")) == names[::-1]


def test_links_are_shown_as_what_they_lead_to_in_the_drive_and_as_nothing_outside(place: FileWorld) -> None:
    (place.root / "sub").mkdir()
    (place.root / "a").write_bytes(b"text")
    for name, target in (("in", "a"), ("folder", "sub"), ("out", "/etc"), ("passwd", "/etc/passwd"), ("none", "nowhere")):
        (place.root / name).symlink_to(target)
    os.mkfifo(place.root / "pipe")
    found = shown(place, place.at())
    assert {name: status["type"] for name, status in found.items()} == {
        "a": "FILE",
        "in": "FILE",
        "folder": "DIRECTORY",
        "out": "FILE",
        "passwd": "FILE",
        "none": "FILE",
        "pipe": "FILE",
        "sub": "DIRECTORY",
    }
    assert {found[name]["sizeInBytes"] for name in ("out", "passwd", "none", "pipe")} == {0}
    assert refused(place, "browse", place.at("out")).status in (400, 403)


def test_the_trash_and_the_folder_of_jobs_are_known_by_their_icons(place: FileWorld) -> None:
    for name in ("Trash", "jobs", "sub", "sub/Trash", "sub/jobs"):
        (place.root / name).mkdir()
    assert {name: status["icon"] for name, status in shown(place, place.at()).items()} == {
        "Trash": "DIRECTORY_TRASH",
        "jobs": "DIRECTORY_JOBS",
        "sub": None,
    }
    assert {status["icon"] for status in shown(place, place.at("sub")).values()} == {None}
    assert place.world.core.files.retrieve(ADA, place.at("Trash"))["status"]["icon"] == "DIRECTORY_TRASH"


@pytest.mark.parametrize("path", ["", "sub", "sub/a b", "sub/"])
def test_one_file_is_described_by_its_path(place: FileWorld, path: str) -> None:
    (place.root / "sub").mkdir()
    (place.root / "sub/a b").touch()
    found = place.world.core.files.retrieve(ADA, place.at(path))
    assert found["id"] == place.at(path).removesuffix("/")


def test_what_is_not_there_is_a_404_that_names_it(place: FileWorld) -> None:
    for verb in ("browse", "retrieve"):
        error = refused(place, verb, place.at("nothing"))
        assert (error.status, "nothing" in str(error)) == (404, True)


# ---- changing


def test_folders_are_made_and_the_user_chooses_what_happens_to_names_that_exist(place: FileWorld) -> None:
    files = place.world.core.files
    files.create_folder(ADA, place.at("new"), place.at("new/sub"))
    files.create_folder(ADA, place.at("new"))
    assert place.names() == ["new", "new(1)"]
    assert refused(place, "create_folder", place.at("new"), policy="REJECT").status == 409


def test_a_rename_never_replaces_anything_unasked(place: FileWorld) -> None:
    (place.root / "a").write_text("a")
    (place.root / "b").write_text("b")
    assert refused(place, "move", (place.at("a"), place.at("b"))).status == 409
    files = place.world.core.files
    files.move(ADA, (place.at("a"), place.at("c")))
    files.move(ADA, (place.at("c"), place.at("b")), policy="RENAME")
    assert {name: (place.root / name).read_text() for name in place.names()} == {"b": "b", "b(1)": "a"}


def test_a_folder_does_not_go_into_itself(place: FileWorld) -> None:
    (place.root / "a").mkdir()
    for verb in ("move", "copy"):
        assert refused(place, verb, (place.at("a"), place.at("a/b"))).status == 400
    assert place.names() == ["a"]


def test_the_folder_of_a_drive_is_not_changed(place: FileWorld) -> None:
    for verb, argument in (("trash", place.at()), ("move", (place.at(), place.at("x"))), ("create_folder", place.at())):
        assert refused(place, verb, argument).status == 400


def test_what_is_deleted_goes_into_the_trash_and_comes_back(place: FileWorld) -> None:
    (place.root / "a").write_text("a")
    files = place.world.core.files
    files.trash(ADA, place.at("a"))
    assert (place.names(), place.names("Trash")) == (["Trash"], ["a"])
    (place.root / "a").write_text("another")
    files.trash(ADA, place.at("a"))
    assert place.names("Trash") == ["a", "a(1)"]
    files.move(ADA, (place.at("Trash/a"), place.at("a")))
    assert (place.root / "a").read_text() == "a"
    assert refused(place, "trash", place.at("Trash")).status == 400
    assert refused(place, "trash", place.at("Trash/a(1)")).status == 400


def works(place: FileWorld) -> list[tuple[str, str, str]]:
    rows = place.world.provider.store.rows("select kind, username, local_user from tasks order by id")
    return [(row["kind"], row["username"], row["local_user"]) for row in rows]


@pytest.mark.parametrize("path", ["", "data", "Trashes", "data/Trash"])
def test_nothing_but_the_trash_is_emptied(place: FileWorld, path: str) -> None:
    assert refused(place, "empty_trash", place.at(path)).status == 400
    assert works(place) == []


def test_long_changes_become_tasks_of_the_user(place: FileWorld) -> None:
    (place.root / "Trash").mkdir()
    files = place.world.core.files
    files.empty_trash(ADA, place.at("Trash"))
    files.copy(ADA, (place.at("a"), place.at("b")), (place.at("c"), place.at("d")))
    assert works(place) == [("erase", ADA, "ada"), ("copy", ADA, "ada"), ("copy", ADA, "ada")]


def test_what_moves_between_file_systems_becomes_a_task(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*_arguments: Any, **_more: Any) -> str:
        raise problem("other-device", ("a",))

    monkeypatch.setattr(OwnFiles, "move", elsewhere)
    monkeypatch.setattr(OwnFiles, "trash", elsewhere)
    place.world.core.files.move(ADA, (place.at("a"), place.at("b")))
    place.world.core.files.trash(ADA, place.at("a"))
    assert [kind for kind, _, _ in works(place)] == ["move", "move"]


def test_a_bulk_says_how_far_it_came(place: FileWorld) -> None:
    for name in "ac":
        (place.root / name).touch()
    error = refused(place, "trash", *(place.at(name) for name in "abc"))
    assert (error.status, "1 of 3 items are done" in str(error)) == (404, True)
    assert place.names() == ["Trash", "c"]


def test_a_bulk_stops_before_ucloud_gives_up(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (place.root / name).touch()
    monkeypatch.setattr(places, "LEAST_SECONDS", 1e9)
    error = refused(place, "trash", *(place.at(name) for name in "abc"))
    assert error.status == Conflict.status
    assert "1 of 3 items are done" in str(error)
    assert place.names() == ["Trash", "b", "c"]


def test_a_file_system_that_hangs_holds_up_nobody_but_its_user(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    stat = OwnFiles.stat

    def hanging(self: OwnFiles, at: Any, **more: Any) -> Any:
        go_on.wait(30)
        return stat(self, at, **more)

    monkeypatch.setattr(OwnFiles, "stat", hanging)
    try:
        assert refused(place, "retrieve", place.at()).status == 504
    finally:
        go_on.set()


# ---- who may


def test_a_drive_that_is_read_only_is_not_changed_in_any_way(place: FileWorld) -> None:
    """UCloud itself does not look at where something is moved from."""
    writable, archive = project_drives(place)
    folder = place.root.parents[1] / "projects/p1"
    folder.mkdir(parents=True)
    (folder / "a").touch()
    core = place.world.core
    error = refused(place, "move", (f"/{archive}/a", f"/{writable}/b"))
    assert (error.status, "read-only" in str(error)) == (403, True)
    drive = core.drives.resolved(core.drives.get(archive), ADA)
    item = {"id": f"/{archive}/a", "resolvedCollection": drive}
    pair = {"oldId": f"/{archive}/a", "newId": f"/{archive}/b", "resolvedOldCollection": drive, "resolvedNewCollection": drive}
    bodies = {"trash": item, "emptyTrash": item, "createFolder": item, "move": pair, "copy": pair}
    bodies["createUpload"] = item | {"type": "FILE", "supportedProtocols": ["CHUNKED"], "conflictPolicy": "RENAME"}
    for call, body in bodies.items():
        with pytest.raises(CoreError) as refusal:
            sent(place, call, {"items": [body]})
        assert refusal.value.status == 403, call
    assert [path.name for path in folder.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "path", ["/{other}/a", "/{drive}/../{other}/a", "/{drive}/../../etc/passwd", "{other}", "/", "", "/x/a"]
)
def test_a_path_is_in_the_drive_whose_permissions_were_checked(place: FileWorld, path: str) -> None:
    other, _ = project_drives(place)
    core = place.world.core
    drive = core.drives.resolved(core.drives.get(place.drive), ADA)
    body = {"resolvedCollection": drive, "retrieve": {"flags": {}, "id": path.format(drive=place.drive, other=other)}}
    with pytest.raises(CoreError) as refusal:
        sent(place, "retrieve", body)
    assert refusal.value.status == 400


def test_the_user_who_acts_counts_and_not_the_owner_of_the_drive(place: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def files(_provider: Any, user: str) -> OwnFiles:
        asked.append(user)
        return OwnFiles()

    monkeypatch.setattr("ucloud_slurm.provider.context.Provider.files", files)
    name_users(place.world, BOB)
    core = place.world.core
    drive = core.drives.resolved(core.drives.get(place.drive), ADA)
    sent(place, "retrieve", {"resolvedCollection": drive, "retrieve": {"flags": {}, "id": place.at()}}, BOB)
    sent(place, "retrieve", {"resolvedCollection": drive, "retrieve": {"flags": {}, "id": place.at()}}, ADA)
    assert asked == ["bob", "ada"]


def test_somebody_who_is_not_connected_sees_nothing(place: FileWorld) -> None:
    core = place.world.core
    drive = core.drives.resolved(core.drives.get(place.drive), ADA)
    name_users(place.world, "Eve#3")
    with pytest.raises(CoreError) as refusal:
        sent(place, "retrieve", {"resolvedCollection": drive, "retrieve": {"flags": {}, "id": place.at()}}, "Eve#3")
    assert refusal.value.status == 403


def test_a_drive_that_nobody_has_is_not_found(place: FileWorld) -> None:
    body = {"resolvedCollection": {"id": "999999"}, "retrieve": {"flags": {}, "id": "/999999/a"}}
    with pytest.raises(CoreError) as refusal:
        sent(place, "retrieve", body)
    assert refusal.value.status == 404


def test_files_are_not_deleted_at_once(place: FileWorld) -> None:
    (place.root / "a").touch()
    error = refused(place, "delete", place.at("a"))
    assert (error.status, "trash" in str(error)) == (400, True)
    assert place.names() == ["a"]


def test_every_change_is_one_line_in_the_journal(place: FileWorld, caplog: pytest.LogCaptureFixture) -> None:
    (place.root / "a\nb").touch()
    with caplog.at_level("INFO"):
        place.world.core.files.trash(ADA, place.at("a\nb"))
    lines = [line for line in caplog.messages if line.startswith("files:")]
    assert lines == [f"files: Ada#1 as ada: moved into the trash '/{place.drive}/a\\nb'"]


def test_the_calls_about_files_are_described(world: World) -> None:
    description = requests.get(f"{world.url}/openapi.json", timeout=30).json()
    validate(description, cls=OpenAPIV31SpecValidator)
    described = {path.rpartition("/files/")[2] for path in description["paths"] if path.startswith("/ucloud/example/files/")}
    assert described >= {"browse", "retrieve", "folder", "move", "copy", "trash", "emptyTrash", "download", "upload"}
    kinds = description["components"]["schemas"]
    assert "Browse" in kinds["BrowseRequest"]["properties"]
    assert "icon" in kinds["FileStatus"]["properties"]


# ---- bad input


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/{drive}/a/../b", "The path has a part that is empty, a dot or two dots."),
        ("/{drive}/./b", "The path has a part that is empty, a dot or two dots."),
        ("/{drive}//b", "The path has a part that is empty, a dot or two dots."),
        ("/{drive}/a\0b", "The path contains a character that is not allowed."),
        ("/{drive}/a\ud800b", "The request is not valid JSON: "),
        ("/{drive}/" + "a" * 256, "The path has a name of more than 255 bytes."),
        ("/{drive}/" + "\u20ac" * 86, "The path has a name of more than 255 bytes."),
        ("/{drive}/" + "/".join(["a" * 200] * 21), "The path is longer than 4095 bytes."),
    ],
)
def test_a_bad_path_is_refused_in_a_sentence(place: FileWorld, path: str, why: str) -> None:
    core, path = place.world.core, path.format(drive=place.drive)
    drive = core.drives.resolved(core.drives.get(place.drive), ADA)
    item = {"id": path, "resolvedCollection": drive, "conflictPolicy": "REPLACE"}
    good = {"resolvedOldCollection": drive, "resolvedNewCollection": drive, "conflictPolicy": "REPLACE"}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("browse", {"resolvedCollection": drive, "Browse": {"flags": {"path": path}}}),
        ("retrieve", {"resolvedCollection": drive, "retrieve": {"flags": {}, "id": path}}),
        ("createFolder", {"items": [item]}),
        ("createUpload", {"items": [item | {"type": "FILE", "supportedProtocols": ["CHUNKED"]}]}),
        ("createUpload", {"items": [item | {"type": "FOLDER", "supportedProtocols": ["WEBSOCKET"]}]}),
        ("createDownload", {"items": [item]}),
        ("trash", {"items": [item]}),
        ("emptyTrash", {"items": [item]}),
        ("move", {"items": [good | {"oldId": path, "newId": place.at("b")}]}),
        ("move", {"items": [good | {"oldId": place.at("a"), "newId": path}]}),
        ("copy", {"items": [good | {"oldId": path, "newId": place.at("b")}]}),
        ("copy", {"items": [good | {"oldId": place.at("a"), "newId": path}]}),
    ]
    (place.root / "a").write_text("a")
    for call, body in bodies:
        with pytest.raises(CoreError) as refusal:
            sent(place, call, body)
        assert (refusal.value.status, str(refusal.value).startswith(f"400: {why}")) == (400, True), call
    assert (place.names(), works(place)) == (["a"], [])


def test_a_home_that_has_vanished_is_said_in_a_sentence(place: FileWorld) -> None:
    (place.root / "a").write_text("a")
    link = place.web.files.download_link(ADA, place.at("a"))
    place.root.rename(place.root.parent / "elsewhere")
    for verb, path in (("browse", ""), ("retrieve", "a"), ("trash", "a"), ("create_folder", "b"), ("download_link", "a")):
        error = refused(place, verb, place.at(path))
        assert (error.status, "does not exist on the cluster. Log in to the cluster once" in str(error)) == (404, True), verb
    answer = place.web.open(link)
    assert (answer.status_code, "Log in to the cluster once" in answer.text) == (404, True)
    assert not place.root.exists()


def test_a_project_that_one_has_left_is_closed(place: FileWorld) -> None:
    """By UCloud, which knows the members; the provider acts with the rights that the account has then."""
    name_project(place.world, "p1", BOB, ADA)
    place.world.work(3600)
    drive = place.world.core.drives.named("p-example/project/p1").id
    folder = place.root.parents[1] / "projects/p1"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    assert list(shown(place, f"/{drive}")) == ["a"]
    place.world.core.directory.add_project("p1", {BOB: "PI"})
    for verb in ("browse", "retrieve", "trash", "download_link", "upload_link"):
        assert refused(place, verb, f"/{drive}/a").status == 403, verb
