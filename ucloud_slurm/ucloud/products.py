"""Products (contract: ProductReference, Product), also in the form of products v2."""

from collections.abc import Callable
from typing import Any

from pydantic import Field

from ucloud_slurm.ucloud.wire import Bool, Int, Message


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


COMPUTE = "COMPUTE"
TYPE = "compute"  # a product without it can be bought, but not used
STORAGE = "STORAGE"
STORAGE_TYPE = "storage"
MAX_PAGES = 1000  # more than any provider has


class AccountingUnit(Message):
    """What is counted in a category.

    :ivar floating_point: numbers are millionths of the unit
    :ivar display_frequency_suffix: numbers are displayed with the period, as in Core-hours
    """

    name: str = ""
    name_plural: str = ""
    floating_point: Bool = False
    display_frequency_suffix: Bool = False


class Category(Message):
    """A category: the wallet that its products are paid from."""

    name: str
    provider: str
    product_type: str = ""
    accounting_unit: AccountingUnit = AccountingUnit()
    accounting_frequency: str = ""
    free_to_use: Bool = False
    allow_sub_allocations: Bool = False


class ProductV2(Message):
    """A product. Only machines have CPUs, memory and GPUs; 0 and an empty text mean unknown.

    :ivar price: units of one node in one period
    """

    type: str = ""
    category: Category
    name: str
    description: str = ""
    product_type: str = ""
    price: Int = 0
    fraction: dict[str, Any] | None = None
    hidden_in_grant_applications: Bool = False
    cpu: Int = 0
    memory_in_gigs: Int = 0
    gpu: Int = 0
    cpu_model: str = ""
    memory_model: str = ""
    gpu_model: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Category and name, which identify the product at its provider."""
        return self.category.name, self.name

    def body(self) -> dict[str, Any]:
        """The item of products.create."""
        machine = {"cpu", "memory_in_gigs", "gpu", "cpu_model", "memory_model", "gpu_model"}
        exclude = machine if self.type == STORAGE_TYPE else None
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=exclude)


class ProductPage(Message):
    """A page of products, and the token of the next page."""

    items: list[ProductV2] = []
    next: str | None = None


def collected(page: Callable[[dict[str, str]], ProductPage]) -> list[ProductV2]:
    """The products of all pages. UCloud can announce a next page that is empty.

    :param page: fetches a page, with these parameters added to the query
    """
    found: list[ProductV2] = []
    after: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        got = page(after)
        found += got.items
        if not got.items or not got.next or after == {"next": got.next}:
            break
        after = {"next": got.next}
    return found
