"""Products (contract: ProductReference, Product)."""

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
