"""P10: the verbs of the database, for programs; their words for people are those of the guides."""

import json
import time

import pytest
from click.testing import CliRunner, Result

from tests.conftest import World
from tests.support.database import mark_restored
from ucloud_slurm.cli.check import _database
from ucloud_slurm.cli.main import main
from ucloud_slurm.store import backup


@pytest.fixture(autouse=True)
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verbs find the world's configuration."""
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: world.provider.config)


def ask(*words: str) -> Result:
    return CliRunner().invoke(main, ["database", *words], catch_exceptions=False)


def test_backups_are_described_to_programs(world: World) -> None:
    world.submit()
    made = json.loads(ask("backup", "--json").stdout)
    assert set(made) == {"path", "size", "migration", "jobs", "written_at"}
    assert made["jobs"] == 1
    assert json.loads(ask("verify", made["path"], "--json").stdout) == made
    assert json.loads(ask("verify", "--json").stdout)["path"] == str(world.provider.store.path)


def test_what_is_wrong_is_one_line_and_a_status(world: World) -> None:
    damaged = world.provider.store.path.parent / "damaged.db"
    damaged.write_bytes(b"no database " * 100)
    for words in (("verify", str(damaged)), ("verify", str(damaged), "--json")):
        refused = ask(*words)
        assert (refused.exit_code, refused.stdout) == (78, "")
        assert refused.stderr == f"ucloud-slurm: {damaged} is not an SQLite database.\n"
    assert ask("restore", "/none/at/all").exit_code == 1, "it is in use"
    (world.provider.store.path.parent / "backups").write_text("a file is in the place of the folder")
    refused = ask("backup")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (78, 1)


def test_check_says_when_backups_are_missing_or_the_database_is_behind(world: World) -> None:
    config = world.provider.config
    assert [level for level, _ in _database(config)] == ["ok"]
    world.submit()
    assert any("no backup in" in text for level, text in _database(config) if level == "warning")
    backup.make(config.database.path, config.database.backup_folder, time.time() - 3 * 86400)
    assert any("no backup since" in text for level, text in _database(config) if level == "warning")
    ask("backup")
    assert [level for level, _ in _database(config)] == ["ok"]
    mark_restored(world.provider.store, 1.0)
    assert any("ucloud-slurm reconcile" in text for level, text in _database(config) if level == "failed")
