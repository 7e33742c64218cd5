"""What Core asks a provider of itself, again and again (contract: provider routes that Core calls)."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from tests.sandbox.core.capabilities import Capabilities
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.connections import Manifest
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError, ProtocolError
from tests.sandbox.core.jobs import CoreJob, Jobs
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.rendering import SentJobs
from tests.sandbox.core.routes import OTHER_CALLS
from tests.sandbox.core.today import branding
from tests.sandbox.core.today.branding import Branding

T = TypeVar("T")
QUICK_SECONDS = 2.0
MOST_VERIFIED = 100
VERIFY_EVERY_MS = 5 * 60 * 1000
"""Between two verifications of a job."""


@dataclass(slots=True)
class Polling:
    """The questions of every ten seconds.

    :ivar quick_seconds: within which each answer must be there
    :ivar branding: how the provider is presented, as it was answered last
    """

    era: CoreEra
    calls: ProviderCalls
    capabilities: Capabilities
    manifest: Manifest
    complaints: Complaints
    ask_drives: Callable[[], object]
    quick_seconds: float = QUICK_SECONDS
    branding: Branding | None = None

    def poll(self) -> None:
        """Ask everything once: products, manifest, the lists that are not about jobs, branding.

        Nothing is raised: the last good answer stays in force. What cannot be read, and what takes long, is in
        ``protocol_errors``.

        :raises CoreError: 404 in an era that does not poll
        """
        if not self.era.polls:
            raise CoreError(404, "Not found")
        with suppress(CoreError):
            self._timed("retrieveProducts", self.capabilities.retrieve_products)
        self.manifest.enabled = self._timed("retrieveManifest", self.manifest.ask)
        self._timed("files.collections.retrieveProducts", lambda: self._mind(self.ask_drives, "files.collections"))
        for name in OTHER_CALLS:
            if name.endswith(("retrieveProducts", "retrieveInfo")):
                call = name.format(self.calls.provider)
                self._timed(call, lambda call=call: self._mind(lambda: self._ask(call), call))  # type: ignore[misc]

    def _ask(self, call: str) -> None:
        data = self.calls.plain(call)
        if call.endswith("retrieveProducts"):
            self.calls.responses(call, data)
        if call.endswith("branding.retrieveInfo"):
            try:
                self.branding = branding.read(data, self.calls.provider)
            except ProtocolError as error:
                self.complaints.add(f"{call}: {error}")

    def _mind(self, ask: Callable[[], object], call: str) -> None:
        try:
            ask()
        except CoreError as error:
            if error.status in (401, 403, 500):
                self.complaints.add(f"{call}: answered with {error.status}; say 404 for what is not there")

    def _timed(self, call: str, ask: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return ask()
        finally:
            seconds = time.monotonic() - began
            if seconds > self.quick_seconds:
                self.complaints.add(f"{call}: took {seconds:.1f} s, which holds up everything that is asked after it")


@dataclass(frozen=True, slots=True)
class Verification:
    """The question whether the provider still has some jobs."""

    calls: ProviderCalls
    jobs: Jobs
    sent: SentJobs

    def verify(self, *job_ids: str) -> list[str]:
        """Ask the provider whether it still has these jobs.

        Without ids this is Core's own scan: at most 100 jobs that have not ended, none of which was asked
        about in the last five minutes. A scan that finds none asks nothing.

        :return: the ids that were asked about
        :raises CoreError: what the provider answered; Core would only write it into its journal
        """
        jobs = [self.jobs.get(job_id) for job_id in job_ids] if job_ids else self._due()
        if jobs:
            self.jobs.verified(job.id for job in jobs)
            self.calls.plain(self.calls.about_jobs("verify"), {"items": [self.sent.job(job) for job in jobs]}, unit=True)
        return [job.id for job in jobs]

    def _due(self) -> list[CoreJob]:
        long_ago = self.jobs.now_ms() - VERIFY_EVERY_MS
        due = [
            job
            for job in self.jobs.all()
            if job.confirmed and not job.final and (job.verified_at is None or job.verified_at <= long_ago)
        ]
        return due[:MOST_VERIFIED]
