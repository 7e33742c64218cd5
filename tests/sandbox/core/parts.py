"""The parts of the simulated Core, put together."""

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.early.control import Control
from tests.sandbox.core.early.credits import Wallets
from tests.sandbox.core.early.job import Include, JobRendering, Rendering
from tests.sandbox.core.early.support import Support
from tests.sandbox.core.era import CORE_2021, CoreEra
from tests.sandbox.core.exchanges import Exchanges
from tests.sandbox.core.faults import Faults
from tests.sandbox.core.jobs import FIRST_ID, CoreJob, Jobs
from tests.sandbox.core.lines import Lines
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.routes import INCOMING, INCOMING_TODAY, outgoing
from tests.sandbox.core.server import CoreServer
from tests.sandbox.core.today.control import ControlToday
from tests.sandbox.core.today.features import Features
from tests.sandbox.core.today.job import JobToday
from tests.sandbox.core.today.notifications import Notifications
from tests.sandbox.core.today.quotas import Accounts
from tests.sandbox.core.tokens import Tokens
from tests.sandbox.errors import SandboxError

Json = dict[str, Any]
QUICK = 2.0


class CoreParts:
    """What the simulated Core is made of, under one lock. Used as :class:`SimulatedCore`.

    :ivar provider: the provider's id
    :ivar era: whose Core this is
    :ivar wallets: see :class:`Wallets`
    :ivar catalogue: see :class:`Catalogue`; it begins with a few applications and products
    :ivar accounts: see :class:`Accounts`; what an era has that does not charge credits
    :ivar directory: see :class:`Directory`
    :ivar notifications: see :class:`Notifications`
    :ivar tokens: see :class:`Tokens`
    :ivar faults: see :class:`Faults`
    :ivar include_resolved: whether the Jobs in provider calls carry their application, product and support,
        as the guide's examples do, or null, as its table says; a provider must live with both
    :ivar asks_support: whether submitting asks retrieveProducts first, every quarter of an hour, and
        refuses what the provider does not support; an era that polls does so every ten seconds, and looks at
        every feature
    :ivar quick: seconds within which each answer to a poll must be there
    :ivar manifest: whether one has to connect, as the provider said last; None while it did not
    """

    def __init__(
        self,
        provider: str = "example",
        era: CoreEra = CORE_2021,
        now: Callable[[], float] = time.time,
        *,
        timeout: float = 5.0,
        retry_wait: float | None = None,
        first_id: int = FIRST_ID,
    ) -> None:
        """Make the keys; nothing is served yet.

        :param now: seconds since the epoch; the only clock that is written down or compared with
        :param timeout: seconds that the provider has for an answer
        :param retry_wait: seconds between integration.init and the next try, after 449 or 503; the era's unless given
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
        self.manifest: bool | None = None
        self.quick = QUICK
        self.tokens = Tokens(provider, now, self._changed, era.tokens)
        self.wallets = Wallets(self._changed)
        self.catalogue = Catalogue(provider, self._changed, era.job_form)
        self._routes = INCOMING_TODAY if era.reading == "by type" else INCOMING
        self.faults = Faults(self._changed, frozenset(self._routes.values()), outgoing(provider))
        self._exchanges = Exchanges(self._changed, now)
        self._jobs = Jobs(self._changed, now, first_id)
        self.directory = Directory(self._changed, self._jobs.now_ms)
        self.accounts = Accounts(
            self._changed, self._jobs.now_ms, is_free=self.catalogue.is_free, complain=self._complain
        )
        self._support = Support(self._changed, now)
        self._features = Features(self._changed)
        self._features_at: float | None = None
        self._rendering: JobRendering = (
            Rendering(era, self.catalogue, self._support)
            if era.job_form == "first"
            else JobToday(self.catalogue, self._features)
        )
        self.notifications = Notifications(
            self._changed, self.tokens, self.accounts, self.directory, self.catalogue, self._complain
        )
        common = (provider, era, self._changed, self.tokens, self._jobs)
        self._first_control = Control(*common, self.wallets, self.catalogue, self._rendering, self.directory)
        later = ControlToday(*common, self.accounts, self.catalogue, self._rendering, self.directory)
        self._server = CoreServer(
            era,
            self.tokens,
            self._routes,
            later.work() if era.reading == "by type" else self._first_control.work(),
            exchanges=self._exchanges,
            faults=self.faults,
            complain=self._complain,
            crashed=self._crash,
            notifications=self.notifications if era.accounting == "quotas" else None,
        )
        self._calls = ProviderCalls(
            provider,
            era,
            self.tokens,
            exchanges=self._exchanges,
            faults=self.faults,
            complain=self._complain,
            timeout=timeout,
            retry_wait=era.repeat_wait if retry_wait is None else retry_wait,
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

    def _rendered(self, job: CoreJob, *, others: bool = True) -> Json:
        """A Job for the provider.

        :param others: whether with those who may use it too, where that is sent at all
        """
        if self.era.job_form == "second":
            include = Include(application=True, product=True, support=True, updates=True, others=others)
            return self._rendering.job(self.job(job.id), include, permissions=True)
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
