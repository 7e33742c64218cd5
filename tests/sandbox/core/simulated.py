"""The simulated Core itself: its parts, put together, and what a test can do with it and look at."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.sandbox.core.actions import JobActions
from tests.sandbox.core.call import Call
from tests.sandbox.core.capabilities import Capabilities
from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.connections import Connections, Manifest
from tests.sandbox.core.creation import JobCreation
from tests.sandbox.core.directory import Directory
from tests.sandbox.core.drive_actions import DriveActions
from tests.sandbox.core.drives import Drives
from tests.sandbox.core.early.control import EarlyControl
from tests.sandbox.core.early.credits import Behaviour, Wallets
from tests.sandbox.core.early.job import EarlyRendering
from tests.sandbox.core.early.support import Support
from tests.sandbox.core.era import CORE_2021, CoreEra
from tests.sandbox.core.errors import CoreCrashError
from tests.sandbox.core.exchanges import Exchange, Exchanges
from tests.sandbox.core.faults import Faults
from tests.sandbox.core.files import FileActions
from tests.sandbox.core.jobs import FIRST_ID, CoreJob, Jobs
from tests.sandbox.core.polling import Polling, Verification
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.rendering import JobRendering, SentJobs
from tests.sandbox.core.routes import INCOMING, INCOMING_TODAY, outgoing
from tests.sandbox.core.server import CoreServer
from tests.sandbox.core.sessions import Sessions
from tests.sandbox.core.sockets import Sockets
from tests.sandbox.core.today.billing import TodayBilling
from tests.sandbox.core.today.control import TodayControl
from tests.sandbox.core.today.drives import DriveControl
from tests.sandbox.core.today.features import Features
from tests.sandbox.core.today.job import TodayRendering
from tests.sandbox.core.today.notifications import Notifications
from tests.sandbox.core.today.quotas import Accounts
from tests.sandbox.core.today.tasks import CoreTasks
from tests.sandbox.core.tokens import Tokens
from tests.sandbox.errors import SandboxError

Json = dict[str, Any]


class SimulatedCore:
    """Core and the users in front of it. Safe for several threads: its parts share one lock.

    Methods of the parts are offered here by their own names: of :class:`JobCreation`, :class:`JobActions`,
    :class:`Sessions`, :class:`Connections`, :class:`DriveActions`, :class:`Polling`, :class:`Verification`,
    :class:`Jobs` and others.

    :ivar provider: the provider's id
    :ivar era: whose Core this is
    :ivar drives: which there are, and who may use them
    :ivar wallets: with credits, in an era that charges them
    :ivar accounts: wallets with quotas, in an era whose provider reports its usage
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
        new_key: Callable[[], RSAPrivateKey] | None = None,
    ) -> None:
        """Make the keys; nothing is served yet.

        :param now: seconds since the epoch; the only clock that is written down or compared with
        :param timeout: seconds that the provider has for an answer
        :param retry_wait: seconds between integration.init and the next try, after 449 or 503; the era's unless given
        :param first_id: id of the first job
        :param new_key: gives its keys; a fresh one each time unless given
        """
        self.provider = provider
        self.era = era
        self._url: str | None = None
        self._changed = changed = threading.Condition(threading.RLock())
        self._complaints = complaints = Complaints(changed)
        self._routes = INCOMING_TODAY if era.reading == "by type" else INCOMING

        # What Core knows.
        self._jobs = jobs = Jobs(changed, now, first_id)
        self.job, self.lose, self.wait = jobs.get, jobs.lose, jobs.wait
        self.tokens = Tokens(provider, now, changed, era.tokens, new_key)
        self.wallets = Wallets(changed)
        self.catalogue = Catalogue(provider, changed, era.job_form)
        self.directory = Directory(changed, jobs.now_ms)
        self.accounts = Accounts(changed, jobs.now_ms, is_free=self.catalogue.is_free, complain=complaints.add)
        self.drives = Drives(changed, jobs, self.directory, self.catalogue)
        self.tasks = CoreTasks(provider, changed, self.directory, jobs.now_ms)
        support, features = Support(changed, now), Features(changed)
        rendering: JobRendering = (
            EarlyRendering(era, self.catalogue, support)
            if era.job_form == "first"
            else TodayRendering(self.catalogue, features)
        )
        self._sent = sent = SentJobs(era, jobs, rendering)
        self.rendered = sent.rendered

        # What the provider asks.
        self.faults = Faults(changed, frozenset(self._routes.values()), outgoing(provider))
        self._exchanges = Exchanges(changed, self._routes.values(), now)
        self.on_exchange = self._exchanges.watch
        self.before_answer = self._exchanges.before_answer
        self.notifications = Notifications(changed, self.tokens, self.accounts, self.directory, self.catalogue, complaints.add)
        self._early_control = EarlyControl(
            provider, era, changed, self.tokens, jobs, self.wallets, self.catalogue, rendering, self.directory
        )
        self._server = CoreServer(
            era,
            self.tokens,
            self._routes,
            self._today_work(rendering) if era.reading == "by type" else self._early_control.work(),
            exchanges=self._exchanges,
            faults=self.faults,
            complaints=complaints,
            notifications=self.notifications if era.accounting == "quotas" else None,
        )

        self.catch_up = self._server.catch_up

        # What Core asks of itself.
        self._calls = calls = ProviderCalls(
            provider,
            era,
            self.tokens,
            exchanges=self._exchanges,
            faults=self.faults,
            complain=complaints.add,
            timeout=timeout,
            retry_wait=era.repeat_wait if retry_wait is None else retry_wait,
        )
        self._sockets = Sockets(calls, era, complaints.add, complaints.crash, timeout)
        self.capabilities = Capabilities(
            era, calls, self.catalogue, jobs, complaints, support=support, features=features, now=now
        )
        self.manifest = Manifest(era, calls, complaints)
        self.drive_actions = drive_actions = DriveActions(calls, self.drives, self.catalogue, self.directory, complaints)
        self.polling = Polling(era, calls, self.capabilities, self.manifest, complaints, drive_actions.retrieve_drive_products)
        self.connect, self.call = calls.connect, calls.call
        self.poll = self.polling.poll
        self.verify = Verification(calls, jobs, sent).verify
        self.retrieve_products = self.capabilities.retrieve_products
        self.retrieve_utilization = self.capabilities.retrieve_utilization

        # What users ask.
        creation = JobCreation(
            era,
            calls,
            jobs,
            sent,
            self.catalogue,
            self.directory,
            self.wallets,
            self.accounts,
            self.capabilities,
            complaints,
            self.drives,
        )
        self.submit = creation.submit
        self.submit_many = creation.submit_many
        self.have = creation.have
        self.confirm = creation.confirm
        self.open_form = creation.open_form

        self.retrieve_drive_products = drive_actions.retrieve_drive_products
        self.browse_drives = drive_actions.browse_drives
        self.create_drive = drive_actions.create_drive
        self.rename_drive = drive_actions.rename_drive
        self.delete_drive = drive_actions.delete_drive
        self.label_drive = drive_actions.label_drive
        self.share_folder = drive_actions.share_folder

        self.tasks.serve(calls)
        self.files = files = FileActions(calls, self.drives, complaints)
        self.browse = files.browse
        self.retrieve = files.retrieve
        self.create_folder = files.create_folder
        self.move = files.move
        self.copy = files.copy
        self.trash = files.trash
        self.empty_trash = files.empty_trash
        self.delete = files.delete
        self.upload_link = files.upload_link
        self.upload_links = files.upload_links
        self.download_link = files.download_link
        self.download_links = files.download_links

        actions = JobActions(era, calls, jobs, sent, self.capabilities)
        self.terminate = actions.terminate
        self.extend = actions.extend
        self.suspend = actions.suspend
        self.unsuspend = actions.unsuspend
        self.update_acl = actions.update_acl
        self.attach = actions.attach
        self.detach = actions.detach
        self.set_labels = actions.set_labels

        sessions = Sessions(
            era,
            calls,
            jobs,
            sent,
            self.capabilities,
            self.tokens,
            self._sockets,
            self._exchanges,
            complaints,
            lambda: self.url,
            timeout,
        )
        self.open_session = sessions.open_session
        self.open_terminal = sessions.open_terminal
        self.shell = sessions.shell
        self.follow = sessions.follow
        self.websocket = sessions.websocket

        connections = Connections(era, calls, self.manifest, self.directory, self.accounts, complaints, self._server.end)
        self.connect_user = connections.connect_user
        self.unlink = connections.unlink
        self.init_resource = connections.init_resource
        self.upload_key = connections.upload_key
        self.is_connected = connections.is_connected

    def _today_work(self, rendering: JobRendering) -> Mapping[str, Callable[[Call], Json]]:
        control = TodayControl(
            self.provider, self.era, self._changed, self.tokens, self._jobs, rendering, self.directory, self.drives
        )
        drives = DriveControl(self.provider, self._changed, self.drives, self.directory, self.catalogue)
        billing = TodayBilling(self.provider, self._jobs, self.accounts, self.catalogue, self.directory)
        return {**control.work(), **billing.work(), **drives.work(), **self.tasks.work()}

    # -- its life -------------------------------------------------------------------------------------------

    def start(self, port: int = 0) -> None:
        """Serve on the loopback address.

        :param port: 0 for any; give the old one after :meth:`stop` to come back where the provider looks
        :raises SandboxError: when the port is taken, or it serves already
        """
        self._calls.resume()
        self._url = f"http://127.0.0.1:{self._server.start(port)}"

    def stop(self) -> None:
        """Refuse connections from now on; returns when the requests under way are answered.

        What was reported of usage and not written yet is forgotten (:meth:`Accounts.forget`). Logs are followed no
        more, and all WebSockets are closed.

        :raises CoreCrashError: when something failed in here, or in a hook or watcher, since the last stop
        """
        self._calls.stop()
        self._sockets.close()
        self._server.stop()
        self.accounts.forget()
        crashes = self._complaints.take_crashes()
        if crashes:
            raise CoreCrashError("\n".join(crashes))

    @property
    def url(self) -> str:
        """Base address of Core. Stays what it was after a stop.

        :raises SandboxError: before the first start
        """
        if self._url is None:
            raise SandboxError("The simulated Core was not started yet.")
        return self._url

    @property
    def refresh_token(self) -> str:
        """What the provider keeps to get its access tokens with."""
        return self.tokens.refresh_token

    @property
    def public_key(self) -> str:
        """With which the provider checks who calls: SubjectPublicKeyInfo, base64 in one line."""
        return self.tokens.public_key

    @property
    def public_key_pem(self) -> str:
        """The same as PEM."""
        return self.tokens.public_key_pem

    # -- switches -------------------------------------------------------------------------------------------

    @property
    def include_resolved(self) -> bool:
        """Whether the Jobs in provider calls carry their application, product and support, as the guide's examples
        do, or null, as its table says; a provider must live with both."""
        return self._sent.include_resolved

    @include_resolved.setter
    def include_resolved(self, on: bool) -> None:
        self._sent.include_resolved = on

    @property
    def charging(self) -> Behaviour:
        """Whether charges go as the guide says or as Core of 2021 did it. See :meth:`Wallets.charge`."""
        return self._early_control.charging

    @charging.setter
    def charging(self, behaviour: Behaviour) -> None:
        if behaviour not in ("as-documented", "as-coded"):
            raise ValueError(f"charging is as-documented or as-coded, not {behaviour!r}.")
        self._early_control.charging = behaviour

    # -- what can be looked at ------------------------------------------------------------------------------

    @property
    def jobs(self) -> list[CoreJob]:
        """All jobs as they are now, by id."""
        return self._jobs.all()

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0, what: str = "it") -> None:
        """Wait until something is so. It is asked again whenever anything changes at Core.

        :param condition: looks at this Core and comes back at once
        :param timeout: seconds
        :param what: what is waited for, for the error
        :raises TimeoutError: naming it
        """
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"In {timeout} s {what} did not come.")

    @property
    def exchanges(self) -> list[Exchange]:
        """Every request in either direction so far, with its answer if there is one. A copy."""
        return self._exchanges.all()

    @property
    def protocol_errors(self) -> list[str]:
        """A sentence for each thing that the provider said against the contract. A copy."""
        return self._complaints.all()

    @property
    def ended(self) -> str | None:
        """By what the provider has ended the process of Core, which answers nothing since then; None while it lives.

        Every test must find None here in its end.
        """
        return self._complaints.ended

    @property
    def connected(self) -> frozenset[str]:
        """Users whom the provider has approved."""
        return self.directory.connected
