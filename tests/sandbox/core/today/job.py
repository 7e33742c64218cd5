"""A job as JSON on the wire, as it is written today (contract: Job as JSON)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.sandbox.core.catalogue import Catalogue
from tests.sandbox.core.jobs import CoreJob, simple_duration
from tests.sandbox.core.rendering import Include
from tests.sandbox.core.today.application import no_application, whole_application
from tests.sandbox.core.today.features import Features

Json = dict[str, Any]
VALUE: Json = {
    "type": "",
    "path": "",
    "mountPath": "",
    "readOnly": False,
    "value": None,
    "hostname": "",
    "jobId": "",
    "id": "",
    "specification": {"job": ""},
    "modules": None,
    "port": 0,
    "tls": False,
    "server": "",
    "token": "",
    "tokenType": "",
}
"""The fifteen keys of an AppParameterValue."""


@dataclass(frozen=True, slots=True)
class TodayRendering:
    """Writes jobs as today's Core.

    :ivar features: what the provider said it supports, for ``resolvedSupport``
    """

    catalogue: Catalogue
    features: Features

    def job(self, job: CoreJob, include: Include, *, permissions: bool) -> Json:
        """See :class:`JobRendering`."""
        generated = {"providerGeneratedId": job.provider_generated_id} if job.provider_generated_id else {}
        return generated | {
            "id": job.id,
            "createdAt": job.created_at,
            "owner": {"createdBy": job.owner, "project": job.project},
            "permissions": {"myself": ["PROVIDER"], "others": job.acl if include.others else []},
            "updates": job.updates if include.updates else [],
            "specification": self._specification(job),
            "status": self._status(job, include),
            "output": {"outputFolder": job.output_folder},
        }

    def values(self, values: Sequence[Json]) -> list[Json] | None:
        """See :class:`JobRendering`; an empty list is null."""
        return [whole_value(value) for value in values] or None

    def _specification(self, job: CoreJob) -> Json:
        stored = job.specification
        name = {"name": stored["name"]} if stored.get("name") else {}
        return name | {
            "product": stored.get("product"),
            "labels": stored.get("labels"),
            "application": stored.get("application"),
            "hostname": stored.get("hostname"),
            "replicas": stored.get("replicas", 1),
            "allowDuplicateJob": False,
            "parameters": {key: whole_value(value) for key, value in (stored.get("parameters") or {}).items()},
            "resources": self.values(stored.get("resources") or []),
            "timeAllocation": simple_duration(job.time_allocation),
        }

    def _status(self, job: CoreJob, include: Include) -> Json:
        app, reference = job.specification.get("application", {}), job.specification.get("product", {})
        product = self.catalogue.product(reference)
        support = self.features.of(reference)
        application = self.catalogue.application(app.get("name", ""), app.get("version", ""))
        resolved = {"product": product, "support": support, "features": self.features.keys(reference)}
        parameters = {"siteVersion": 3, "request": self._specification(job)}
        return {
            "state": job.state,
            "jobParametersJson": parameters if include.parameters else None,
            "startedAt": job.started_at,
            "expiresAt": job.expires_at,
            "resolvedApplication": (
                (whole_application(application) if application else no_application()) if include.application else None
            ),
            "resolvedProduct": product | {"pricePerUnit": 0} if product and include.product else None,
            "resolvedSupport": resolved if product and support and include.support else None,
            "allowRestart": False,
        }


def whole_value(value: Mapping[str, Any]) -> Json:
    """An AppParameterValue with all its keys."""
    return VALUE | dict(value)
