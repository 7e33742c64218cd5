"""What users ask of a job that they have: an end, more time, a pause, other resources (contract: provider side)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.sandbox.core.capabilities import Capabilities
from tests.sandbox.core.era import CoreEra
from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.jobs import CoreJob, Jobs
from tests.sandbox.core.provider import ProviderCalls
from tests.sandbox.core.rendering import SentJobs

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobActions:
    """What the page of a job does, but for its sessions. Calls that came with a later era are a 404 before."""

    era: CoreEra
    calls: ProviderCalls
    jobs: Jobs
    sent: SentJobs
    capabilities: Capabilities

    def terminate(self, *job_ids: str, user: str | None = None) -> None:
        """Ask the provider to end jobs, in one bulk. Their states stay until the provider reports new ones.

        :param user: who asks; the owner of the first unless given
        :raises CoreError: 404 for an unknown job, or what the provider answered
        """
        jobs = [self.jobs.get(job_id) for job_id in job_ids]
        self.calls.bulk("terminate", [self.sent.job(job, others=False) for job in jobs], user or jobs[0].owner)

    def extend(self, job_id: str, minutes: int, user: str | None = None) -> None:
        """Ask for more time, which is added to what the job has. Core itself changes nothing.

        :raises CoreError: see :meth:`terminate`
        """
        job = self.jobs.get(job_id)
        self.capabilities.require(job, "timeExtension")
        more = {"hours": minutes // 60, "minutes": minutes % 60, "seconds": 0}
        self.calls.bulk("extend", [{"job": self.sent.job(job, others=False), "requestedTime": more}], user or job.owner)

    def suspend(self, job_id: str, user: str | None = None) -> None:
        """Ask the provider to suspend a job, in the shape of the era. Its state stays until the provider reports.

        :raises CoreError: see :meth:`terminate`
        """
        job = self.jobs.get(job_id)
        if self.era.suspend_items == "wrapped":
            self.calls.bulk("suspend", [{"job": self.sent.job(job, others=False)}], user or job.owner)
        else:
            body = {"items": [self.sent.job(job)]}
            self.calls.for_user(self.calls.about_jobs("suspend"), body, user or job.owner, unit=True)

    def unsuspend(self, job_id: str, user: str | None = None) -> None:
        """Ask the provider to let a suspended job go on; since 2022.

        :raises CoreError: see :meth:`terminate`; 404 in an era without it
        """
        job = self.jobs.get(job_id)
        if not self.era.has_suspended:
            raise CoreError(404, "Not found")
        self.calls.bulk("unsuspend", [{"job": self.sent.job(job, others=False)}], user or job.owner)

    def update_acl(
        self, job_id: str, added: Sequence[Json] = (), deleted: Sequence[Json] = (), user: str | None = None
    ) -> None:
        """Change who may use a job; done at Core only when the provider has agreed.

        :param added: entries ``{"entity": AclEntity, "permissions": [...]}``
        :param deleted: AclEntities
        :raises CoreError: see :meth:`terminate`
        """
        job = self.jobs.get(job_id)
        item = {"resource": self.sent.job(job), "added": list(added), "deleted": list(deleted)}
        self.calls.bulk("updateAcl", [item], user or job.owner)
        gone = [*deleted, *(entry["entity"] for entry in added)]
        kept = [entry for entry in self.jobs.get(job_id).acl if entry["entity"] not in gone]
        self.jobs.change_acl(job_id, [*kept, *added])

    def attach(self, job_id: str, resource: Json, user: str | None = None) -> None:
        """Attach a resource to a running job; it is the job's when the provider has agreed.

        :param resource: AppParameterValue
        :raises CoreError: 400 unless the job runs, and what the provider answered
        """
        self._change_resource("attachResource", job_id, resource, user)
        kept = self.jobs.get(job_id).specification.get("resources") or []
        self.jobs.change(job_id, lambda job: job.with_part(resources=[*kept, resource]))

    def detach(self, job_id: str, resource: Json, user: str | None = None) -> None:
        """Take a resource from a running job. See :meth:`attach`."""
        self._change_resource("detachResource", job_id, resource, user)
        kept = [each for each in self.jobs.get(job_id).specification.get("resources") or [] if each != resource]
        self.jobs.change(job_id, lambda job: job.with_part(resources=kept))

    def set_labels(self, job_id: str, labels: dict[str, str], user: str | None = None) -> None:
        """Change the labels of a job; a provider that knows no such call (404) is not asked again.

        :raises CoreError: what the provider answered; the labels stay what they were then
        """
        self.era.require_today()
        job = self.jobs.get(job_id)
        self.jobs.change(job_id, lambda job: job.with_part(labels=dict(labels)))
        call = self.calls.about_jobs("onUpdatedLabels")
        try:
            self.calls.for_user(call, {"items": [self.sent.job(job)]}, user or job.owner)
        except CoreError as error:
            if error.status != 404:
                before = job.specification.get("labels")
                self.jobs.change(job_id, lambda job: job.with_part(labels=before))
                raise

    def _change_resource(self, name: str, job_id: str, resource: Json, user: str | None) -> None:
        self.era.require_today()
        job = self.jobs.get(job_id)
        if job.state != "RUNNING":
            raise CoreError(400, "The job is not running")
        whole = (self.sent.values([resource]) or [resource])[0]
        self._call_for(job, name, {"job": self.sent.job(job), "resource": whole}, user)

    def _call_for(self, job: CoreJob, name: str, body: Json, user: str | None) -> None:
        self.calls.for_user(self.calls.about_jobs(name), body, user or job.owner)
