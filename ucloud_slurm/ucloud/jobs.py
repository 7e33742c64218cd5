"""Jobs and the provider calls about them (contract: Job, JobSpecification, the jobs.provider calls)."""

from typing import Any, Generic, TypeVar

from pydantic import Field

from ucloud_slurm.ucloud.applications import Application, NameAndVersion, SimpleDuration
from ucloud_slurm.ucloud.products import ComputeProduct, ProductReference
from ucloud_slurm.ucloud.wire import Bool, Int, Message

MOST_ITEMS = 1000


class ParameterValue(Message):
    """A value that the user gave (contract: AppParameterValue); ``type`` says which fields count."""

    type: str
    path: str = ""
    read_only: Bool = False
    value: Any = None
    hostname: str = ""
    job_id: str = ""
    id: str = ""


class Owner(Message):
    """Whose job it is: the person, and the project that pays (None: the person's own workspace)."""

    created_by: str
    project: str | None = None


class JobSpecification(Message):
    """What the user asked for."""

    application: NameAndVersion
    product: ProductReference
    name: str | None = None
    replicas: Int = Field(default=1, ge=1)
    parameters: dict[str, ParameterValue] = {}
    resources: list[ParameterValue] = []
    time_allocation: SimpleDuration = SimpleDuration()


class JobStatus(Message):
    """What UCloud thinks of the job, with what it chose to send along."""

    state: str = "IN_QUEUE"
    job_parameters_json: dict[str, Any] | None = None
    resolved_application: Application | None = None
    resolved_product: ComputeProduct | None = None


class Job(Message):
    """A job. The id is a decimal 64-bit number as text; it becomes part of names and paths here."""

    id: str = Field(pattern=r"^[0-9]{1,19}$")
    owner: Owner
    specification: JobSpecification
    status: JobStatus = JobStatus()
    created_at: Int = 0  # milliseconds since the epoch

    @property
    def replicas(self) -> int:
        """The number of nodes.

        Core of 2021 loses the user's number and sends 1; the true one is in ``jobParametersJson``.
        """
        request = (self.status.job_parameters_json or {}).get("request")
        asked = request.get("replicas") if isinstance(request, dict) else None
        if isinstance(asked, int) and not isinstance(asked, bool):
            return max(asked, self.specification.replicas)
        return self.specification.replicas


I = TypeVar("I")  # noqa: E741  the item of a bulk


class Bulk(Message, Generic[I]):
    """A BulkRequest: 1 to 1000 items."""

    items: list[I] = Field(min_length=1, max_length=MOST_ITEMS)


class AclUpdate(Message):
    """An item of updateAcl. What was added or deleted is not looked at by this release."""

    resource: Job


class UserName(Message):
    """The request of integration.init and integration.connect."""

    username: str


class CreatedProvider(Message):
    """The keys of a provider that UCloud has just approved."""

    refresh_token: str
    public_key: str


class Welcome(Message):
    """The request of integration.welcome."""

    token: str
    created_provider: CreatedProvider
