"""A database that is older than what UCloud knows is noticed, whichever way it came, until it has been reconciled."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import World
from tests.support.database import mark_restored
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.store import generation
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.worker.run import Result

Damage = Callable[[Path, Path], None]  # of the database, with an older copy of it


def whole(path: Path, to: Path) -> None:
    """Copies a database that no process has open."""
    shutil.copy(path, to)


def copied_back(path: Path, copy: Path) -> None:
    path.write_bytes(copy.read_bytes())


def lost(path: Path, _: Path) -> None:
    path.unlink()


def copied_with_its_file(path: Path, copy: Path) -> None:
    beside = Path(f"{path}.generation")
    beside.write_text("1\n")
    path.rename(f"{path}.old")
    shutil.copy(copy, path)


def without_its_file(path: Path, _: Path) -> None:
    Path(f"{path}.generation").unlink()


def with_half_a_file(path: Path, _: Path) -> None:
    Path(f"{path}.generation").write_text("")


def reported(path: Path, times: int, now: float = 1.0) -> None:
    """A pass that has written something."""
    store = Store(path)
    for _ in range(times):
        counting = Generation(store)
        store.change("insert or replace into ucloud_users values ('u', 1)")
        counting.advance(now)
    store.close()


@pytest.mark.parametrize(
    "damage", [copied_back, lost, copied_with_its_file, without_its_file, with_half_a_file], ids=lambda one: one.__name__
)
def test_a_database_that_is_older_than_what_ucloud_knows_is_behind_until_it_was_reconciled(
    tmp_path: Path, damage: Damage
) -> None:
    path, copy = tmp_path / "test.db", tmp_path / "copy.db"
    reported(path, 1)
    whole(path, copy)
    reported(path, 2)
    damage(path, copy)
    reported(path, 5)  # counting up does not hide it
    store = Store(path)
    assert Generation(store).is_behind()
    Generation(store).confirm(2.0)
    assert not Generation(store).is_behind()
    store.close()
    reported(path, 1)
    store = Store(path)
    assert not Generation(store).is_behind()
    store.close()


def test_a_restored_database_is_behind_until_it_was_reconciled(tmp_path: Path) -> None:
    store = Store(tmp_path / "test.db")
    assert not Generation(store).is_behind()
    mark_restored(store, 1.0)
    assert Generation(store).why_behind() == "the database was restored or moved"
    Generation(store).confirm(2.0)
    assert not Generation(store).is_behind()
    store.close()


def test_a_power_failure_between_the_database_and_its_file_is_not_taken_for_a_restore(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    reported(path, 2)
    beside = Path(f"{path}.generation")
    before = beside.read_text()
    reported(path, 1)
    beside.write_text(before)
    store = Store(path)
    assert not Generation(store).is_behind()
    store.close()


def test_a_file_that_cannot_be_made_does_not_make_a_sound_database_behind(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    in_the_way = Path(f"{path}.generation.new")
    in_the_way.mkdir()
    reported(path, 2)
    store = Store(path)
    assert not Generation(store).is_behind()
    mark_restored(store, 1.0)
    Generation(store).confirm(2.0)
    assert not Generation(store).is_behind(), "it has been reconciled"
    in_the_way.rmdir()
    store.close()
    reported(path, 2)
    assert int(Path(f"{path}.generation").read_text()) == 2
    path.unlink()
    store = Store(path)
    assert Generation(store).why_behind() == "the database was lost"
    store.close()


def test_a_file_system_with_inodes_of_64_bits_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, inode, stat = tmp_path / "test.db", [2**64 - 5], Path.stat

    def large(self: Path, **more: bool) -> os.stat_result:
        found = stat(self, **more)
        return os.stat_result((found.st_mode, inode[0], *found[2:])) if self == path else found

    monkeypatch.setattr(Path, "stat", large)
    reported(path, 1)
    store = Store(path)
    assert not Generation(store).is_behind()
    store.close()
    inode[0] -= 1
    store = Store(path)
    assert Generation(store).why_behind() == "the database was copied to where it is"
    store.close()


def test_a_pass_that_wrote_nothing_does_not_count_up_until_ten_minutes_have_gone(world: World) -> None:
    counted = Path(f"{world.provider.store.path}.generation")
    world.submit()
    assert world.work(1) is Result.DONE
    first = int(counted.read_text())
    world.work(60)
    assert int(counted.read_text()) == first
    world.work(generation.ADVANCE_SECONDS)
    assert int(counted.read_text()) == first + 1


def test_a_database_of_another_host_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, machine = tmp_path / "test.db", tmp_path / "machine-id"
    monkeypatch.setattr(generation, "MACHINE_ID", machine)

    def boot(id_: str, name: str) -> None:
        machine.write_text(f"{id_}\n")
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=name))

    boot("1", "login1")
    Store(path).close()
    boot("2", "login2")
    with pytest.raises(Misconfigured, match=r"belongs to the host login1; .*: ucloud-slurm database adopt"):
        Store(path)
    boot("2", "login1")  # a system from the network, which gets a new id at every boot
    Store(path).close()
    boot("2", "login3")  # it was renamed
    Store(path).close()
    boot("uninitialized", "container")
    Store(path).close()
    boot("1", "login1")
    with pytest.raises(Misconfigured, match="belongs to the host container"):
        Store(path)
