"""The table of the configuration file about products: machines that UCloud sells, and how their use is counted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ucloud_slurm.config.types import Duration, Gibibytes, Omitted, Option, PlainPath, Section, Signal, SlurmWord, key

Frequency = Literal["minute", "hour", "day"]
_PERIODS: Mapping[str, Frequency] = {"MINUTE": "minute", "HOUR": "hour", "DAY": "day"}


class PriceUnit(StrEnum):
    """How UCloud counts a product (contract: ProductPriceUnit)."""

    CREDITS_PER_MINUTE = "CREDITS_PER_MINUTE"
    CREDITS_PER_HOUR = "CREDITS_PER_HOUR"
    CREDITS_PER_DAY = "CREDITS_PER_DAY"
    UNITS_PER_MINUTE = "UNITS_PER_MINUTE"
    UNITS_PER_HOUR = "UNITS_PER_HOUR"
    UNITS_PER_DAY = "UNITS_PER_DAY"
    PER_UNIT = "PER_UNIT"


@dataclass(frozen=True, kw_only=True)
class Product(Section):
    """A machine that UCloud sells, and the part of the cluster that its jobs run on."""

    id: str = key(min_length=1, example="example-compute-1", description="The product's name at UCloud.")
    category: str = key(min_length=1, example="example-compute", description="The product's category at UCloud.")
    partition: SlurmWord = key(example="cpu", description="The Slurm partition of the jobs.")
    account: SlurmWord | None = key(default=None, example="ucloud", description="Slurm account of the jobs.")
    qos: SlurmWord | None = key(default=None, example="normal", description="Slurm QOS of the jobs.")
    constraint: SlurmWord | None = key(default=None, example="skylake", description="Node features that the jobs need.")
    reservation: SlurmWord | None = key(default=None, example="ucloud", description="Slurm reservation that the jobs run in.")
    gres: SlurmWord | None = key(
        default=None,
        example="gpu:a100:1",
        description="Generic resources per node, as sbatch --gres takes them; they take precedence over gpus.",
    )
    cpus: int | None = key(default=None, ge=1, example=16, description="CPUs per node; left out: UCloud's number.")
    memory_gb: Gibibytes | None = key(
        default=None, gt=0, example=64, description="Memory of a node in GiB; left out: UCloud's number."
    )
    gpus: int | None = key(default=None, ge=0, example=0, description="GPUs per node; left out: UCloud's number.")
    exclusive: bool = key(default=False, description="The jobs share their nodes with no other job (sbatch --exclusive).")
    options: tuple[Option, ...] = key(default=(), description="Further options of sbatch, but those set otherwise.")
    omit: tuple[Omitted, ...] = key(
        default=(),
        description="Options of sbatch that the jobs must not name, where the site forbids them: cpus-per-task, gres, mem, "
        "nodes, ntasks-per-node. The partition decides instead; without nodes, ntasks says how many there are.",
    )
    signal: Signal | None = key(
        default=None,
        example="USR1@5m",
        description="Signal that the application gets before its time limit, and how long before: HUP, TERM, USR1 or USR2.",
    )
    prologue: PlainPath | None = key(
        default=None,
        example="/etc/ucloud-slurm/prologue.sh",
        description="Shell file on the nodes, sourced before the application.",
    )
    epilogue: PlainPath | None = key(
        default=None,
        example="/etc/ucloud-slurm/epilogue.sh",
        description="Shell file on the compute nodes that is sourced after the application has ended by itself.",
    )
    nodes_max: int | None = key(default=None, ge=1, example=4, description="Largest number of nodes of one job.")
    time_max: Duration | None = key(default=None, example="2d", description="Longest time limit of one job.")
    jobs_per_person: int | None = key(
        default=None,
        ge=1,
        example=10,
        description="Most jobs of this product that one user of UCloud has at a time; see limits.",
    )
    jobs_per_project: int | None = key(
        default=None, ge=1, example=50, description="Most jobs of this product that one project has at a time; see limits."
    )
    charge_by: Literal["node", "core", "gpu", "allocated", "billing"] | None = key(
        default=None,
        example="node",
        description="What the time of a job is multiplied by, of what Slurm allocated to it: node, its nodes; core, its "
        "CPUs, or nodes times cpus where exclusive sells whole nodes; gpu, its GPUs; allocated, its CPUs in any case; "
        "billing, its billing (TRESBillingWeights in slurm.conf). Left out: node for CREDITS_*, core for UNITS_*, and "
        "core in products v2.",
    )
    node_billing: int | None = key(
        default=None,
        ge=1,
        example=128,
        description='Slurm\'s billing of one whole node, for charge_by = "billing": users see price times this as the '
        "price of a node in products v2. Left out: cpus.",
    )
    price: int | None = key(
        default=None,
        ge=0,
        example=1000,
        description="Price of one node, core, GPU or billing unit (see charge_by) in a period: millionths of a credit "
        "for CREDITS_*, else units; left out: 1. Only products v2 read it.",
    )
    unit: PriceUnit | None = key(default=None, example="CREDITS_PER_HOUR", description="unitOfPrice; left out: UCloud's.")
    frequency: Frequency | None = key(
        default=None,
        example="hour",
        description="The period in which products v2 count units, the same for a whole category. Left out: that of "
        "unit, else minute.",
    )
    unit_name: str | None = key(
        default=None,
        min_length=1,
        example="DKK",
        description="The name of one unit in products v2, the same for a whole category. Left out: Credit for "
        "CREDITS_* with a price, else Node, Core, GPU or Billing unit.",
    )
    unit_name_plural: str | None = key(
        default=None, min_length=1, example="DKK", description="Its plural; left out: unit_name with an s."
    )
    free: bool = key(default=False, description="Products v2 neither charge nor limit it; the same for a whole category.")
    hidden: bool = key(default=False, description="Users who apply for resources do not see the product.")
    description: str | None = key(
        default=None,
        example="A node of the new partition",
        description="What users read about it; left out: its CPUs, memory and GPUs.",
    )
    cpu_model: str | None = key(default=None, example="AMD EPYC 9654", description="Model of the CPUs.")
    memory_model: str | None = key(default=None, example="DDR5-4800", description="Model of the memory.")
    gpu_model: str | None = key(default=None, example="NVIDIA H100", description="Model of the GPUs.")

    @property
    def period(self) -> Frequency | None:
        """The period in which units are counted; None for a product that is not counted by time."""
        if self.frequency is not None or self.unit is None:
            return self.frequency or "minute"
        return _PERIODS.get(self.unit.rpartition("_")[2])

    def __post_init__(self) -> None:
        if self.charge_by == "gpu" and not self.gpus:
            raise ValueError('gpus is needed for charge_by = "gpu"')


def check_categories(products: Iterable[Product]) -> None:
    """Products of one category must agree on what belongs to the category.

    :raises ValueError: naming two products that do not
    """
    first: dict[str, Product] = {}
    for product in products:
        other = first.setdefault(product.category, product)
        for name, ours, theirs in (
            ("free", product.free, other.free),
            ("unit_name", product.unit_name, other.unit_name),
            ("unit_name_plural", product.unit_name_plural, other.unit_name_plural),
            ("frequency", product.period, other.period),
        ):
            if ours != theirs:
                raise ValueError(
                    f"products: {other.id} and {product.id} are both in category {product.category}, which has one "
                    f"{name}: {_shown(theirs)} for the first and {_shown(ours)} for the second"
                )


def _shown(value: object) -> str:
    return "nothing" if value is None else f'"{value}"' if isinstance(value, str) else str(value).lower()
