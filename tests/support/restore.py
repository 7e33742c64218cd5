"""Databases that come from a backup, and databases that are lost; jobs that live meanwhile, and what became of them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Open, Serve, World
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.worker import reconcile as worker_reconcile
from ucloud_slurm.worker.comparison import Act
from ucloud_slurm.worker.reconcile import Outcome
from ucloud_slurm.worker.run import Result

FINAL = ("SUCCESS", "FAILURE", "EXPIRED")


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
            file.unlink(missing_ok=True)  # SQLite deletes its own at the last close
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


def started(world: World, **more: Any) -> str:
    """A job that runs, of which UCloud knows."""
    job = world.submit(**more)
    world.work(1)
    world.model.begin_run(world.slurm(job))
    for _ in range(10):  # on a busy machine a call may be repeated by the next pass
        if world.core.job(job).state != "RUNNING":
            world.work(1)
    assert world.core.job(job).state == "RUNNING"
    return job


def pass_time(world: World, seconds: int, step: int = 60) -> None:
    for _ in range(seconds // step):
        world.work(step)


def end(world: World, job: str, state: SlurmState = SlurmState.COMPLETED) -> None:
    world.model.end(world.slurm(job), state)
    world.model.purge(world.slurm(job))


def drain(world: World) -> None:
    """All that can be reported is."""
    for number in range(30):
        done = world.work(20) is Result.DONE and world.provider.outbox.waiting() == 0
        if done and number >= 5:
            break
    assert world.provider.outbox.waiting() == 0


def reconcile(world: World, **more: Any) -> Outcome:
    return worker_reconcile.reconcile(world.provider, **more)


def acts(outcome: Outcome) -> dict[str, Act]:
    return {each.job.id: each.act for each in outcome.differences}


def check(world: World, *jobs: str) -> None:
    """Every job is one Slurm job, has one last state, and costs what it used; reports of its use only grow."""
    for job in jobs:
        slurm = world.slurm(job)
        states = world.told(job)
        assert len({state for state in states if state in FINAL}) <= 1
        assert abs(world.booked(job) * 60 - world.model.used(slurm)) <= 60
        if world.provider.reports_usage:
            scope = f"example/example-compute/job/{job}"
            sent = [report.usage for report in world.core.accounts.reports if report.scope == scope]
            assert sent == sorted(sent)
        else:
            ids = [charge.charge_id for charge in world.core.job(job).charges]
            assert len(ids) == len(set(ids))
    if all(world.core.job(job).state in FINAL for job in jobs):  # they have one wallet
        assert abs(sum(world.booked(job) * 60 - world.model.used(world.slurm(job)) for job in jobs)) <= 60


def behind(world: World) -> tuple[str, str]:
    """An older database that cannot be reconciled yet: a job that has ended meanwhile, and one that is new."""
    old_job = started(world)
    old = backup(world)
    pass_time(world, 120)
    new_job = started(world)
    pass_time(world, 60)
    restore(world, old)
    world.model.accounting = False
    return old_job, new_job
