"""The parts of the simulated Core, put together."""

import threading
import time
from collections.abc import Callable
from typing import Any

from ucloud_slurm.sandbox.core.catalogue import Catalogue
from ucloud_slurm.sandbox.core.control import Control
from ucloud_slurm.sandbox.core.era import CORE_2021, CoreEra
from ucloud_slurm.sandbox.core.exchanges import Exchanges
from ucloud_slurm.sandbox.core.faults import Faults
from ucloud_slurm.sandbox.core.jobs import FIRST_ID, CoreJob, Jobs
from ucloud_slurm.sandbox.core.lines import Lines
from ucloud_slurm.sandbox.core.provider import ProviderCalls
from ucloud_slurm.sandbox.core.rendering import Include, Rendering
from ucloud_slurm.sandbox.core.routes import INCOMING, outgoing
from ucloud_slurm.sandbox.core.server import CoreServer
from ucloud_slurm.sandbox.core.support import Support
from ucloud_slurm.sandbox.core.tokens import Tokens
from ucloud_slurm.sandbox.core.wallet import Wallets
from ucloud_slurm.sandbox.errors import SandboxError

Json = dict[str, Any]


class CoreParts:
    """What the simulated Core is made of, under one lock. Used as :class:`SimulatedCore`.

    :ivar provider: the provider's id
    :ivar era: whose Core this is
    :ivar wallets: see :class:`Wallets`
    :ivar catalogue: see :class:`Catalogue`; it begins with a few applications and products
    :ivar tokens: see :class:`Tokens`
    :ivar faults: see :class:`Faults`
    :ivar include_resolved: whether the Jobs in provider calls carry their application, product and support,
        as the guide's examples do, or null, as its table says; a provider must live with both
    :ivar asks_support: whether submitting asks retrieveProducts first, every quarter of an hour, and
        refuses what the provider does not support
    """

    def __init__(
        self,
        provider: str = "example",
        era: CoreEra = CORE_2021,
        now: Callable[[], float] = time.time,
        *,
        timeout: float = 5.0,
        retry_wait: float = 0.2,
        first_id: int = FIRST_ID,
    ) -> None:
        """Make the keys; nothing is served yet.

        :param now: seconds since the epoch; the only clock that is written down or compared with
        :param timeout: seconds that the provider has for an answer
        :param retry_wait: seconds between integration.init and the next try, after 449 or 503
        :param first_id: id of the first job
        """
        self.provider = provider
        self.era = era
        self._now = now
        self._changed = threading.Condition(threading.RLock())
        self._protocol_errors: list[str] = []
        self._crashes: list[str] = []
        self._url: str | None = None
        self._timeout = timeout
        self.include_resolved = True
        self.asks_support = False
        self.tokens = Tokens(provider, now, self._changed)
        self.wallets = Wallets(self._changed)
        self.catalogue = Catalogue(provider, self._changed)
        self.faults = Faults(self._changed, frozenset(INCOMING.values()), outgoing(provider))
        self._exchanges = Exchanges(self._changed, now)
        self._jobs = Jobs(self._changed, now, first_id)
        self._support = Support(self._changed, now)
        self._rendering = Rendering(era, self.catalogue, self._support)
        self._control = Control(
            provider,
            era,
            self._changed,
            self.tokens,
            self._jobs,
            self.wallets,
            self.catalogue,
            self._rendering,
        )
        self._server = CoreServer(self._control, self._exchanges, self.faults, self._complain, self._crash)
        self._calls = ProviderCalls(
            provider,
            era,
            self.tokens,
            exchanges=self._exchanges,
            faults=self.faults,
            complain=self._complain,
            timeout=timeout,
            retry_wait=retry_wait,
        )
        self._lines = Lines(self._calls, era, self._complain, self._crash, timeout)

    def job(self, job_id: str) -> CoreJob:
        """A job as it is now: a copy that does not change.

        :raises CoreError: 404
        """
        return self._jobs.get(job_id)

    @property
    def url(self) -> str:
        """Base address of Core. Stays what it was after a stop.

        :raises SandboxError: before the first start
        """
        if self._url is None:
            raise SandboxError("The simulated Core was not started yet.")
        return self._url

    def _rendered(self, job: CoreJob) -> Json:
        whole = self.include_resolved
        include = Include(application=whole, product=whole, support=whole)
        return self._rendering.job(self.job(job.id), include, permissions=False)

    def _complain(self, sentence: str) -> None:
        with self._changed:
            self._protocol_errors.append(sentence)
            self._changed.notify_all()

    def _crash(self, trace: str) -> None:
        with self._changed:
            self._crashes.append(trace)
