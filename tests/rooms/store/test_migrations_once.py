"""The tests' short way to a new database leads to the database that the migrations make."""

import sqlite3
from contextlib import closing

from sqlite_utils import Database

from ucloud_slurm.store import migrations


def made(migrate: object) -> list[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        migrations.prepare(connection)
        migrate(Database(connection))  # type: ignore[operator]
        found = list(connection.iterdump())
    return [each for each in found if "_sqlite_migrations" not in each] + [str(len(found))]


def test_a_replayed_schema_is_the_one_that_the_migrations_make() -> None:
    made(migrations.migrate)
    real = migrations.migrate.__wrapped__  # type: ignore[attr-defined]
    assert made(migrations.migrate) == made(real)
    assert len(made(real)) > 100
