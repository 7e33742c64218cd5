"""Lookup of applications, products and partitions: in the job, in a cache, else at UCloud or Slurm.

Applications are cached by name and version as long as jobs (``database.keep``), products by reference for 24 hours
(UCloud's developer guide, "What information does Job include?"), partitions for a minute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, Refused
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import Partition
from ucloud_slurm.store.breaker import FAIR_TRIAL_SECONDS, SLURM, UCLOUD
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.system.bulkhead import Bulkhead, StuckError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from ucloud_slurm.ucloud.applications import Application
    from ucloud_slurm.ucloud.drives import Drive as DriveAtUCloud
    from ucloud_slurm.ucloud.jobs import Job
    from ucloud_slurm.ucloud.products import ComputeProduct, ProductReference

T = TypeVar("T")

PRODUCT_SECONDS = 24 * 3600
PARTITION_SECONDS = 60
QUESTION_SECONDS = 1.0  # that one question may take while a request waits
QUESTIONS = 8  # of requests to UCloud that are on their way at a time, also those that nobody waits for any more

_WAITING = Bulkhead(QUESTIONS, QUESTIONS)


class Lookup:
    """Lookup for one request or one pass, the nearest source first.

    :raises CoreUnavailableError: from every call, if UCloud had to be asked and did not answer
    """

    def __init__(self, provider: Provider, deadline: float | None = None) -> None:
        """Asks nothing yet.

        :param deadline: of the request that waits, in monotonic seconds: UCloud and Slurm are not asked after it;
            None: no request waits
        """
        self._provider = provider
        self._deadline = deadline
        self._applications = Cache(provider.store, "application")
        self._products = Cache(provider.store, "product", PRODUCT_SECONDS)
        self._partitions = Cache(provider.store, "partitions", PARTITION_SECONDS)
        self._looked_up: dict[str, ComputeProduct | None] = {}
        self._by_name: dict[str, Partition] | None = None
        self._core_error: CoreUnavailableError | None = None

    def application(self, job: Job) -> Application:
        """The application of a job.

        :raises Refused: UCloud does not know it
        """
        now = self._provider.now()
        name = job.specification.application
        key = f"{name.name}\n{name.version}"
        kept = self._applications.get(key, now)
        if kept is not None:
            return _application(kept)
        found = job.status.resolved_application
        if found is None or not found.metadata.name:
            resolved = self._ask(lambda within: self._provider.core.job(job.id, timeout=within))
            found = resolved.status.resolved_application if resolved else None
        if found is None or not found.metadata.name:
            raise Refused(f"UCloud does not know the application {name.name} {name.version} of this job.")
        self._applications.put(key, found.model_dump_json(by_alias=True), now)
        return found

    def product(self, reference: ProductReference, job: Job | None, *, ask: bool = True) -> ComputeProduct | None:
        """The dimensions and the price unit of a product, None if UCloud does not have it.

        If UCloud does not answer, or does not know it any more, its last answer counts.

        :param ask: ask UCloud if it is not cached
        """
        key = f"{reference.category}\n{reference.id}"
        if key not in self._looked_up:
            self._looked_up[key] = self._product(key, reference, job, ask=ask)
        return self._looked_up[key]

    def _product(self, key: str, reference: ProductReference, job: Job | None, *, ask: bool) -> ComputeProduct | None:
        now = self._provider.now()
        kept = self._products.get(key, now)
        found = _product(kept) if kept else job.status.resolved_product if job else None
        if found is None and ask:
            try:
                v2 = self._provider.era.has_products_v2
                found = self._ask(lambda within: self._provider.core.product(reference, v2=v2, timeout=within))
            except (CoreUnavailableError, CoreRefusedError):
                if self._products.get(key, now, stale=True) is None:
                    raise
        if found is not None and kept is None:
            self._products.put(key, found.model_dump_json(by_alias=True), now)
        if found is None and (old := self._products.get(key, now, stale=True)) is not None:
            return _product(old)
        return found

    def counted(self, category: str, name: str, *, ask: bool = True) -> tuple[int | None, str | None]:
        """The CPUs of a product and the unit of its price, None for what UCloud does not say. See :meth:`product`.

        Passes ask it of every running job. From the cache it needs no models of UCloud's messages, which load slowly.
        """
        kept = self._products.get(f"{category}\n{name}", self._provider.now())
        if kept is not None:
            data = json.loads(kept)
            return data["cpu"], data["unitOfPrice"]
        from ucloud_slurm.ucloud.products import ProductReference

        reference = ProductReference(id=name, category=category, provider=self._provider.config.provider.id)
        found = self.product(reference, None, ask=ask)
        return (found.cpu, found.unit_of_price) if found else (None, None)

    def drive(self, drive_id: str) -> DriveAtUCloud | None:
        """A drive as UCloud has it, None if this provider has no such drive there."""
        return self._ask(lambda within: self._provider.core.drive(drive_id, timeout=within))

    def left(self) -> float | None:
        """Seconds until the deadline, None if there is none."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def _within(self) -> float | None:
        """Seconds that the next question may take, None for no limit."""
        return None if self._deadline is None else min(QUESTION_SECONDS, self._deadline - time.monotonic())

    def _ask(self, question: Callable[[float | None], T]) -> T:
        """Asks UCloud, unless it did not answer before: here, or elsewhere so that its circuit breaker is open."""
        if self._core_error is not None:
            raise self._core_error
        if not self._provider.breaker.allows(UCLOUD, self._provider.now()):
            raise CoreUnavailableError("UCloud did not answer a moment ago")
        within = self._within()
        if within is not None and within <= 0:
            raise CoreUnavailableError("there is no time left to ask UCloud")
        try:
            # The name service, and an answer that comes byte by byte, know no limit of ours.
            return question(None) if within is None else _WAITING.call("UCloud", partial(question, within), within=within)
        except (CoreUnavailableError, StuckError) as found:
            error = CoreUnavailableError("UCloud did not answer in time") if isinstance(found, StuckError) else found
            self._core_error = error
            self._provider.breaker.record_failure(UCLOUD, str(error), self._provider.now())
            raise error from None

    def partitions(self) -> Mapping[str, Partition] | None:
        """The partitions of the cluster by name, None if Slurm could not be asked and none are cached."""
        if self._by_name is None:
            found = self._find_partitions()
            self._by_name = None if found is None else {partition.name: partition for partition in found}
        return self._by_name

    def _find_partitions(self) -> list[Partition] | None:
        now = self._provider.now()
        kept = self._partitions.get("", now)
        within = self._within()
        in_time = within is None or within > 0
        if kept is None and in_time and self._provider.breaker.allows(SLURM, now):
            try:
                found = self._provider.scheduler.partitions(within or self._provider.config.slurm.timeout)
            except SchedulerUnavailableError as error:
                if within is None or within >= FAIR_TRIAL_SECONDS:
                    self._provider.breaker.record_failure(SLURM, str(error), now)
            else:
                self._partitions.put("", _adapter().dump_json(found).decode(), now)
                return found
        kept = kept or self._partitions.get("", now, stale=True)
        return None if kept is None else _partitions(kept)


# A process parses the same cached text many times; the results are immutable.


@lru_cache(maxsize=64)
def _application(kept: str) -> Application:
    from ucloud_slurm.ucloud.applications import Application

    return Application.model_validate_json(kept)


@lru_cache(maxsize=64)
def _product(kept: str) -> ComputeProduct:
    from ucloud_slurm.ucloud.products import ComputeProduct

    return ComputeProduct.model_validate_json(kept)


@lru_cache(maxsize=1)
def _partitions(kept: str) -> list[Partition]:
    return _adapter().validate_json(kept)


@cache
def _adapter() -> TypeAdapter[list[Partition]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Partition])
