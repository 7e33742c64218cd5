"""A job as JSON on the wire, as it was written in 2021 and 2022 (contract: Job)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.early.support import Support
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.jobs import CoreJob, simple_duration
from tests.sandbox.core.rendering import Include

Json = dict[str, Any]
NO_DURATION = {"hours": None, "minutes": None, "seconds": None}


@dataclass(frozen=True, slots=True)
class EarlyRendering:
    """Writes jobs as the Core of 2021 or 2022.

    :ivar support: what the provider said it supports, for ``resolvedSupport``
    """

    era: CoreEra
    catalogue: Catalogue
    support: Support

    def job(self, job: CoreJob, include: Include, *, permissions: bool) -> Json:
        """See :class:`JobRendering`."""
        mine = {"myself": ["PROVIDER"], "others": job.acl if include.others else None}
        return {
            "id": job.id,
            "owner": {"createdBy": job.owner, "project": job.project},
            "updates": job.updates if include.updates else [],
            "specification": self._specification(job),
            "status": self._status(job, include),
            "createdAt": job.created_at,
            "output": None if job.output_folder is None else {"outputFolder": job.output_folder},
            "permissions": mine if permissions else None,
            "acl": None,
            "billing": {},
        }

    def values(self, values: Sequence[Json]) -> list[Json] | None:
        """See :class:`JobRendering`."""
        return list(values)

    def _specification(self, job: CoreJob) -> Json:
        specification = dict(job.specification)
        if self.era.loses_replicas:
            specification["replicas"] = 1
        # What it has now; what was asked for stays in jobParametersJson.
        duration = simple_duration(job.time_allocation)
        specification["timeAllocation"] = NO_DURATION if duration is None and self.era.empty_durations else duration
        return specification

    def _status(self, job: CoreJob, include: Include) -> Json:
        app = job.specification["application"]
        product = self.catalogue.product(job.specification["product"])
        support = self.support.of(job.specification["product"])
        resolved = {"product": product, "support": support} if product and support else None
        return {
            "state": job.state,
            "jobParametersJson": {"siteVersion": 3, "request": job.specification},
            "startedAt": job.started_at,
            "expiresAt": job.expires_at,
            "resolvedApplication": (self.catalogue.application(app["name"], app["version"]) if include.application else None),
            "resolvedSupport": resolved if include.support else None,
            "resolvedProduct": product if include.product else None,
        }
