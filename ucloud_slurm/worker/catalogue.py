"""Applications, products and partitions: from the job, from what is kept, else from where they are known.

An application is kept for ever by name and version, a product for 24 hours by reference (UCloud's developer
guide, "What information does Job include?"), a partition for a minute.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import TypeAdapter

from ucloud_slurm.errors import Refused
from ucloud_slurm.provider import Provider
from ucloud_slurm.slurm.records import Partition
from ucloud_slurm.slurm.scheduler import SchedulerAway
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.store.health import SLURM, UCLOUD
from ucloud_slurm.ucloud.applications import Application
from ucloud_slurm.ucloud.core import CoreAway, CoreRefused
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.ucloud.products import ComputeProduct, ProductReference

T = TypeVar("T")

PRODUCT_SECONDS = 24 * 3600
PARTITION_SECONDS = 60
FAIR = 0.9  # seconds; a command that had less and was ended says nothing about Slurm's health
PAUSE = 15.0  # seconds that requests leave a Slurm alone that did not answer

_PARTITIONS = TypeAdapter(list[Partition])


class Catalogue:
    """Looks things up, nearest first, for one request or one pass.

    ``within`` bounds a call to UCloud or Slurm in seconds; None: no hurry.

    :raises CoreAway: UCloud had to be asked and could not be
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._applications = Cache(provider.store, "application")
        self._products = Cache(provider.store, "product", PRODUCT_SECONDS)
        self._partitions = Cache(provider.store, "partitions", PARTITION_SECONDS)
        self._looked_up: dict[str, ComputeProduct | None] = {}
        self._away: CoreAway | None = None

    def application(self, job: Job, within: float | None = None) -> Application:
        """The application of a job.

        :raises Refused: UCloud does not know it
        """
        now = self._provider.now()
        name = job.specification.application
        key = f"{name.name}\n{name.version}"
        kept = self._applications.get(key, now)
        if kept is not None:
            return Application.model_validate_json(kept)
        found = job.status.resolved_application
        if found is None or not found.metadata.name:
            resolved = self._ask(lambda: self._provider.core.job(job.id, timeout=within))
            found = resolved.status.resolved_application if resolved else None
        if found is None or not found.metadata.name:
            raise Refused(f"UCloud does not know the application {name.name} {name.version} of this job.")
        self._applications.put(key, found.model_dump_json(by_alias=True), now)
        return found

    def product(
        self, reference: ProductReference, job: Job | None, within: float | None = None, *, ask: bool = True
    ) -> ComputeProduct | None:
        """The dimensions and the price unit of a product, None if UCloud does not have it.

        While UCloud does not answer, or knows it no more, what it said before holds.

        :param ask: ask UCloud if it is not kept
        """
        key = f"{reference.category}\n{reference.id}"
        if key not in self._looked_up:
            self._looked_up[key] = self._product(key, reference, job, within, ask=ask)
        return self._looked_up[key]

    def _product(
        self, key: str, reference: ProductReference, job: Job | None, within: float | None, *, ask: bool
    ) -> ComputeProduct | None:
        now = self._provider.now()
        kept = self._products.get(key, now)
        found = ComputeProduct.model_validate_json(kept) if kept else job.status.resolved_product if job else None
        if found is None and ask:
            try:
                found = self._ask(lambda: self._provider.core.product(reference, timeout=within))
            except (CoreAway, CoreRefused):
                if self._products.get(key, now, stale=True) is None:
                    raise
        if found is not None and kept is None:
            self._products.put(key, found.model_dump_json(by_alias=True), now)
        if found is None and (old := self._products.get(key, now, stale=True)) is not None:
            return ComputeProduct.model_validate_json(old)
        return found

    def _ask(self, question: Callable[[], T]) -> T:
        """Asks UCloud, unless it was away when it was asked last, here or by somebody else a moment ago."""
        if self._away is not None:
            raise self._away
        if not self._provider.health.may_ask(UCLOUD, self._provider.now()):
            raise CoreAway("UCloud did not answer a moment ago")
        try:
            return question()
        except CoreAway as error:
            self._away = error
            self._provider.health.failed(UCLOUD, str(error), self._provider.now(), PAUSE)
            raise

    def partitions(self, within: float | None = None) -> Mapping[str, Partition] | None:
        """The partitions of the cluster by name, None if Slurm could not be asked and none are kept."""
        now = self._provider.now()
        kept = self._partitions.get("", now)
        if kept is None and self._provider.health.may_ask(SLURM, now):
            try:
                found = self._provider.scheduler.partitions(within or self._provider.config.slurm.timeout)
            except SchedulerAway as error:
                if within is None or within >= FAIR:
                    self._provider.health.failed(SLURM, str(error), now, PAUSE)
            else:
                self._partitions.put("", _PARTITIONS.dump_json(found).decode(), now)
                return {partition.name: partition for partition in found}
        kept = kept or self._partitions.get("", now, stale=True)
        if kept is None:
            return None
        return {partition.name: partition for partition in _PARTITIONS.validate_json(kept)}
