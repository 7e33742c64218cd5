"""The parts of the product, put together from a configuration. Web, worker and command line share it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from ucloud_slurm.bridge import naming
from ucloud_slurm.config import Config, own_account
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.scheduler import Scheduler
from ucloud_slurm.store.caches import TokenInStore
from ucloud_slurm.store.codes import Codes
from ucloud_slurm.store.connections import Connections
from ucloud_slurm.store.database import Store
from ucloud_slurm.store.health import Health
from ucloud_slurm.store.jobs import JobRow, Jobs
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.people import People
from ucloud_slurm.store.sessions import Sessions
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.turns import Turns
from ucloud_slurm.ucloud.client import read_refresh_token
from ucloud_slurm.ucloud.core import Core
from ucloud_slurm.ucloud.eras import ERAS, Era
from ucloud_slurm.ucloud.tokens import TokenCheck, read_keys
from ucloud_slurm.users.acting import Acting, OwnAccount
from ucloud_slurm.users.mapping import Mapping, Table
from ucloud_slurm.users.remote import Remote
from ucloud_slurm.users.script import Script
from ucloud_slurm.users.service import Service

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything that a request or a pass needs. ``now`` gives seconds since the epoch."""

    config: Config
    era: Era
    mapping: Mapping
    people: People
    codes: Codes
    connections: Connections
    store: Store
    jobs: Jobs
    outbox: Outbox
    sessions: Sessions
    wallets: Wallets
    health: Health
    scheduler: Scheduler
    core: Core
    tokens: TokenCheck
    turns: Turns
    now: Clock

    @classmethod
    def open(cls, config: Config, *, now: Clock = time.time, scheduler: Scheduler | None = None) -> Self:
        """Opens the database, reads the keys, finds the accounts.

        :param scheduler: instead of the configured one
        :raises Misconfigured: when something of it cannot be used
        """
        tokens = TokenCheck(read_keys(config.ucloud.public_key_file), config.ucloud.issuer)
        refresh_token = read_refresh_token(config.ucloud.refresh_token_file)
        store = Store(config.database.path)
        people = People(store)
        return cls(
            config=config,
            era=_era(config),
            mapping=_mapping(config, store, people, now),
            people=people,
            codes=Codes(store),
            connections=Connections(store),
            store=store,
            jobs=Jobs(store),
            outbox=Outbox(store),
            sessions=Sessions(store, config.sessions),
            wallets=Wallets(store),
            health=Health(store),
            scheduler=scheduler or Commands(config.slurm.commands, config.slurm.conf, config.slurm.timeout),
            core=Core(
                config.ucloud.url,
                refresh_token,
                now=now,
                timeout=config.ucloud.timeout,
                tokens=TokenInStore(store),
                ca_file=config.ucloud.ca_file,
            ),
            tokens=tokens,
            turns=Turns(config.slurm.submit_at_once),
            now=now,
        )

    @property
    def reports_usage(self) -> bool:
        """Whether use is told as absolute numbers."""
        mode = self.config.accounting.mode
        return mode == "report-usage" or (mode == "auto" and self.era.reports_usage)

    def job_folder(self, row: JobRow) -> str:
        """The folder of a job.

        :raises Forbidden: its account has vanished
        """
        person = self.mapping.person(row.local_user)
        return naming.folder(self.config.jobs.folder, person.home, person.user, row.id)

    def acting(self, user: str) -> Acting:
        """How to act as a local user: here, or through the runner."""
        return OwnAccount() if user == own_account() else Remote(self.config.users.runner, user)

    def close(self) -> None:
        """Closes the database and the connections to UCloud."""
        self.turns.close()
        self.core.close()
        self.store.close()


def _era(config: Config) -> Era:
    """The era, with what the site wants otherwise."""
    era, failed = ERAS[config.ucloud.era], config.jobs.failed
    if era.reports_usage and config.accounting.mode == "charge":
        raise Misconfigured([f"accounting.mode: UCloud of the era {era.name} reads no time from charges; leave it out, "
                             "and it is told what was used."])  # fmt: skip
    return era if failed == "auto" else replace(era, exit_code_is_failure=failed == "FAILURE")


def _mapping(config: Config, store: Store, people: People, now: Clock) -> Mapping:
    match config.users.mapping:
        case "table":
            return Table(config, people)
        case "script":
            return Script(config, store, now)
        case _:
            return Service(config)
