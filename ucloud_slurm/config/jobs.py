"""The tables of the configuration file about jobs: their machines, files, containers and applications."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ucloud_slurm.config.types import (
    Duration,
    Gibibytes,
    Omitted,
    Option,
    OptionName,
    PlainPath,
    RootPath,
    Section,
    Signal,
    SlurmWord,
    SrunOption,
    key,
)

Frequency = Literal["minute", "hour", "day"]
_PERIODS: Mapping[str, Frequency] = {"MINUTE": "minute", "HOUR": "hour", "DAY": "day"}


@dataclass(frozen=True, kw_only=True)
class JobsSection(Section):
    """How jobs are made and observed."""

    folder: str = key(
        default="{home}/ucloud-jobs",
        description="The folder in which every job gets a folder of its own, made by the job's user. {home} and {user} "
        "are filled in. The compute nodes must see it under the same path: where home folders are not shared, name a folder "
        "that is, and let the units write there (see the installation guide).",
    )
    grace: Duration = key(default=30.0, description="How long squeue and sacct must not know a job before it is lost.")
    quiet: Duration = key(
        default=30.0,
        description="How long Slurm is searched for a submission that was not answered, before the submission is "
        "retried. Must be longer than Slurm's MessageTimeout.",
    )
    submit_within: Duration = key(
        default=2.0,
        description="How long a request of UCloud waits for Slurm, from its arrival. The worker submits what is not "
        "submitted by then.",
    )
    failed: Literal["auto", "SUCCESS", "FAILURE"] = key(
        default="auto",
        description="The state of a job whose program ended with an error, by a signal or for lack of memory. auto: "
        "what the era expects. The message to the job's owner always says how the job ended.",
    )
    modules_init: PlainPath | None = key(
        default=None,
        example="/opt/lmod/init/bash",
        description="File that defines the shell function module on the compute nodes; left out: the usual files of "
        "Lmod and Environment Modules are tried.",
    )


@dataclass(frozen=True, kw_only=True)
class LimitsSection(Section):
    """How many jobs from UCloud there may be at a time. A job counts from its create to its end; further ones are refused."""

    jobs_per_person: int | None = key(
        default=None,
        ge=1,
        example=100,
        description="Most jobs of one user of UCloud, with and without projects; left out: no limit.",
    )
    jobs_per_project: int | None = key(
        default=None,
        ge=1,
        example=500,
        description="Most jobs of one project, of all its members together; left out: no limit.",
    )


@dataclass(frozen=True, kw_only=True)
class FilesRoot(Section):
    """Files of UCloud that jobs can use where they are: a prefix of UCloud's paths, and the folder that it means."""

    ucloud: RootPath = key(
        example="/home",
        description="The prefix, in whole path components; {user}, {account} and {project} are filled in. The longest "
        "prefix that matches is used.",
    )
    local: RootPath = key(
        example="{home}",
        description="The folder on the compute nodes; {home}, {user}, {account} and {project} are filled in. Where one "
        "of them has no value, as the project of a personal job, the table does not match.",
    )
    read_only: bool = key(default=False, description="Containers may not write there.")

    def __post_init__(self) -> None:
        if self.local == "/":
            raise ValueError("local: the root of a node's file system cannot be a folder of users")
        if "{home}" in self.ucloud:
            raise ValueError("ucloud: {home} is a local path; a prefix of UCloud's cannot contain it")


@dataclass(frozen=True, kw_only=True)
class ContainersSection(Section):
    """How applications with an image (backends DOCKER and SINGULARITY) are run."""

    runtime: Literal["none", "apptainer", "singularity", "charliecloud", "host"] = key(
        default="none",
        description="The program that runs images on the compute nodes. none: applications with an image are refused; "
        "host: those with the backend DOCKER run without their image, as installed applications do.",
    )
    images: tuple[PlainPath, ...] = key(
        default=(),
        description="Folders with images. The image example.org/tools/r:4 is the file or folder "
        "example.org%tools%r+4, or that name with .sif.",
    )
    registry: str | None = key(
        default=None,
        pattern=r"^(docker|oras|library)://([A-Za-z0-9][A-Za-z0-9._:-]*/)*$",
        example="docker://",
        description='Prefix of an image that is in none of these folders: "docker://" takes it as the application '
        'names it, "docker://mirror.example.org/" from that mirror. Left out: local images only.',
    )
    binds: tuple[PlainPath, ...] = key(
        default=(),
        description="Folders that every container sees under the same path. Charliecloud needs an empty folder of "
        "that name in the image.",
    )

    def __post_init__(self) -> None:
        if self.runtime == "charliecloud" and not self.images:
            raise ValueError("images is needed for charliecloud, which runs local folders only")
        if self.runtime in ("apptainer", "singularity") and not self.images and not self.registry:
            raise ValueError(f"images or registry is needed for {self.runtime}")


@dataclass(frozen=True, kw_only=True)
class ApplicationsSection(Section):
    """What applications that are templates may set, and the environment modules of the software that they load."""

    sbatch_options: tuple[OptionName, ...] = key(
        default=(),
        description="Options of sbatch that an application may set, such as ntasks-per-node; an application that asks "
        "for another option is refused. Options that ucloud-slurm sets itself cannot be listed, except for ntasks, "
        "ntasks-per-node and cpus-per-task, which share the CPUs of a node among tasks.",
    )
    srun_options: tuple[SrunOption, ...] = key(default=(), description="Options of srun where a template calls srun().")
    load: dict[str, tuple[str, ...]] = key(
        default={},
        description="Environment modules of software that applications load by name and version, under its name or "
        "name/version. Software that is not listed has one module, name/version.",
    )


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


@dataclass(frozen=True, kw_only=True)
class ExternalJobRule(Section):
    """Jobs of a Slurm account that were submitted outside UCloud, and that are to be shown and charged there."""

    account: SlurmWord = key(example="physics", description="The Slurm account of the jobs, in capitals or not.")
    product: str = key(
        min_length=1,
        example="example-compute-1",
        description="The product of the jobs; only jobs in its partition are registered.",
    )
    category: str = key(min_length=1, example="example-compute", description="The category of that product.")
    created_by: str | None = key(
        default=None, example="Ada#1234", description="The user of UCloud who owns them; left out: UCloud's own account."
    )
    project: str | None = key(
        default=None,
        example="6b2e1c8e-0000-4000-8000-000000000000",
        description="The project of UCloud that pays for the jobs.",
    )
    application: str = key(default="unknown", description="The application that the jobs are shown with.")
    version: str = key(default="unknown", description="The version of that application.")
