"""The simulated Core itself: its server, its users, and what a test can look at."""

from collections.abc import Callable
from types import EllipsisType
from typing import Any

from tests.sandbox.core.early.credits import Behaviour
from tests.sandbox.core.era import FINAL
from tests.sandbox.core.errors import CoreCrashError
from tests.sandbox.core.exchanges import Exchange, Hook, Watcher
from tests.sandbox.core.jobs import CoreJob
from tests.sandbox.core.polling import CorePolling
from tests.sandbox.core.resources import CoreResources
from tests.sandbox.core.sockets import CoreSockets

Json = dict[str, Any]
MOST_VERIFIED = 100
VERIFY_EVERY = 5 * 60 * 1000
"""Milliseconds between two verifications of a job."""


class SimulatedCore(CorePolling, CoreResources, CoreSockets):
    """Core and the users in front of it. Safe for several threads."""

    def start(self, port: int = 0) -> None:
        """Serve on the loopback address.

        :param port: 0 for any; give the old one after :meth:`stop` to come back where the provider looks
        :raises SandboxError: when the port is taken, or it serves already
        """
        self._calls.resume()
        self._url = f"http://127.0.0.1:{self._server.start(port)}"

    def stop(self) -> None:
        """Refuse connections from now on; returns when the requests under way are answered.

        Logs are followed no more, and all WebSockets are closed.

        :raises CoreCrashError: when something failed in here, or in a hook or watcher, since the last stop
        """
        self._calls.stop()
        self._lines.close()
        self._server.stop()
        with self._changed:
            crashes, self._crashes = self._crashes, []
        if crashes:
            raise CoreCrashError("\n".join(crashes))

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

    def connect(self, provider_url: str) -> None:
        """Say where the provider is, such as ``http://127.0.0.1:8080``."""
        self._calls.url = provider_url.rstrip("/")

    # -- what Core does of itself ---------------------------------------------------------------------------

    def verify(self, *job_ids: str) -> list[str]:
        """Ask the provider whether it still has these jobs.

        Without ids this is Core's own scan: at most 100 jobs that have not ended, none of which was asked
        about in the last five minutes. A scan that finds none asks nothing.

        :return: the ids that were asked about
        :raises CoreError: what the provider answered; Core would only write it into its journal
        """
        jobs = [self.job(job_id) for job_id in job_ids] if job_ids else self._due()
        if jobs:
            self._jobs.verified(job.id for job in jobs)
            body = {"items": [self._rendered(job) for job in jobs]}
            self._calls.plain(f"jobs.provider.{self.provider}.verify", body, unit=True)
        return [job.id for job in jobs]

    def rendered(self, job_id: str) -> Json:
        """A Job as Core sends it to the provider.

        :raises CoreError: 404
        """
        return self._rendered(self.job(job_id))

    def call(
        self,
        method: str,
        path: str,
        body: Json | str | bytes | None = None,
        user: str | None = None,
        token: str | EllipsisType | None = ...,
    ) -> tuple[int, Any]:
        """Send anything to the provider.

        :param path: from the root, such as ``/ucloud/example/jobs/verify``
        :param body: JSON, or text or bytes as they are
        :param user: acting user
        :param token: bearer token; a right one unless given, and no header with None
        :return: status, and the JSON of the answer or None
        :raises CoreError: 502 when there is no answer
        """
        bearer = self.tokens.core_token() if isinstance(token, EllipsisType) else token
        reply = self._calls.raw(method, path, body, user, bearer)
        return reply.status, reply.data

    # -- what can be looked at ------------------------------------------------------------------------------

    @property
    def jobs(self) -> list[CoreJob]:
        """All jobs as they are now, by id."""
        return self._jobs.all()

    def lose(self, job_id: str) -> None:
        """Forget a job, as if Core's database had lost it.

        :raises CoreError: 404
        """
        self._jobs.lose(job_id)

    def wait(self, job_id: str, state: str, timeout: float = 10.0) -> None:
        """Wait until a job is in a state.

        :param timeout: seconds
        :raises TimeoutError: naming the state it is in; at once when that is a final one
        """
        with self._changed:
            self._changed.wait_for(lambda: self.job(job_id).state in FINAL | {state}, timeout)
            found = self.job(job_id).state
        if found != state:
            raise TimeoutError(f"Job {job_id} is {found}, not {state}.")

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

    def on_exchange(self, callback: Watcher) -> Callable[[], None]:
        """Have a function called with ``("request", exchange)`` and ``("response", exchange)``.

        The first before the work is done, the second before the answer leaves or after it came. Called in
        the thread of the exchange, so several calls may be under way at once.

        :return: call it to stop
        """
        return self._exchanges.watch(callback)

    def before_answer(self, call: str, hook: Hook) -> Callable[[], None]:
        """Have a function called each time before the answer to a call of the provider leaves, in its thread.

        :param call: full name, such as ``jobs.control.chargeCredits``
        :return: call it to stop
        """
        if call not in self._routes.values():
            raise ValueError(f"The provider makes no call named {call!r}.")
        return self._exchanges.hook(call, hook)

    @property
    def protocol_errors(self) -> list[str]:
        """A sentence for each thing that the provider said against the contract. A copy."""
        with self._changed:
            return list(self._protocol_errors)

    @property
    def charging(self) -> Behaviour:
        """Whether charges go as the guide says or as Core of 2021 did it. See :meth:`Wallets.charge`."""
        return self._first_control.charging

    @charging.setter
    def charging(self, behaviour: Behaviour) -> None:
        if behaviour not in ("as-documented", "as-coded"):
            raise ValueError(f"charging is as-documented or as-coded, not {behaviour!r}.")
        self._first_control.charging = behaviour

    @property
    def connected(self) -> frozenset[str]:
        """Users whom the provider has approved."""
        return self.directory.connected

    def _due(self) -> list[CoreJob]:
        long_ago = self._jobs.now_ms() - VERIFY_EVERY
        due = [
            job
            for job in self.jobs
            if job.confirmed and not job.final and (job.verified_at is None or job.verified_at <= long_ago)
        ]
        return due[:MOST_VERIFIED]
