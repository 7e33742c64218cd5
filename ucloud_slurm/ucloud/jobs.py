"""Jobs, and the requests about them (contract: Job, JobSpecification, jobs.provider and integration calls)."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ucloud_slurm.ucloud.applications import Application, ApplicationParameter, NameAndVersion, SimpleDuration
from ucloud_slurm.ucloud.gate import MAX_ITEMS
from ucloud_slurm.ucloud.products import ComputeProduct, ProductReference
from ucloud_slurm.ucloud.wire import Bool, Int, Message


class Workflow(Message):
    """A script that the user wrote or chose: a template with parameters of its own."""

    job: str = ""
    inputs: list[ApplicationParameter] = []


class ParameterValue(Message):
    """A value that the user gave (contract: AppParameterValue); ``type`` says which fields count."""

    type: str
    path: str = ""
    read_only: Bool = False
    value: Any = None
    hostname: str = ""
    job_id: str = ""
    id: str = ""
    modules: list[str] = []
    specification: Workflow = Workflow()


class Owner(Message):
    """The user whose job it is, and the project that pays; None for the user's own workspace."""

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
    """The state that UCloud has of the job, with what it sends along."""

    state: str = "IN_QUEUE"
    job_parameters_json: dict[str, Any] | None = None
    resolved_application: Application | None = None
    resolved_product: ComputeProduct | None = None


class AclEntity(Message):
    """A user, or a group of a project, that may have access to a job."""

    type: str
    username: str = ""
    project_id: str = ""
    group: str = ""


class AclEntry(Message):
    """The permissions of a user or a group on a job."""

    entity: AclEntity
    permissions: list[str] = []


class Permissions(Message):
    """The permissions of others than the owner."""

    others: list[AclEntry] = []


class Job(Message):
    """A job. Its id is a decimal 64-bit number as text, and becomes a part of names and paths."""

    id: str = Field(pattern=r"^[0-9]{1,19}$")
    owner: Owner
    specification: JobSpecification
    status: JobStatus = JobStatus()
    permissions: Permissions = Permissions()
    created_at: Int = 0  # milliseconds since the epoch

    @property
    def replicas(self) -> int:
        """The number of nodes.

        Core of 2021 loses the user's number and sends 1; the real one is in ``jobParametersJson``.
        """
        request = (self.status.job_parameters_json or {}).get("request")
        asked = request.get("replicas") if isinstance(request, dict) else None
        if isinstance(asked, int) and not isinstance(asked, bool):
            return max(asked, self.specification.replicas)
        return self.specification.replicas


I = TypeVar("I")  # noqa: E741  the item of a bulk


class Bulk(Message, Generic[I]):
    """A BulkRequest: 1 to 1000 items."""

    items: list[I] = Field(min_length=1, max_length=MAX_ITEMS, description=f"1 to {MAX_ITEMS}; all of them are done, or none.")


class AclUpdate(Message):
    """An item of updateAcl."""

    resource: Job
    added: list[AclEntry] = []
    deleted: list[AclEntity] = []


class ExtendItem(Message):
    """An item of extend: the time to be added."""

    job: Job
    requested_time: SimpleDuration


class JobItem(Message):
    """An item of suspend and unsuspend: the Job itself in 2021, an object that holds it later."""

    job: Job

    @model_validator(mode="before")
    @classmethod
    def _either_shape(cls, data: Any) -> Any:
        return {"job": data} if isinstance(data, dict) and "job" not in data else data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema of both forms."""
        described = handler.resolve_ref_schema(handler(schema))
        job = described["properties"]["job"]
        described["anyOf"] = [{"required": described.pop("required")}, job]
        return described


class SessionItem(Message):
    """An item of openInteractiveSession."""

    job: Job
    rank: Int = Field(ge=0)
    session_type: Literal["WEB", "VNC", "SHELL"]
    target: str | None = None  # name of a further page


class Principal(Message):
    """The request of jobs.provider.init: the owner of future jobs."""

    principal: Owner


class UserName(Message):
    """The request of integration.init, integration.connect and integration.unlinked."""

    username: str


class CreatedProvider(Message):
    """The keys of a provider that UCloud has just approved."""

    refresh_token: str
    public_key: str


class Welcome(Message):
    """The request of integration.welcome."""

    token: str
    created_provider: CreatedProvider


class FormOpened(Message):
    """The request of jobs.provider.requestDynamicParameters: a user is about to start a job."""

    owner: Owner
    application: Application | None = None


class KeyUploaded(Message):
    """The request of ssh.keyUploaded: the keys of a user have changed."""

    username: str
