"""The context of a request or a pass: the parts of the product, opened from a configuration.

The client of UCloud and the check of its tokens are opened at their first use: their libraries take longer to load
than a whole pass without a call to UCloud.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ucloud_slurm.bridge.naming import JobPaths
from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured, StorageError
from ucloud_slurm.slurm import factory
from ucloud_slurm.slurm.complaints import Complaints
from ucloud_slurm.slurm.scheduler import Scheduler
from ucloud_slurm.store.breaker import CircuitBreaker
from ucloud_slurm.store.caches import Cache, MemoryInStore
from ucloud_slurm.store.charges import Charges
from ucloud_slurm.store.drives import Drives
from ucloud_slurm.store.hooks import HookEvents
from ucloud_slurm.store.job_rows import OpenJob
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.maintenance import Maintenance
from ucloud_slurm.store.observations import Observations
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.people import LinkStates, People
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.tasks import Tasks
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.system import deadline
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.system.executor import FairExecutor
from ucloud_slurm.ucloud.eras import ERAS, Era
from ucloud_slurm.users.impersonation import Impersonation, RunnerClient
from ucloud_slurm.users.mapping import Mapping, Table
from ucloud_slurm.users.script import Script
from ucloud_slurm.users.service import OwnAccount, Service

if TYPE_CHECKING:
    from ucloud_slurm.store.acts import Acts
    from ucloud_slurm.store.codes import Codes
    from ucloud_slurm.store.sessions import Sessions
    from ucloud_slurm.store.transfers import Transfers
    from ucloud_slurm.ucloud.core import Core
    from ucloud_slurm.ucloud.tokens import TokenCheck
    from ucloud_slurm.users.files import FilesAs

log = logging.getLogger(__name__)

COMPLAINT_SECONDS = 3600.0
Clock = Callable[[], float]
T = TypeVar("T")


class Lazy(Generic[T]):
    """A part that is opened once, at its first use. Safe for several threads."""

    def __init__(self, open_: Callable[[], T]) -> None:
        self._open = open_
        self._lock = threading.Lock()
        self._parts: list[T] = []

    def __call__(self) -> T:
        """The part."""
        with self._lock:
            if not self._parts:
                self._parts.append(self._open())
            return self._parts[0]

    @property
    def opened(self) -> list[T]:
        """The part, if it is open."""
        return self._parts


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything that a request or a pass needs. ``now`` returns seconds since the epoch."""

    config: Config
    era: Era
    mapping: Mapping
    people: People
    link_states: LinkStates
    store: Store
    jobs: Jobs
    observations: Observations
    charges: Charges
    outbox: Outbox
    wallets: Wallets
    tasks: Tasks
    drives: Drives
    maintenance: Maintenance
    breaker: CircuitBreaker
    scheduler: Scheduler
    lazy_core: "Lazy[Core]"
    lazy_tokens: "Lazy[TokenCheck]"
    executor: FairExecutor
    now: Clock
    account: str  # of this process

    @classmethod
    def open(cls, config: Config, *, now: Clock = time.time, scheduler: Scheduler | None = None) -> Self:
        """Opens the database and the mapping of users.

        :param scheduler: instead of the configured one
        :raises Misconfigured: something in the configuration cannot be used
        """
        store = Store.of(config.database)
        people = People(store)
        if store.why_elsewhere() is None:
            HookEvents(store).configure([event for hook in config.hooks for event in hook.events])
        return cls(
            config=config, era=_era(config), mapping=_mapping(config, store, people, now), people=people,
            link_states=LinkStates(store), store=store, jobs=Jobs(store),
            observations=Observations(store), charges=Charges(store), outbox=Outbox(store),
            wallets=Wallets(store), tasks=Tasks(store), drives=Drives(store),
            maintenance=Maintenance(store), breaker=CircuitBreaker(store),
            scheduler=scheduler or factory.scheduler(config.slurm, _complaints(store, now)),
            lazy_core=Lazy(lambda: _core(config, store, now)), lazy_tokens=Lazy(lambda: _tokens(config)),
            executor=_executor(config), now=now, account=own_account(),
        )  # fmt: skip

    # Passes of the worker start without these.

    @property
    def acts(self) -> "Acts":
        """What administrators and users have changed."""
        from ucloud_slurm.store.acts import Acts

        return Acts(self.store)

    @property
    def codes(self) -> "Codes":
        """The codes with which users connect."""
        from ucloud_slurm.store.codes import Codes

        return Codes(self.store)

    @property
    def sessions(self) -> "Sessions":
        """The sessions of jobs."""
        from ucloud_slurm.store.sessions import Sessions

        return Sessions(self.store, self.config.sessions)

    @property
    def transfers(self) -> "Transfers":
        """The uploads and downloads."""
        from ucloud_slurm.store.transfers import Transfers

        return Transfers(self.store, self.config.transfers)

    @property
    def hook_events(self) -> HookEvents:
        """The events for programs of the site."""
        return HookEvents(self.store)

    @property
    def core(self) -> "Core":
        """The client of UCloud.

        :raises ElsewhereError: another host may work instead of this one
        """
        self.store.refuse_elsewhere()
        return self.lazy_core()

    @property
    def tokens(self) -> "TokenCheck":
        """The check of UCloud's tokens.

        :raises Misconfigured: UCloud's public key cannot be read
        """
        return self.lazy_tokens()

    def deadline(self) -> float:
        """Until when the call that this thread answers may wait for Slurm and others, in monotonic seconds."""
        return deadline.arrived() + self.config.jobs.submit_within

    @property
    def reports_usage(self) -> bool:
        """Whether the total use is reported to UCloud, not charges of periods."""
        mode = self.config.accounting.mode
        return mode == "report-usage" or (mode == "auto" and self.era.reports_usage)

    @property
    def offers_drives(self) -> bool:
        """Whether users see drives of this provider."""
        return bool(self.config.drives) and self.era.has_drives

    def job_paths(self, row: OpenJob) -> JobPaths:
        """The folder of a job and the files in it.

        :raises Forbidden: its user does not exist any more
        """
        return JobPaths.of(self.config.jobs.folder, self.mapping.person(row.local_user), row.id)

    def impersonation(self, user: str) -> Impersonation:
        """Impersonation of a user: here, or through the runner."""
        return OwnAccount() if user == self.account else RunnerClient(self.config.users.runner, user)

    def files(self, user: str) -> "FilesAs":
        """The files of a user: here, or through the runner."""
        # Passes of the worker start without these.
        from ucloud_slurm.users.own_files import OwnFiles
        from ucloud_slurm.users.runner_files import RunnerFiles

        return OwnFiles() if user == self.account else RunnerFiles(self.config.users.runner, user)

    def close(self) -> None:
        """Closes the database and the connections to UCloud and Slurm."""
        self.executor.close()
        self.scheduler.close()
        for core in self.lazy_core.opened:
            core.close()
        self.store.close()


def _complaints(store: Store, now: Clock) -> Complaints:
    """Logs what Slurm's commands complain about, of all passes together not more often than once an hour."""
    cache = Cache(store, "complaint", COMPLAINT_SECONDS)

    def complain(text: str) -> None:
        key = re.sub(r"\d+", "#", text)
        with suppress(StorageError):
            if cache.get(key, now()) is not None:
                return
            cache.put(key, "", now())
        log.warning("%s", text)

    return Complaints(complain)


def _executor(config: Config) -> FairExecutor:
    """The threads that submit. Where people's own programs do it, the jobs of one of them never take the last thread."""
    threads = config.slurm.submit_at_once
    return FairExecutor(threads, None if config.users.mapping == "service" else threads - 1)


def _era(config: Config) -> Era:
    """The era, with the changes that the site configures."""
    era, failed = ERAS[config.ucloud.era], config.jobs.failed
    if era.reports_usage and config.accounting.mode == "charge":
        raise Misconfigured(
            [
                f"accounting.mode: UCloud of the era {era.name} reads no time from charges; leave it out, "
                "and the use is reported to it."
            ]
        )
    return era if failed == "auto" else era._replace(exit_code_is_failure=failed == "FAILURE")


def _mapping(config: Config, store: Store, people: People, now: Clock) -> Mapping:
    match config.users.mapping:
        case "table":
            return Table(config, people)
        case "script":
            return Script(config, store, now)
        case _:
            return Service(config)


def _core(config: Config, store: Store, now: Clock) -> "Core":
    from ucloud_slurm.ucloud.core import Core

    return Core(
        config.ucloud.url,
        config.ucloud.refresh_token,
        now=now,
        timeout=config.ucloud.timeout,
        memory=MemoryInStore(store),
        ca_file=config.ucloud.ca_file,
        proxy=config.ucloud.proxy_url(),
        where=config.ucloud.token_place,
    )


def _tokens(config: Config) -> "TokenCheck":
    from ucloud_slurm.ucloud.tokens import TokenCheck, read_keys

    return TokenCheck(read_keys(config.ucloud.public_key_file), config.ucloud.issuer)
