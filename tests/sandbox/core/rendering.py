"""Jobs as JSON on the wire: what may be asked for, and what Core sends to a provider (contract: JobIncludeFlags)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.jobs import CoreJob, Jobs

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Include:
    """What a reader of a job asked for beyond the plain fields (contract: JobIncludeFlags)."""

    application: bool = False
    product: bool = False
    support: bool = False
    updates: bool = False
    others: bool = False
    parameters: bool = True


class JobRendering(Protocol):
    """Writes jobs as some Core does."""

    def job(self, job: CoreJob, include: Include, *, permissions: bool) -> Json:
        """The Job.

        :param permissions: whether to say what the provider itself may do with it
        """

    def values(self, values: Sequence[Json]) -> list[Json] | None:
        """AppParameterValues in a list."""


@dataclass(slots=True)
class SentJobs:
    """Jobs as they are in Core's own calls of the provider.

    :ivar include_resolved: see :attr:`SimulatedCore.include_resolved`
    """

    era: CoreEra
    jobs: Jobs
    rendering: JobRendering
    include_resolved: bool = True

    def job(self, job: CoreJob, *, others: bool = True) -> Json:
        """A job as it is now.

        :param others: whether with those who may use it too, where that is sent at all
        :raises CoreError: 404 when it is gone
        """
        if self.era.job_form == "second":
            include = Include(application=True, product=True, support=True, updates=True, others=others)
            return self.rendering.job(self.jobs.get(job.id), include, permissions=True)
        whole = self.include_resolved
        include = Include(application=whole, product=whole, support=whole)
        return self.rendering.job(self.jobs.get(job.id), include, permissions=False)

    def rendered(self, job_id: str) -> Json:
        """A job by its id.

        :raises CoreError: 404
        """
        return self.job(self.jobs.get(job_id))

    def followed(self, job: CoreJob) -> Json:
        """A job whose log is asked for."""
        if self.era.job_form == "second":
            return self.job(job)
        include = Include(application=self.include_resolved, support=True, updates=True)
        return self.rendering.job(job, include, permissions=False)

    def values(self, values: Sequence[Json]) -> list[Json] | None:
        """AppParameterValues in a list."""
        return self.rendering.values(values)
