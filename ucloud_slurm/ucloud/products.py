"""Products and what we support for them (contract: ProductReference, Product, ComputeSupport)."""

from pydantic import Field

from ucloud_slurm.ucloud.wire import Int, Message


class ProductReference(Message):
    """A product by name (``id``), category and provider."""

    id: str = Field(min_length=1)
    category: str = Field(min_length=1)
    provider: str


class ProductCategoryId(Message):
    """A category by name and provider."""

    name: str
    provider: str


class ComputeProduct(Message):
    """The dimensions of one node and the unit of the price."""

    name: str
    category: ProductCategoryId
    cpu: Int | None = Field(default=None, ge=0)
    memory_in_gigs: Int | None = Field(default=None, ge=0)
    gpu: Int | None = Field(default=None, ge=0)
    price_per_unit: Int = 0
    unit_of_price: str = "CREDITS_PER_MINUTE"


def support(reference: ProductReference) -> dict[str, object]:
    """A ComputeSupport element: what this release does for jobs of the product, and no more.

    A flag that is not set means "not supported" (contract: ComputeSupport).
    """
    docker = dict.fromkeys(("web", "vnc", "logs", "terminal", "peers", "timeExtension", "utilization"), False)
    machine = ("enabled", "logs", "vnc", "terminal", "timeExtension", "suspension", "utilization")
    native = ("logs", "vnc", "terminal", "timeExtension", "utilization", "web")
    return {
        "product": reference.model_dump(by_alias=True),
        "docker": {"enabled": True} | docker,
        "virtualMachine": dict.fromkeys(machine, False),
        "native": {"enabled": True} | dict.fromkeys(native, False),
    }
