"""The tables, as migrations. A released migration is never changed; a new one is added behind it.

Nothing of this is needed for a file that is up to date, and sqlite-utils, which runs the migrations, takes longer to
load than a pass over a few jobs.
"""

import pwd
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ucloud_slurm.store.migrations_acts import m018_requests, m019_acts
from ucloud_slurm.store.migrations_browsing import m020_browsing, m023_over
from ucloud_slurm.store.migrations_files import m016_drives
from ucloud_slurm.store.migrations_hooks import m022_hooks
from ucloud_slurm.store.migrations_initial import m001_first, m002_live, m003_people
from ucloud_slurm.store.migrations_maintenance import m017_maintenance
from ucloud_slurm.store.migrations_sessions import m021_targets
from ucloud_slurm.store.migrations_wallets import (
    m004_connections,
    m005_wallets,
    m006_confirmed,
    m007_by_periods,
    m008_scale,
    m009_pace,
    m010_watched,
    m011_identity,
    m012_remainders,
    m013_page,
    m014_repetitions,
    m015_generation,
)

if TYPE_CHECKING:
    import sqlite3

    from sqlite_utils import Database

SET = "ucloud-slurm"
_UIDS = "create temp table if not exists uids (name text primary key, uid int)"  # of accounts, while migrations run
_OPEN = "phase in ('accepted', 'submitting', 'live')"


def prepare(connection: "sqlite3.Connection") -> None:
    """Looks up the accounts that a migration needs, before its transaction: they wait in a table of this connection."""
    connection.execute(_UIDS)
    if connection.execute("select 1 from sqlite_schema where name = 'jobs'").fetchone():
        for (name,) in connection.execute(f"select distinct local_user from jobs where {_OPEN}").fetchall():
            with suppress(KeyError):
                connection.execute("insert into uids values (?, ?)", [name, pwd.getpwnam(name).pw_uid])


def migrate(db: "Database") -> None:
    """Runs the migrations that the file has not had. See :func:`prepare`."""
    from sqlite_utils import Migrations

    db.execute(_UIDS)
    migrations = Migrations(SET)
    for migration in STEPS:
        migrations()(migration)
    migrations.apply(db)


def applied(connection: "sqlite3.Connection") -> set[str]:
    """The names of the migrations that a file has had."""
    sql = "select 1 from sqlite_schema where type = 'table' and name = '_sqlite_migrations'"
    if not connection.execute(sql).fetchall():
        return set()
    return {name for (name,) in connection.execute("select name from _sqlite_migrations where migration_set = ?", [SET])}


def is_foreign(connection: "sqlite3.Connection") -> bool:
    """Whether a file that has had none of them has tables, which are another program's then."""
    return connection.execute("select 1 from sqlite_schema where type = 'table' limit 1").fetchone() is not None


# In their order. The name of each is recorded in every file that has had it.
STEPS: "tuple[Callable[[Database], None], ...]" = (
    m001_first,
    m002_live,
    m003_people,
    m004_connections,
    m005_wallets,
    m006_confirmed,
    m007_by_periods,
    m008_scale,
    m009_pace,
    m010_watched,
    m011_identity,
    m012_remainders,
    m013_page,
    m014_repetitions,
    m015_generation,
    m016_drives,
    m017_maintenance,
    m018_requests,
    m019_acts,
    m020_browsing,
    m021_targets,
    m022_hooks,
    m023_over,
)


def names() -> set[str]:
    """The names of all migrations that this release knows."""
    return {migration.__name__ for migration in STEPS}
