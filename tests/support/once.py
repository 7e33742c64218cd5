"""What thousands of tests would make again and again, made once for a process: schemas of new databases, builders of URLs."""

import functools
from collections.abc import Callable
from typing import Any

from sqlite_utils import Database
from werkzeug.routing import Rule

from ucloud_slurm.store import migrations

_BEGIN, _COMMIT = "BEGIN TRANSACTION;", "COMMIT;"


def install() -> None:
    """Makes them once from now on."""
    setattr(migrations, "migrate", _replayed(migrations.migrate))  # noqa: B010
    setattr(Rule, "_compile_builder", _kept(Rule._compile_builder))  # noqa: B010


def _replayed(migrate: Callable[[Database], None]) -> Callable[[Database], None]:
    """An empty database gets by one script what all migrations have made of the first one; others are migrated as ever."""
    scripts: dict[object, list[str]] = {}

    @functools.wraps(migrate)
    def replayed(db: Database) -> None:
        if db.execute("select 1 from sqlite_schema limit 1").fetchone():
            migrate(db)
            return
        script = scripts.get(migrations.STEPS)
        if script is None:
            migrate(db)
            scripts[migrations.STEPS] = [each for each in db.conn.iterdump() if each not in (_BEGIN, _COMMIT)]
            return
        for statement in script:
            db.conn.execute(statement)

    return replayed


def _kept(compile_builder: Callable[..., Any]) -> Callable[..., Any]:
    """Flask compiles two functions for each route of each application; they depend on the rule only."""
    kept: dict[tuple[object, ...], Any] = {}

    @functools.wraps(compile_builder)
    def builder(rule: Rule, append_unknown: bool = True) -> Any:
        if rule.defaults:
            return compile_builder(rule, append_unknown)
        key = (rule.rule, tuple(rule._trace), append_unknown)
        if key not in kept:
            kept[key] = compile_builder(rule, append_unknown)
        return kept[key]

    return builder
