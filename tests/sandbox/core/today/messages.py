"""What the provider may say to a Core that reads by type (contract: control routes of today).

Every field has the zero of its type for a default: nothing has to be there.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.core.today.bodies import Stamp

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """What is new about a job. ``new_time_allocation`` is in milliseconds."""

    state: str | None = None
    output_folder: str | None = None
    status: str | None = None
    expected_state: str | None = None
    expected_different_state: bool | None = None
    new_time_allocation: int | None = None
    allow_restart: bool | None = None
    new_mounts: list[str] | None = None
    resource_list: list[Json] | None = None
    timestamp: Stamp = Stamp(0)  # noqa: RUF009


@dataclass(frozen=True, slots=True)
class UpdateItem:
    """An item of jobs.control.update."""

    id: str = ""
    update: JobUpdate = field(default_factory=JobUpdate)


@dataclass(frozen=True, slots=True)
class Updates:
    """The request of jobs.control.update."""

    items: list[UpdateItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ChargeItem:
    """An item of jobs.control.chargeCredits and checkCredits."""

    id: str = ""
    charge_id: str = ""
    units: int = 0
    periods: int = 0
    performed_by: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Charges:
    """The request of jobs.control.chargeCredits and checkCredits."""

    items: list[ChargeItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RegisterItem:
    """An item of jobs.control.register. The specification is stored as it comes."""

    spec: Json = field(default_factory=dict)
    provider_generated_id: str | None = None
    created_by: str | None = None
    project: str | None = None
    project_all_read: bool = False
    project_all_write: bool = False


@dataclass(frozen=True, slots=True)
class Registrations:
    """The request of jobs.control.register."""

    items: list[RegisterItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProductName:
    """A ProductReference."""

    id: str = ""
    category: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class DriveSpecification:
    """What a drive is."""

    title: str = ""
    product: ProductName = field(default_factory=ProductName)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriveItem:
    """An item of files.collections.control.register."""

    spec: DriveSpecification = field(default_factory=DriveSpecification)
    provider_generated_id: str | None = None
    created_by: str | None = None
    project: str | None = None
    project_all_read: bool = False
    project_all_write: bool = False


@dataclass(frozen=True, slots=True)
class DriveRegistrations:
    """The request of files.collections.control.register."""

    items: list[DriveItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LabelItem:
    """An item of jobs.control.updateLabels."""

    id: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labels:
    """The request of jobs.control.updateLabels."""

    items: list[LabelItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SshKeysOf:
    """The request of jobs.control.browseSshKeys."""

    job_id: str = ""
    owner: bool = False


@dataclass(frozen=True, slots=True)
class ResourceName:
    """An item of providers.resources.checkExistence."""

    type: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """The request of providers.resources.checkExistence."""

    items: list[ResourceName] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RefreshItem:
    """An item of auth.providers.refresh."""

    refresh_token: str = ""


@dataclass(frozen=True, slots=True)
class Refreshes:
    """The request of auth.providers.refresh."""

    items: list[RefreshItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Username:
    """The request of approveConnection and clearConnection."""

    username: str = ""


@dataclass(frozen=True, slots=True)
class WalletOwner:
    """A project, or a person without one."""

    type: str = ""
    username: str = ""
    project_id: str = ""


@dataclass(frozen=True, slots=True)
class CategoryName:
    """A product category, by name."""

    name: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class ChargeDescription:
    """What a report of usage is about."""

    scope: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class UsageItem:
    """An item of accounting.v2.reportUsage."""

    is_delta_charge: bool = False
    owner: WalletOwner = field(default_factory=WalletOwner)
    category_id_v2: CategoryName = field(default_factory=CategoryName)
    usage: int = 0
    description: ChargeDescription = field(default_factory=ChargeDescription)


@dataclass(frozen=True, slots=True)
class UsageReports:
    """The request of accounting.v2.reportUsage."""

    items: list[UsageItem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of an account."""

    name: str = ""
    name_plural: str = ""
    floating_point: bool = False
    display_frequency_suffix: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """A ProductCategory."""

    name: str = ""
    provider: str = ""
    product_type: str = ""
    accounting_unit: Unit = field(default_factory=Unit)
    accounting_frequency: str = ""
    free_to_use: bool = False
    allow_sub_allocations: bool = False


@dataclass(frozen=True, slots=True)
class Fraction:
    """A part of a machine."""

    numerator: int = 0
    denominator: int = 0


@dataclass(frozen=True, slots=True)
class Product:
    """A ProductV2 for computing."""

    type: str = ""
    category: Category = field(default_factory=Category)
    name: str = ""
    description: str = ""
    product_type: str = ""
    price: int = 0
    hidden_in_grant_applications: bool = False
    cpu: int = 0
    memory_in_gigs: int = 0
    gpu: int = 0
    cpu_model: str = ""
    memory_model: str = ""
    gpu_model: str = ""
    fraction: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Products:
    """The request of products.v2.create."""

    items: list[Product] = field(default_factory=list)
