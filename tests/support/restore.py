"""Databases that come from a backup, and databases that are lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.conftest import Open, Serve, World


def backup(world: World, name: str = "backup.db") -> Path:
    """A copy of the database as it is now."""
    path = world.provider.config.database.path
    copy = path.with_name(name)
    _copy(path, copy)
    return copy


def restore(world: World, copy: Path) -> None:
    """The copy takes the place of the database, as an administrator would do it; nothing of it is marked."""
    _copy(copy, world.provider.config.database.path)


def lose(world: World, open_provider: Open, serve: Serve) -> World:
    """The database is lost; a new one is made. The file beside it is still there."""
    path = world.provider.config.database.path
    world.provider.close()
    for file in path.parent.glob(f"{path.name}*"):
        if not file.name.endswith(".generation"):
            file.unlink()
    provider = open_provider()
    return World(world.core, provider, world.model, world.clock, serve(provider))


def dump(world: World) -> list[str]:
    """The whole database as SQL."""
    with closing(sqlite3.connect(world.provider.config.database.path)) as connection:
        return list(connection.iterdump())


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@contextmanager
def unreachable(world: World, what: str) -> Iterator[None]:
    """UCloud, the controller of Slurm or its accounting does not answer."""
    if what == "ucloud":
        world.core.faults.outage(True)
        yield
        world.core.faults.outage(False)
    else:
        setattr(world.model, what, False)
        yield
        setattr(world.model, what, True)
