"""A provider with drives, its file unit and a web client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.support.drives import HOME, accounts, drive_provider, project_drive
from tests.support.file_world import ORIGINS, FileWorld, file_world
from tests.support.model import Model


@pytest.fixture
def rules(tmp_path: Path) -> list[dict[str, Any]]:
    return [HOME, project_drive(tmp_path, read_only=True)]


@pytest.fixture
def transfers() -> dict[str, Any]:
    """The table of the configuration."""
    return {}


@pytest.fixture
def world(
    core: SimulatedCore,
    clock: Clock,
    model: Model,
    tmp_path: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    rules: list[dict[str, Any]],
    transfers: dict[str, Any],
) -> World:
    accounts(tmp_path, monkeypatch)
    provider = drive_provider(core, clock, model, tmp_path, rules, ucloud=ORIGINS, transfers=transfers)
    return World(core, provider, model, clock, serve(provider))


@pytest.fixture
def place(world: World, tmp_path: Path) -> Iterator[FileWorld]:
    with file_world(world, tmp_path) as place:
        yield place
