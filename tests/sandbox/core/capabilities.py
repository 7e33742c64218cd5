"""What the provider says it supports and how busy it is, and what Core refuses by it (contract: provider side)."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.checks import wrong_utilization
from tests.sandbox.core.complaints import Complaints
from tests.sandbox.core.early.support import Support, wrong_support
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.jobs import CoreJob, Jobs
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.today.features import Features, unknown_features, unreadable

Json = dict[str, Any]
POLL_SECONDS = 10.0
"""Between two questions about what a provider supports, in an era that polls."""


class Capabilities:
    """Asks the provider, and keeps its last good answer.

    :ivar checked: see :attr:`SimulatedCore.asks_support`
    """

    def __init__(
        self,
        era: CoreEra,
        calls: ProviderCalls,
        catalogue: Catalogue,
        jobs: Jobs,
        complaints: Complaints,
        *,
        support: Support,
        features: Features,
        now: Callable[[], float],
    ) -> None:
        """Nothing is asked yet.

        :param support: what Core of 2021 and 2022 keeps of an answer
        :param features: what today's Core keeps of it
        """
        self.checked = False
        self._era = era
        self._calls = calls
        self._catalogue = catalogue
        self._jobs = jobs
        self._complain = complaints.add
        self._support = support
        self._features = features
        self._now = now
        self._asked_at: float | None = None

    def retrieve_products(self) -> list[Json]:
        """Ask the provider what it supports, and believe it.

        :return: the ComputeSupport elements
        :raises CoreError: what the provider answered
        """
        call = self._calls.about_jobs("retrieveProducts")
        found = self._calls.responses(call, self._calls.plain(call))
        if self._era.polls:
            wrong = list(unreadable(found))
            for sentence in wrong or unknown_features(found):
                self._complain(f"{call}: {sentence}")
            if wrong:
                raise CoreError(502, "Invalid response from provider")
            self._features.learn([each for each in found if self._sold(each)])
            return found
        for sentence in wrong_support(found):
            self._complain(f"{call}: {sentence}")
        # Core drops what it cannot resolve, silently.
        self._support.learn([each for each in found if not list(wrong_support([each])) and self._sold(each)])
        return found

    def retrieve_utilization(self, job_id: str, category: str | None = None) -> Json:
        """Ask the provider how much of it is in use, as the page of a job does.

        :param category: of products, in an era that names one; the job's own unless given
        :return: JobsRetrieveUtilizationResponse as it came: cpu in cores, memory in bytes, jobs in the queue
        :raises CoreError: 404 for an unknown job; what the provider answered
        """
        own = self._jobs.get(job_id).specification["product"]["category"]
        query = {"categoryId": category or own} if self._era.utilization_by_category else None
        call = self._calls.about_jobs("retrieveUtilization")
        data = self._calls.plain(call, query=query)
        if not isinstance(data, dict):
            self._complain(f"{call}: the answer is not a JSON object")
            raise CoreError(502, "Invalid response from provider")
        for sentence in wrong_utilization(data):
            self._complain(f"{call}: {sentence}")
        return data

    def admit(self, specifications: Sequence[Json]) -> None:
        """Refuse new jobs that the provider does not support, where that is checked.

        :raises CoreError: 400, and 502 when the provider says nothing
        """
        if not self.checked:
            return
        if self._era.polls:
            for spec in specifications:
                self._require(spec, "enabled")
            return
        if self._support.stale:
            try:
                self.retrieve_products()
            except CoreError as error:
                raise CoreError(502, "We received no information from the provider") from error
        for spec in specifications:
            self._support.admit(spec["product"], self._backend(spec))

    def require(self, job: CoreJob, flag: str) -> None:
        """Refuse what the provider does not support for a job, where that is checked and the era knows it.

        :param flag: such as ``timeExtension``
        :raises CoreError: 400
        """
        if self.checked and self._era.polls:
            self._require(job.specification, flag)

    def _require(self, spec: Json, flag: str) -> None:
        if self._asked_at is None or self._now() - self._asked_at >= POLL_SECONDS:
            self._asked_at = self._now()
            with suppress(CoreError):  # the last good answer stays in force
                self.retrieve_products()
        self._features.admit(spec["product"], self._backend(spec), flag)

    def _backend(self, spec: Json) -> str:
        app = self._catalogue.application(spec["application"]["name"], spec["application"]["version"])
        tool = app["invocation"]["tool"]["tool"]["description"] if app else {}
        return str(tool.get("backend", "NATIVE"))

    def _sold(self, element: Json) -> bool:
        product = self._catalogue.product(element.get("product") or {})
        return product is not None and product.get("type", "compute") == "compute"
