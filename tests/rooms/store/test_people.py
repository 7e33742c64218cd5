"""Connections that have ended: those of a database from before the upgrade, too."""

from pathlib import Path

import pytest

from tests.support.database import earlier_release
from ucloud_slurm.store.people import PastLink, People
from ucloud_slurm.store.sqlite import Store


def test_connections_that_ended_before_the_upgrade_are_known_and_codes_of_then_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with earlier_release(monkeypatch, 12):
        store = Store(tmp_path / "test.db")
        store.change("insert into codes (hash, username, created_at) values ('h', 'Ada#1', 1)")
        for at, what in enumerate(
            (
                "connected Ada#1 with ada",
                "disconnected Ada#1 from ada",
                "disconnected A from B from ada",
                "disconnected Ada#1 from ada",
            )
        ):
            store.change("insert into people_history (at, who, what) values (?, 'root', ?)", [at, what])
        store.close()
    store = Store(tmp_path / "test.db")
    assert People(store).former("other", "ada") == [PastLink("Ada#1", "ada", 3), PastLink("A from B", "ada", 2)]
    assert store.rows("select * from codes") == []
    store.close()
