"""The page about files says how every route is answered, and what happens to bad input: all of it is so, and has a test."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Clock, Serve, World
from tests.promises.test_docs import generate, strings
from tests.sandbox.core import SimulatedCore
from tests.support.drives import ADA, HOME, accounts, drive_provider, name_users, sync
from tests.support.file_world import ORIGINS
from tests.support.model import Model
from tests.support.source import parsed
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.transfer.app import Application
from ucloud_slurm.transfer.unit import Unit
from ucloud_slurm.ucloud.gate import Call, _Proven

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/files.rst").read_text(encoding="utf-8")
UCLOUD_CALLS = ("Calls about drives", "Calls about files")

# What the contract has about files and drives, whatever this provider does with it.
CONTRACT = {
    "GET /ucloud/{id}/files/collections/retrieveProducts",
    "POST /ucloud/{id}/files/collections",
    "POST /ucloud/{id}/files/collections/rename",
    "DELETE /ucloud/{id}/files/collections",
    "POST /ucloud/{id}/files/collections/onUpdatedLabels",
    "POST /ucloud/{id}/files/collections/updateAcl",
    "POST /ucloud/{id}/files/collections/verify",
    "GET /ucloud/{id}/files/retrieveProducts",
    "POST /ucloud/{id}/files/browse",
    "POST /ucloud/{id}/files/retrieve",
    "POST /ucloud/{id}/files/folder",
    "POST /ucloud/{id}/files/upload",
    "POST /ucloud/{id}/files/download",
    "POST /ucloud/{id}/files/move",
    "POST /ucloud/{id}/files/copy",
    "POST /ucloud/{id}/files/trash",
    "POST /ucloud/{id}/files/emptyTrash",
    "DELETE /ucloud/{id}/files",
    "POST /ucloud/{id}/files/visualize",
    "POST /ucloud/{id}/files/transfer",
    "POST /ucloud/{id}/files/search",
    "GET /ucloud/{id}/files",
    "POST /ucloud/{id}/shares",
    "DELETE /ucloud/{id}/shares",
    "POST /ucloud/{id}/jobs/openTerminalInFolder",
    "POST /ucloud/{id}/tasks/pauseOrCancel",
    "POST /api/files/collections/control/register",
    "GET /api/files/collections/control/browse",
    "GET /api/files/collections/control/retrieve",
    "POST /api/files/collections/control/updateLabels",
    "POST /api/tasks",
    "POST /api/tasks/postStatus",
    "POST /api/tasks/markAsComplete",
    "POST /api/shares/control/update",
    "POST /api/accounting/v2/reportUsage",
}


class Row(NamedTuple):
    """A row of a table of the page."""

    what: str
    how: str
    tests: list[str]

    @property
    def routes(self) -> list[str]:
        """The routes that it is about."""
        return re.findall(r"``((?:GET|HEAD|POST|DELETE|OPTIONS) /\S+)``", self.what)

    @property
    def refusal(self) -> tuple[int, str | None, str] | None:
        """Status, error code and sentence of what is refused."""
        found = re.match(r'(\d{3})(?: ``(\w+)``)?: "(.*)"', self.how)
        return None if found is None else (int(found[1]), found[2], found[3])


def rows(heading: str) -> list[Row]:
    text = re.split(r"\n[A-Z][^\n]*\n-+\n", PAGE.partition(f"\n{heading}\n---")[2])[0]
    cells = re.findall(r"^   \* - (.*)\n     - (.*)\n     -(.*)$", text, re.MULTILINE)
    assert len(cells) == text.count("   * - ") > 1, f"{heading}: a row that cannot be read"
    return [Row(what, how, re.findall(r"``(test_\w+)``", shown)) for what, how, shown in cells[1:]]


HEADINGS = re.findall(r"^(.+)\n-+$", PAGE, re.MULTILINE)
EVERY = [row for heading in HEADINGS for row in rows(heading)]
REFUSED = [row for heading in UCLOUD_CALLS for row in rows(heading) if row.refusal and row.routes]


def of_application(provider: Provider) -> set[str]:
    unit = Unit.of(provider)
    name = provider.config.provider.id
    try:
        return {f"{verb} {path}".replace(f"/{name}/", "/{id}/") for verb, path in Application(unit)._routes}
    finally:
        unit.close()


@pytest.fixture
def world(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> World:
    accounts(tmp_path, monkeypatch)
    provider = drive_provider(core, clock, model, tmp_path, [HOME | {"terminal": False}], ucloud=ORIGINS)
    return World(core, provider, model, clock, serve(provider))


@pytest.mark.parametrize("era", ["today"], scope="session")
@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.routes[0])
def test_a_route_that_is_refused_says_why(world: World, row: Row) -> None:
    sync(world)
    name_users(world, ADA)
    world.work()
    drive = world.core.drives.named(f"h-example/home/{ADA}").id
    for route in row.routes:
        verb, path = route.replace("{id}", "example").split(" ")
        body = {"items": [{"id": drive, "folder": f"/{drive}", "newTitle": "x"}]}
        status, said = world.core.call(verb, path, body, user=ADA)
        assert (status, said["errorCode"], said["why"]) == row.refusal


@pytest.mark.parametrize("era", ["today"], scope="session")
def test_a_terminal_is_refused_as_the_page_says(world: World) -> None:
    sync(world)
    name_users(world, ADA)
    world.work()
    (row,) = [row for row in rows("Calls about files") if row.what == "the same, in other drives"]
    drive = world.core.drives.named(f"h-example/home/{ADA}").id
    body = {"items": [{"folder": f"/{drive}"}]}
    status, said = world.core.call("POST", "/ucloud/example/jobs/openTerminalInFolder", body, user=ADA)
    assert (status, said["errorCode"], said["why"]) == row.refusal


def test_every_route_of_the_contract_is_on_the_page_once() -> None:
    named = [route for row in EVERY for route in row.routes]
    assert len(set(named)) == len(named)
    assert set(named) >= CONTRACT


def test_what_the_page_calls_answered_is_answered_and_nothing_else(tmp_path: Path) -> None:
    answered = {f"{verb} {path}" for verb, path in generate.routes()}
    about_files = {route for route in answered if re.search(r"/(files|shares|tasks)(/|$)|TerminalInFolder", route)}
    named = {route for heading in UCLOUD_CALLS for row in rows(heading) for route in row.routes}
    nobodys = {
        route
        for row in REFUSED
        if row.refusal and row.refusal[2] in ("Not Found", "Method Not Allowed")
        for route in row.routes
    }
    assert named - nobodys == about_files
    with generate.application() as app:
        provider = app.extensions["ucloud-slurm"]
        found = {route.replace("/provider-id/", "/{id}/") for route in of_application(provider)}
    assert {route for row in rows("Calls of browsers to the file unit") for route in row.routes} == found


def test_what_the_page_says_is_asked_of_ucloud_is_asked_and_nothing_else() -> None:
    used = {" ".join(call.value) for call in (*Call, *_Proven) if re.search(r"files|tasks|shares", call.value[1])}
    table = rows("Calls to UCloud")
    assert {route for row in table if not row.how.startswith("not used") for route in row.routes} == used


def test_every_test_that_the_page_names_exists() -> None:
    there = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef)
    }
    for row in EVERY:
        assert row.tests or row.how.startswith("not used"), f"{row.what}: nothing shows it"
        assert set(row.tests) <= there, row.what


def test_every_sentence_that_the_page_quotes_is_one_of_ours() -> None:
    said = strings()
    for row in rows("Bad input"):
        for sentence in re.findall(r'"([^"]+)"', row.how):
            for part in filter(None, (part.strip() for part in sentence.split("..."))):
                assert part in said, f"{row.what}: {part}"
