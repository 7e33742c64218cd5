"""Responses to UCloud (contract: the response types of the jobs.provider and integration calls)."""

from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from ucloud_slurm.ucloud.products import ProductReference
from ucloud_slurm.ucloud.wire import Message

A = TypeVar("A")


class Nothing(Message):
    """The call has no result (contract: Unit)."""


class Answers(Message, Generic[A]):
    """A BulkResponse: as many elements as the request had items, in the same order."""

    responses: list[A]


class Created(Message):
    """The provider's id of a job (contract: FindByStringId)."""

    id: str


# Left out for an era without this feature.
OLD: Any = Field(default=None, exclude_if=lambda value: value is None)


class MachineSupport(Message):
    """The features for virtual machines: none."""

    enabled: bool = False
    logs: bool = False
    vnc: bool = False
    terminal: bool = False
    time_extension: bool = False
    suspension: bool = False
    utilization: bool | None = OLD


class NativeSupport(Message):
    """The features for applications that are installed on the cluster."""

    enabled: bool = False
    web: bool = False
    vnc: bool = False
    logs: bool = False
    terminal: bool = False
    peers: bool = False
    time_extension: bool = False
    utilization: bool | None = OLD


class DockerSupport(NativeSupport):
    """The features for applications in containers."""


class QueueLevel(StrEnum):
    """How full the queue of a product is."""

    AVAILABLE = "AVAILABLE"
    BUSY = "BUSY"
    FULL = "FULL"


class ComputeSupport(Message):
    """The features for jobs of a product.

    :ivar queue_status: None where it is unknown, and in an era that does not ask for it
    """

    product: ProductReference
    docker: DockerSupport
    virtual_machine: MachineSupport
    native: NativeSupport
    queue_status: QueueLevel | None = None


class Capacity(Message):
    """CPUs, and memory in bytes."""

    cpu: float
    memory: int


class QueueStatus(Message):
    """How many jobs run and wait."""

    running: int
    pending: int


class Utilization(Message):
    """How full the machines are (contract: JobsRetrieveUtilizationResponse)."""

    capacity: Capacity
    used_capacity: Capacity
    queue_status: QueueStatus


class OpenSession(Message):
    """A session for the user's browser; ``type`` says which fields it has."""

    type: Literal["shell", "web", "vnc"]
    job_id: str
    rank: int


class ShellSession(OpenSession):
    """A shell: the browser sends the identifier on the shell WebSocket, once.

    :ivar domain_override: the URL under which browsers reach this service, since 2024; UCloud may use another
    """

    type: Literal["shell"] = "shell"
    session_identifier: str
    domain_override: str


class WebSession(OpenSession):
    """A web page: the browser is redirected there."""

    type: Literal["web"] = "web"
    redirect_client_to: str


class VncSession(OpenSession):
    """A screen: the browser's VNC client opens this WebSocket."""

    type: Literal["vnc"] = "vnc"
    url: str
    password: str | None


class Destination(Message):
    """The page to which a user who wants to connect is redirected (contract: integration.connect)."""

    redirect_to: str


class Manifest(Message):
    """Whether users must connect first (contract: integration.retrieveManifest)."""

    enabled: bool
    expire_after_ms: int | None = None
    requires_message_signing: bool = False


class DynamicParameters(Message):
    """Parameters that a form asks for besides those of the application."""

    parameters: list[dict[str, Any]]


class Branding(Message):
    """How the provider is presented (contract: ProviderBranding).

    :ivar description: in Markdown
    :ivar url: empty for none
    :ivar logo: a complete address
    :ivar sections: further parts of its page: none, but UCloud's page needs the list
    :ivar product_description: likewise
    """

    id: str
    title: str
    short_title: str
    short_description: str
    description: str
    url: str
    logo: str | None
    sections: list[Nothing] = []
    product_description: list[Nothing] = []


class Condition(Message):
    """The condition of the provider (integration.retrieveStatus of later Cores)."""

    page: str | None = None
    level: Literal["NORMAL", "DEGRADED"]


class Failure(Message):
    """An error (contract: CommonErrorMessage)."""

    why: str
    error_code: str | None = None


def support(
    reference: ProductReference, *, pages: bool, extension: bool, images: bool, utilization: bool, queue: QueueLevel | None
) -> ComputeSupport:
    """The features that this release has for jobs of the product.

    :param pages: whether web pages and screens of applications can be reached
    :param extension: whether Slurm allows this provider to raise time limits
    :param images: whether applications of the backend DOCKER can run
    :param utilization: whether the era has the feature utilization
    :param queue: how full the queue of its partition is
    """
    flags: dict[str, Any] = {
        "enabled": True,
        "web": pages,
        "vnc": pages,
        "logs": True,
        "terminal": True,
        "time_extension": extension,
        "utilization": True if utilization else None,
    }
    nothing = {"utilization": False if utilization else None}
    return ComputeSupport(
        product=reference,
        docker=DockerSupport(**(flags if images else nothing)),
        virtual_machine=MachineSupport(**nothing),
        native=NativeSupport(**flags),
        queue_status=queue,
    )
