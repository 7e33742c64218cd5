"""What tests share: a movable clock, one real cluster, a simulated Core, sites as an administrator installs them."""

import gc
import itertools
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from pytest_mock import MockerFixture
from werkzeug.serving import make_server

from tests.sandbox import homes
from tests.sandbox.claim import new_cluster
from tests.sandbox.cluster import Cluster, ClusterSettings
from tests.sandbox.core import ERAS, SimulatedCore
from tests.sandbox.installation import Installation
from tests.sandbox.processes import wait_until
from tests.sandbox.relay import Relay
from tests.sandbox.site import PRODUCTS, Site, SiteSettings
from tests.support import foreign, once
from tests.support.keys import next_key
from tests.support.model import Model, ModelJob
from ucloud_slurm.app import create_app
from ucloud_slurm.config import Config, parse
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.outbox import ANSWER_SECONDS
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.web.live import hub
from ucloud_slurm.worker.run import Result, run_once

START = 1_795_000_000.0


class Clock:
    """A clock that only moves when a test moves it. Seconds since the epoch."""

    def __init__(self, time: float = START) -> None:
        self.time = time
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pytest_configure() -> None:
    """Foreign calls are looked at from now on; examples have all the time that a busy machine takes."""
    foreign.install()
    once.install()
    hypothesis.settings.register_profile("busy", deadline=None)
    hypothesis.settings.load_profile("busy")


@pytest.fixture(autouse=True)
def foreign_calls() -> Iterator[list[str]]:
    """Calls that wait for others in a write transaction: there are none, also where the error that they raise is answered."""
    foreign.violations.clear()
    yield foreign.violations
    assert foreign.violations == []


@pytest.fixture(autouse=True)
def records() -> Iterator[None]:
    """A command that runs in the process of the tests writes its records to its journal; the next test sees its own again."""
    logger = logging.getLogger("ucloud_slurm")
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live-jobs", type=int, default=300, help="How many jobs live while UCloud is away for a day.")
    parser.addoption("--own-homes", action="store_true", help="Hide the homes that runs beside this one use (root).")
    parser.addoption("--era", choices=list(ERAS), help="Run every test as with the Core of that era.")
    parser.addoption(
        "--backend", choices=["commands", "pyslurm"], help="Try that backend of the Scheduler and fail where it cannot be used."
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Conversations are had with the Core of every era; other tests with that of 2021, unless one is named."""
    own = any("era" in marker.args[0] for marker in metafunc.definition.iter_markers("parametrize"))
    if "era" in metafunc.fixturenames and not own:
        everywhere = metafunc.definition.get_closest_marker("every_era") is not None
        chosen = metafunc.config.getoption("--era") or ("2021" if not everywhere else None)
        metafunc.parametrize("era", [chosen] if chosen else list(ERAS), scope="session")


@pytest.fixture(scope="session", autouse=True)
def no_backoff() -> Iterator[None]:
    """Calls of UCloud are repeated as often as ever, but at once: no clock of a test moves in between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None))
        yield


def pytest_collection_finish() -> None:
    """Python's collector looks rarely, and at what the tests leave, not at thousands of tests each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a cluster is marked: ``make test`` runs the rest beside it. What is timed comes last."""
    for item in items:
        if {"cluster", "room"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("real")
    items.sort(key=lambda item: item.get_closest_marker("timed") is not None)


@pytest.fixture
def core(clock: Clock, era: str) -> Iterator[SimulatedCore]:
    """A Core by the test's clock."""
    core = SimulatedCore(provider="example", era=ERAS[era], now=clock, new_key=next_key, timeout=60.0)
    core.start()
    yield core
    core.stop()
    assert core.protocol_errors == []
    assert core.ended is None


def configuration(core: SimulatedCore, folder: Path, **tables: Any) -> Config:
    """A configuration for a provider in this process."""
    (folder / "token").write_text(core.refresh_token)
    (folder / "key").write_text(core.public_key)
    data: dict[str, Any] = {
        "provider": {"id": "example", "url": "http://127.0.0.1:1"},
        "ucloud": {
            "url": core.url,
            "refresh_token_file": str(folder / "token"),
            "public_key_file": str(folder / "key"),
            "timeout": "5s",
            "era": core.era.name,
        },
        "database": {"path": str(folder / "test.db")},
        "jobs": {"folder": str(folder / "jobs"), "grace": "30s", "quiet": "30s"},
        "accounting": {"every": "0s"},
        "products": [dict(product) for product in PRODUCTS],
    }
    for name, table in tables.items():
        data[name] = table if isinstance(table, list) else {**data.get(name, {}), **table}
    return parse(data)


@pytest.fixture
def model(clock: Clock) -> Model:
    return Model(clock)


Open = Callable[..., Provider]


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that has had every migration, and nothing else: making one takes most of the time of a short test."""
    path = tmp_path_factory.mktemp("database") / "new.db"
    store = Store(path)
    store.change("update generation set host = null, host_name = null, inode = null")  # no file yet, so that a copy is one
    store.checkpoint()
    store.close()
    return path


@pytest.fixture
def submit_within() -> str:
    """``jobs.submit_within``: a busy host submits in it what an idle one does. A test of the time overrides it."""
    return "20s"


@pytest.fixture
def open_provider(
    core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, new_database: Path, submit_within: str
) -> Iterator[Open]:
    """Opens a provider over the model of Slurm; again after it was closed, as a restart does."""
    opened: list[Provider] = []

    def open_(**tables: Any) -> Provider:
        tables["jobs"] = {"submit_within": submit_within} | tables.get("jobs", {})
        config = configuration(core, tmp_path, **tables)
        if not config.database.path.exists():
            shutil.copy(new_database, config.database.path)
        provider = Provider.open(config, now=clock, scheduler=model)
        model.user = provider.mapping.identity("user", None).person.user
        opened.append(provider)
        return provider

    yield open_
    for provider in opened:
        provider.close()


Serve = Callable[[Provider], str]


@contextmanager
def served(core: SimulatedCore, provider: Provider) -> Iterator[str]:
    """Serves a provider over HTTP in this process, and lets Core know where."""
    app = create_app(provider=provider)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
    url = f"http://127.0.0.1:{server.port}"
    core.connect(url)
    yield url
    server.shutdown()
    server.server_close()
    app.extensions["ucloud-slurm-live"].stop()


@pytest.fixture
def serve(core: SimulatedCore) -> Iterator[Serve]:
    """See :func:`served`."""
    with ExitStack() as stack:
        yield lambda provider: stack.enter_context(served(core, provider))


@dataclass
class World:
    """Core, provider and model of Slurm, joined."""

    core: SimulatedCore
    provider: Provider
    model: Model
    clock: Clock
    url: str

    def submit(self, **more: Any) -> str:
        """A researcher starts a job; returns UCloud's id."""
        arguments: dict[str, Any] = {
            "application": ("sleeper", "1.0.0"),
            "product": "example-compute-1",
            "parameters": {"seconds": {"type": "integer", "value": 60}},
            "minutes": 30,
        }
        job_id = self.core.submit(**(arguments | more))
        # On a busy machine the answer comes before the end of what was begun in time.
        wait_until("its submission is over", lambda: self.row(job_id).claimed_until is None, seconds=20)
        self.clock.advance(ANSWER_SECONDS)  # UCloud hears nothing before it has the answer
        return job_id

    def slurm(self, job_id: str) -> ModelJob:
        """The only Slurm job of a UCloud job; what was not begun in time on a busy machine is submitted by the worker."""
        if not self.model.of(job_id):
            self.work()
        (found,) = self.model.of(job_id)
        return found

    def work(self, seconds: float = 0.0) -> Result:
        """Time passes, and the worker does a pass."""
        self.clock.advance(seconds)
        return run_once(self.provider)

    def row(self, job_id: str) -> JobRow:
        """What the database says of a job."""
        row = self.provider.jobs.get(job_id)
        assert row is not None
        return row

    def told(self, job_id: str) -> list[str]:
        """The states that Core was told, in order."""
        return [update["state"] for update in self.core.job(job_id).updates if update["state"]]

    def booked(self, job_id: str) -> int:
        """The units times multiplier that Core has booked; what was reported last, where use is reported."""
        if self.provider.reports_usage:
            scope = f"example/example-compute/job/{job_id}"
            return max((report.usage for report in self.core.accounts.reports if report.scope == scope), default=0)
        return sum(charge.units * charge.multiplier for charge in self.core.job(job_id).charges)


@pytest.fixture
def world(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock) -> World:
    """Everything but a real Slurm, by the test's clock."""
    provider = open_provider()
    return World(core, provider, model, clock, serve(provider))


@pytest.fixture
def quick_hub(mocker: MockerFixture) -> None:
    """Logs and shells of a job that has ended are closed within 20 ms."""
    mocker.patch.object(hub, "POLL_SECONDS", 0.02)


# -- the real thing ---------------------------------------------------------------------------------------------


ROOM = Path("/var/tmp")
PORTS_OF_A_CLUSTER = 300


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The private cluster that all tests of this run share. Another run has one beside it, with the same accounts."""
    own_homes = request.config.getoption("--own-homes")
    if own_homes:
        homes.unshare()
    with new_cluster(ROOM, _describe) as cluster, ExitStack() as stack:
        if own_homes:
            stack.enter_context(homes.covered(cluster.folder / "own-homes", [cluster.service_user, *cluster.users]))
        yield cluster


def _describe(number: int, folder: Path) -> Cluster:
    return Cluster(ClusterSettings(folder=folder, base_port=16_000 + PORTS_OF_A_CLUSTER * (number - 1)), print)


@pytest.fixture(scope="session")
def installation(cluster: Cluster) -> Installation:
    """The product, where the service account can read it."""
    installation = Installation(cluster.folder / "product")
    installation.make()
    return installation


@pytest.fixture
def relay(cluster: Cluster) -> Iterator[Relay]:
    """A way to slurmctld that can be cut."""
    with Relay(cluster) as relay:
        yield relay


_numbers = itertools.count(1)
OpenSite = Callable[..., tuple[Site, SimulatedCore]]


@contextmanager
def site_opener(cluster: Cluster, installation: Installation) -> Iterator[OpenSite]:
    """Gives a function that installs and starts sites; in the end their logs are looked through."""
    opened: list[tuple[Site, SimulatedCore]] = []

    def open_(
        *, start: bool = True, loop: float | None = None, era: str = "2021", **settings: Any
    ) -> tuple[Site, SimulatedCore]:
        number = next(_numbers)
        # On the shared cluster a job is known by its id.
        core = SimulatedCore(provider="example", era=ERAS[era], first_id=54_112 + 1000 * number)
        core.start()
        folder = cluster.folder / "sites" / f"test-{number}"
        site = Site(cluster, core, installation, SiteSettings(folder=folder, **settings))
        opened.append((site, core))
        site.install()
        if start:
            site.start()
        if loop is not None:
            site.loop(loop)
        return site, core

    try:
        yield open_
    finally:
        for site, core in opened:
            site.stop()
            core.stop()
    for site, core in opened:
        assert core.protocol_errors == []
        assert core.ended is None
        assert "Traceback" not in site.log.read_text()


@pytest.fixture
def open_site(cluster: Cluster, installation: Installation) -> Iterator[OpenSite]:
    """Installs and starts sites, each with a Core of its own."""
    with site_opener(cluster, installation) as open_:
        yield open_
