"""P1 to P5 when a process dies at any statement between a request and its answer, and between reading Slurm and telling UCloud.

Each case is done once, and the statements that it executes are listed. Then it is done again for each of them in a new
world, and its process is killed before that statement. After every second death UCloud asks again at once; after the
others it has dropped the job, or nobody comes back for minutes. Then new processes do passes until all is quiet.

Each statement is one death, in one of the cases that execute it. A short run has a share of them, larger in the modules
that keep the promises; ``HUNT=1`` has all of them. ``SEED`` chooses the cases, the share, and after which deaths UCloud
asks again. A failure names the value of ``KILL`` that repeats that death alone.
"""

import os
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from tests.conftest import Clock, World, configuration
from tests.sandbox.core import ERAS, SimulatedCore, UserRequest
from tests.sandbox.core.today.quotas import PLENTY
from tests.sandbox.site import PRODUCTS
from tests.support.deaths import LIFE, Answer, Fate, Life, Point, Processes, call
from tests.support.invariants import check, finish, known
from tests.support.keys import next_key
from tests.support.model import Model, ModelJob
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.states import SlurmState
from ucloud_slurm.store import migrations
from ucloud_slurm.store.job_state import JobPhase
from ucloud_slurm.web.create import Create

MEMORY = Path("/dev/shm")
HUNT = bool(os.environ.get("HUNT"))
SEED = int(os.environ.get("SEED") or 1)
KEEPERS = (
    *("web/create.py", "web/bulk.py", "provider/submission.py", "store/jobs.py", "store/outbox.py"),
    *("worker/poll.py", "worker/delivery.py", "worker/recovery.py"),
)
KEPT = 8  # one of so many of their statements is a death of a short run
OTHERS = 80  # one of so many statements of other modules
TRIES = 3  # to reach a statement that is not executed every time, such as the waiting of a thread


@dataclass
class Stage:
    """A world in which one process dies: that of a request or of a pass. Other passes are done in this process."""

    world: World
    folder: Path
    user: str
    ids: list[str] = field(default_factory=list)

    @property
    def job(self) -> ModelJob:
        return self.world.slurm(self.ids[0])

    def have(self, number: int = 1) -> None:
        """UCloud has new jobs, and has not sent them yet."""
        wanted = UserRequest(("sleeper", "1.0.0"), "example-compute-1", minutes=30, owner=self.user)
        self.ids += [job["id"] for job in self.world.core.have([wanted] * number)]

    def accept(self) -> None:
        """A job whose create was answered a minute ago."""
        self.have()
        Create(self.world.provider).accept([known(self.world, job_id) for job_id in self.ids])
        self.world.work(60)

    def run(self) -> None:
        """A job that has run for some minutes."""
        self.accept()
        self.world.model.begin_run(self.job)
        self.world.work(1)
        self.world.work(90)
        self.world.clock.advance(200)
        assert self.job.run.state is SlurmState.RUNNING

    def work(self, fate: Fate) -> Life:
        """A pass that may die."""
        return self._processes().work(fate)

    def post(self, name: str, fate: Fate, **jobs: str) -> Life:
        """A call about all jobs that may die."""
        items = [self.world.core.rendered(job_id) for job_id in self.ids]
        if name in MORE:
            items = [{"job": job} | MORE[name] for job in items]
        return self._processes(**jobs).request(call(self.world.core, name, items, self.user), fate)

    def _processes(self, **jobs: str) -> Processes:
        return Processes(settings(self.world.core, self.folder, jobs), self.world.model, self.world.clock)

    def open(self) -> None:
        """A new process instead of this one."""
        self.world.provider.close()
        config = settings(self.world.core, self.folder, {})
        self.world.provider = Provider.open(config, now=self.world.clock, scheduler=self.world.model)


MORE: Mapping[str, dict[str, Any]] = {"extend": {"requestedTime": {"hours": 0, "minutes": 30, "seconds": 0}}, "suspend": {}}


def settings(core: SimulatedCore, folder: Path, jobs: dict[str, str]) -> Any:
    products = [product | {"charge_by": "allocated", "cpus": 1, "memory_gb": 1, "gpus": 0} for product in PRODUCTS]
    unhurried = {"submit_within": "30s"}  # on a busy host, too, the same statements are executed
    return configuration(core, folder, jobs=unhurried | jobs, products=products)


@dataclass(frozen=True, slots=True)
class Cores:
    """What all worlds share: a Core of each era, in which each world has a user of its own, and an empty database."""

    template: Path
    running: dict[str, tuple[SimulatedCore, Clock]] = field(default_factory=dict)

    def of(self, era: str) -> tuple[SimulatedCore, Clock]:
        """A Core, by its clock."""
        if era not in self.running:
            clock = Clock()
            core = SimulatedCore(provider="example", era=ERAS[era], now=clock, new_key=next_key)
            core.start()
            self.running[era] = core, clock
        return self.running[era]


@pytest.fixture(scope="module")
def cores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cores]:
    template = tmp_path_factory.mktemp("template") / "test.db"
    with closing(sqlite3.connect(template, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        migrations.prepare(connection)
        migrations.migrate(Database(connection))
    cores = Cores(template)
    yield cores
    for core, _ in cores.running.values():
        core.stop()


@contextmanager
def stage(era: str, cores: Cores) -> Iterator[Stage]:
    """A new world."""
    core, clock = cores.of(era)
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    try:
        shutil.copy(cores.template, folder)
        model = Model(clock)
        provider = Provider.open(settings(core, folder, {}), now=clock, scheduler=model)
        model.user = provider.mapping.identity("user", None).person.user
        here = Stage(World(core, provider, model, clock, ""), folder, f"user-{len(core.jobs)}")
        core.accounts.set_quota(PLENTY, here.user)
        before = len(core.protocol_errors)
        yield here
        here.world.provider.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # threads that submitted may close their connections only now
    assert core.protocol_errors[before:] == []
    assert core.ended is None


# -- what dies ----------------------------------------------------------------------------------------------------

Step = Callable[[Stage], None]


def nothing(stage: Stage) -> None:
    """Nobody comes again."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a process does that dies.

    :ivar act: is done by the process
    :ivar again: what UCloud does at once, after the death
    :ivar never: what it does otherwise
    :ivar check: beside the invariants; after the death and all passes
    :ivar poor: a wallet goes dry
    """

    era: str
    prepare: Step
    act: Callable[[Stage, Fate], Life]
    again: Step = nothing
    never: Step = lambda stage: stage.world.clock.advance(300)
    check: Step = nothing
    poor: bool = False


def called(name: str) -> Callable[[Stage, Fate], Life]:
    return lambda stage, fate: stage.post(name, fate)


def repeated(name: str) -> Step:
    """UCloud, or its user, asks again, and hears that it is done."""

    def step(stage: Stage) -> None:
        # Nobody ends a submission that has died: it is not waited for.
        life = stage.post(name, LIFE, **({} if name else {"submit_within": "0.1s"}))
        assert isinstance(life.result, Answer)
        assert life.result.status == 200, life.result.body

    return step


def dropped(stage: Stage) -> None:
    """UCloud has removed the jobs, because it had no answer."""
    for job_id in stage.ids:
        stage.world.core.lose(job_id)


def pass_of(stage: Stage, fate: Fate) -> Life:
    return stage.work(fate)


def lost(kind: str) -> Step:
    def step(stage: Stage) -> None:
        setattr(stage.world.model, kind, 1)
        stage.have()
        Create(stage.world.provider).accept([known(stage.world, stage.ids[0])])
        for _ in range(6 if kind == "drop_requests" else 0):  # until the next pass submits it again
            if stage.world.row(stage.ids[0]).phase is JobPhase.SUBMITTING:
                stage.world.work(7)
        stage.world.clock.advance(7)

    return step


def ended(stage: Stage) -> None:
    stage.run()
    stage.world.model.end(stage.job, SlurmState.TIMEOUT)


def requeued(stage: Stage) -> None:
    stage.run()
    stage.world.model.requeue(stage.job, SlurmState.NODE_FAIL)
    stage.world.clock.advance(2)
    stage.world.model.begin_run(stage.job)
    stage.world.clock.advance(70)


def started(stage: Stage) -> None:
    stage.accept()
    stage.world.model.begin_run(stage.job)
    stage.world.clock.advance(70)


def marked(stage: Stage) -> None:
    """Its user has cancelled it while Slurm was away."""
    stage.run()
    stage.world.model.controller = False
    repeated("terminate")(stage)
    stage.world.model.controller = True
    stage.world.clock.advance(60)


def accepted(stage: Stage) -> None:
    """It was accepted while Slurm was away, and so the worker submits it."""
    stage.world.provider.breaker.open("slurm", "away", stage.world.clock())
    stage.have()
    Create(stage.world.provider).accept([known(stage.world, stage.ids[0])])
    stage.world.clock.advance(60)
    assert stage.world.row(stage.ids[0]).phase is JobPhase.ACCEPTED


def without_funds(stage: Stage) -> None:
    stage.run()
    if stage.world.provider.reports_usage:
        stage.world.core.accounts.set_quota(1, stage.user)
    else:
        stage.world.core.wallets.set(stage.user, credits=1)


def forgotten(stage: Stage) -> None:
    """UCloud has dropped it: the answer to its create came too late."""
    stage.have()
    Create(stage.world.provider).accept([known(stage.world, stage.ids[0])])
    dropped(stage)
    stage.world.clock.advance(60)


def is_cancelled(stage: Stage) -> None:
    assert stage.job.run.state is SlurmState.CANCELLED


def has_as_much_time_as_ucloud_says(stage: Stage) -> None:
    if stage.world.provider.era.has_new_time_allocation:
        assert stage.world.core.job(stage.ids[0]).time_allocation == 60_000 * (stage.job.minutes or 0)


CASES = {
    "create": Case("today", Stage.have, called(""), repeated(""), dropped),
    "create in 2021": Case("2021", Stage.have, called(""), repeated(""), repeated("")),
    "bulk": Case("today", lambda stage: stage.have(2), called(""), repeated(""), dropped),
    "terminate": Case("today", Stage.run, called("terminate"), repeated("terminate")),
    "extend": Case("2022", Stage.run, called("extend"), repeated("extend"), check=has_as_much_time_as_ucloud_says),
    "suspend": Case("today", Stage.run, called("suspend"), repeated("suspend")),
    "start": Case("today", started, pass_of),
    "start in 2021": Case("2021", started, pass_of),
    "use": Case("today", Stage.run, pass_of),
    "charge": Case("2021", Stage.run, pass_of),
    "end": Case("today", ended, pass_of),
    "end in 2021": Case("2021", ended, pass_of),
    "requeue": Case("today", requeued, pass_of),
    "found": Case("today", lost("lose_answers"), pass_of),
    "never arrived": Case("today", lost("drop_requests"), pass_of),
    "accepted": Case("today", accepted, pass_of),
    "marked": Case("today", marked, pass_of, check=is_cancelled),
    "forgotten": Case("today", forgotten, pass_of),
    "no funds": Case("today", without_funds, pass_of, check=is_cancelled),
    "payment required": Case("2021", without_funds, pass_of, check=is_cancelled, poor=True),
}


def play(case: Case, fate: Fate, cores: Cores, *, again: bool) -> Life:
    """A case in a new world, and what must hold in the end."""
    with stage(case.era, cores) as here:
        case.prepare(here)
        here.world.provider.close()
        life = case.act(here, fate)
        if life.result is None:
            (case.again if again else case.never)(here)
        elif isinstance(life.result, Answer):
            assert life.result.status == 200, life.result.body
        here.open()
        finish(here.world)
        check(here.world, here.ids, poor=case.poor)
        if life.result is not None or again or case.act is pass_of:
            case.check(here)
    return life


@pytest.fixture(scope="module")
def points(cores: Cores) -> dict[str, list[Point]]:
    """The statements at which the process of each case dies in this run."""
    every = {name: play(case, Fate(lists=True), cores, again=False).points for name, case in CASES.items()}
    statements = dict.fromkeys(point for some in every.values() for point in some)
    chance, chosen = random.Random(SEED), dict[str, list[Point]]((name, []) for name in CASES)
    for point in statements:
        case = chance.choice([name for name, some in every.items() if point in some])
        if HUNT or not chance.randrange(KEPT if point.file in KEEPERS else OTHERS):
            chosen[case].append(point)
    sys.stdout.write(f"SEED={SEED}: {sum(map(len, chosen.values()))} of {len(statements)} statements\n")
    return chosen


@pytest.mark.parametrize("name", CASES)
def test_a_death_at_any_statement_loses_nothing_and_doubles_nothing(
    name: str, points: dict[str, list[Point]], cores: Cores
) -> None:
    deaths, missed, failures = 0, list[Point](), list[AssertionError]()
    for number, point in enumerate(points[name]):
        try:
            if any(died(name, point, cores, again=(number + SEED) % 2 == 0) for _ in range(TRIES)):
                deaths += 1
            else:
                missed.append(point)
        except AssertionError as error:
            failures.append(error)
    sys.stdout.write(f"{name}: {deaths} deaths; not reached: {', '.join(map(str, missed)) or 'none'}\n")
    if failures:
        raise ExceptionGroup(f"{name}: {len(failures)} deaths lost or doubled something", failures[:3])
    assert len(missed) <= 1 + deaths // 10


def died(name: str, point: Point, cores: Cores, *, again: bool) -> bool:
    """Whether the process of a case was killed there; it ends before where threads went other ways."""
    try:
        return play(CASES[name], Fate(point), cores, again=again).result is None
    except Exception as error:
        error.add_note(f"To repeat this death alone: KILL='{name}@{point}@{again:d}' python -m pytest {__file__} -k named")
        raise


if "KILL" in os.environ:

    def test_the_death_that_is_named_loses_nothing_and_doubles_nothing(cores: Cores) -> None:
        name, point, again = os.environ["KILL"].split("@")
        assert any(died(name, Point.parse(point), cores, again=again == "1") for _ in range(TRIES))
