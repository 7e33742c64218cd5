"""`drives` and what `check` says of drives: each finding names what to do."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import Clock, World
from tests.sandbox.core import SimulatedCore
from tests.support.drives import ADA, HOME, accounts, drive_provider, name_users, project_drive, sync
from tests.support.model import Model
from ucloud_slurm.cli.check_drives import drives
from ucloud_slurm.cli.checking import Budget
from ucloud_slurm.cli.main import main

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
Make = Callable[..., World]


@pytest.fixture
def make(core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a provider with these drives; nobody serves it."""
    accounts(tmp_path, monkeypatch)

    def make_(rules: Sequence[dict[str, Any]] = (HOME,), **tables: Any) -> World:
        return World(core, drive_provider(core, clock, model, tmp_path, rules, **tables), model, clock, "")

    return make_


def said(world: World, socket: Path) -> list[tuple[str, str]]:
    return list(drives(world.provider.config, Budget(30), socket))


def test_all_is_well_with_drives_that_are_there(make: Make, tmp_path: Path) -> None:
    world = make()
    sync(world)
    found = said(world, tmp_path)
    assert [level for level, _ in found] == ["ok", "ok"]
    assert f"home: {tmp_path}/homes/ada, for example" in found[0][1]


def test_a_site_without_drives_reads_nothing_about_them(make: Make, tmp_path: Path) -> None:
    assert said(make([]), tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("rules", "tables", "words"),
    [
        ([{**HOME, "local": "/nowhere/{user}"}], {}, "/nowhere/ada is not a folder of this host"),
        ([HOME], {}, "UCloud has no product home, and shows no such drives: ucloud-slurm products sync"),
        ([HOME], {"jobs": {"folder": "/scratch/{user}"}}, "jobs.folder: /scratch/{user} is in no drive"),
        ([HOME], {"ucloud": {"era": "2022"}}, "sees no drives of this provider; use the tables [[files]]"),
        ([HOME], {}, "files.sock is not there"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(
    make: Make, tmp_path: Path, rules: list[dict[str, Any]], tables: dict[str, Any], words: str
) -> None:
    found = said(make(rules, **tables), tmp_path / "files.sock")
    assert [level for level, text in found if words in text] == ["warning"]


def test_drives_of_projects_with_one_account_for_all_are_warned_of(make: Make, tmp_path: Path) -> None:
    found = said(make([project_drive(tmp_path)], users={"mapping": "service"}), tmp_path)
    assert any(level == "warning" and "all users act as" in text for level, text in found)


def test_drives_are_listed_with_what_becomes_of_them(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make([HOME, {**HOME, "name": "scratch", "title": "Scratch", "local": "/scratch/{user}"}])
    name_users(world, ADA)
    sync(world)
    world.core.faults.answer("files.collections.control.register", 400, {"why": "no"})
    world.work()
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)

    def ask(*words: str) -> Result:
        return CliRunner().invoke(main, ["drives", *words])

    rows = {row["name"]: row for row in json.loads(ask("--json").stdout)}
    states = sorted(row["state"].partition(",")[0] for row in rows.values())
    assert states == ["not registered", "registered"]
    assert all(row["owner"] == ADA for row in rows.values())
    assert "Ada#1" in ask().stdout
    cut = ask("--most", "1")
    assert "only 1 drives are listed" in cut.stderr
