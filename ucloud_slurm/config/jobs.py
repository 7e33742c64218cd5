"""The tables of the configuration file that say how jobs are made: their machines, files and containers."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ucloud_slurm.config.types import Duration, PlainPath, RootPath, Section, SlurmWord, seconds

# What ucloud-slurm decides itself, and what would make another kind of job. sbatch takes the beginning of a name
# for the name, so that this may not be one either.
OWNED = frozenset(
    (
        "account",
        "array",
        "bb",
        "bbf",
        "burst-buffer",
        "chdir",
        "clusters",
        "cluster-constraint",
        "comment",
        "constraint",
        "container",
        "cpus-per-gpu",
        "cpus-per-task",
        "dependency",
        "error",
        "exclusive",
        "export",
        "export-file",
        "get-user-env",
        "gid",
        "gpus",
        "gpus-per-node",
        "gpus-per-socket",
        "gpus-per-task",
        "gres",
        "help",
        "input",
        "job-name",
        "mem",
        "mem-per-cpu",
        "mem-per-gpu",
        "nodes",
        "ntasks",
        "ntasks-per-core",
        "ntasks-per-gpu",
        "ntasks-per-node",
        "ntasks-per-socket",
        "open-mode",
        "output",
        "parsable",
        "partition",
        "propagate",
        "qos",
        "reservation",
        "signal",
        "test-only",
        "time",
        "time-min",
        "uid",
        "usage",
        "version",
        "wait",
        "wrap",
    )
)
# How the CPUs of a node are shared among tasks: an application may say it where the administrator lets it.
LAYOUT = frozenset(("ntasks", "ntasks-per-node", "cpus-per-task"))
LONGEST_NOTICE = 65535  # seconds; sbatch(1): --signal


def _option(value: str) -> str:
    match = re.fullmatch(r"--([a-z][a-z0-9-]*)(=[\x21-\x7e]+)?", value)
    if match is None:
        raise ValueError('should be a long option of sbatch such as "--nice=100"')
    owner = next((name for name in sorted(OWNED) if name.startswith(match[1])), None)
    if owner is not None:
        raise ValueError(f"--{match[1]} may not be given here: --{owner} is decided by ucloud-slurm")
    return value


def _free(value: str) -> str:
    """The name of an option of sbatch that applications may set."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        raise ValueError('should be the name of a long option of sbatch such as "ntasks-per-node"')
    if value not in LAYOUT:
        _option(f"--{value}")
    return value


def _of_srun(value: str) -> str:
    if not re.fullmatch(r"--[a-z][a-z0-9-]*(=[\x21-\x7e]+)?", value):
        raise ValueError('should be a long option of srun such as "--mpi=pmix"')
    return value


def _signal(value: Any) -> str:
    """A signal and its seconds before the end, as sbatch --signal takes them."""
    match = re.fullmatch(r"(HUP|TERM|USR1|USR2)@(.+)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('should be HUP, TERM, USR1 or USR2 and how long before the end, such as "USR1@5m"')
    if not 1 <= seconds(match[2]) <= LONGEST_NOTICE:
        raise ValueError(f"can be sent 1 to {LONGEST_NOTICE} seconds before the end")
    return f"{match[1]}@{int(seconds(match[2]))}"


def _mebibytes(value: float) -> float:
    if not (value * 1024).is_integer():
        raise ValueError("should be a whole number of MiB, of which a GiB has 1024")
    return value


Option = Annotated[str, AfterValidator(_option)]
FreeOption = Annotated[str, AfterValidator(_free)]
StepOption = Annotated[str, AfterValidator(_of_srun)]
Signal = Annotated[str, BeforeValidator(_signal)]
Gibibytes = Annotated[float, AfterValidator(_mebibytes)]


class JobsSection(Section):
    """How jobs are made and watched."""

    folder: str = Field(
        default="{home}/ucloud-jobs",
        description="Each job has a folder of its own in here, made by its user. {home} and {user} are filled in.",
    )
    grace: Duration = Field(
        default=30.0,
        description="A job that neither squeue nor sacct knows is called lost after this time, never sooner.",
    )
    quiet: Duration = Field(
        default=30.0,
        description="How long to wait for a submission without an answer to appear before it is tried again. "
        "Must be longer than Slurm's MessageTimeout.",
    )
    submit_within: Duration = Field(
        default=2.0, description="How long a request may wait for Slurm; what is not done by then the worker does."
    )
    failed: Literal["auto", "SUCCESS", "FAILURE"] = Field(
        default="auto",
        description="The state of a job whose program ended with an error, by a signal or for want of memory. auto: "
        "what the era wants; its user reads in any case how it ended.",
    )
    modules_init: PlainPath | None = Field(
        default=None,
        description="File that defines the shell function module on the compute nodes; left out: looked for where "
        "Lmod and Environment Modules put it.",
    )


class FilesRoot(Section):
    """Files of UCloud's that jobs can use where they are: a prefix of UCloud's paths, and the folder it means."""

    ucloud: RootPath = Field(
        description="The prefix, of whole parts; {user}, {account} and {project} are filled in. The longest that fits "
        "counts."
    )
    local: RootPath = Field(
        description="The folder on the compute nodes; {home}, {user}, {account} and {project} are filled in. Whatever "
        "has no value, as the project of a personal job, makes the table one that does not fit."
    )
    read_only: bool = Field(default=False, description="Containers may not write there.")

    @model_validator(mode="after")
    def _one_side_each(self) -> Self:
        if self.local == "/":
            raise ValueError("local: the whole of a node is no folder of users")
        if "{home}" in self.ucloud:
            raise ValueError("ucloud: {home} is a local path; a prefix of UCloud's cannot hold it")
        return self


class ContainersSection(Section):
    """How applications with an image (backends DOCKER and SINGULARITY) are run."""

    runtime: Literal["none", "apptainer", "singularity", "charliecloud", "host"] = Field(
        default="none",
        description="The program that runs images on the compute nodes. none: such applications are refused; host: "
        "those with the backend DOCKER run without their image, as if they were installed.",
    )
    images: tuple[PlainPath, ...] = Field(
        default=(),
        description="Folders with images. That of example.org/tools/r:4 is the file or folder "
        "example.org%tools%r+4, or that name with .sif.",
    )
    registry: str | None = Field(
        default=None,
        pattern=r"^(docker|oras|library)://([A-Za-z0-9][A-Za-z0-9._:-]*/)*$",
        description='Put before an image that is in none of these folders: "docker://" takes it as the application '
        'names it, "docker://mirror.example.org/" from there. Left out: local images only.',
    )
    binds: tuple[PlainPath, ...] = Field(
        default=(),
        description="Folders that every container sees, under the same path. Charliecloud needs an empty folder of "
        "that name in the image.",
    )

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.runtime == "charliecloud" and not self.images:
            raise ValueError("images is needed for charliecloud, which runs local folders only")
        if self.runtime in ("apptainer", "singularity") and not self.images and not self.registry:
            raise ValueError(f"images or registry is needed for {self.runtime}")
        return self


Frequency = Literal["minute", "hour", "day"]
_PERIODS: Mapping[str, Frequency] = {"MINUTE": "minute", "HOUR": "hour", "DAY": "day"}


class ApplicationsSection(Section):
    """What applications that are templates may do, and what the software is called here that they load."""

    sbatch_options: tuple[FreeOption, ...] = Field(
        default=(),
        description="Options of sbatch that an application may set, such as ntasks-per-node; others it asks for make "
        "it refused. What ucloud-slurm decides itself cannot be named, except for ntasks, ntasks-per-node and "
        "cpus-per-task, which share out the CPUs of the machine.",
    )
    srun_options: tuple[StepOption, ...] = Field(
        default=(), description="Options of srun where a template starts a step with srun()."
    )
    load: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Modules of what applications load by name and version, under its name or name/version; what is "
        "not there has one module, name/version.",
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


class Product(Section):
    """A machine that UCloud sells, and the part of the cluster that it means."""

    id: str = Field(min_length=1, description="The product's name at UCloud.")
    category: str = Field(min_length=1, description="The product's category at UCloud.")
    partition: SlurmWord = Field(description="The Slurm partition that its jobs go to.")
    account: SlurmWord | None = Field(default=None, description="Slurm account of the jobs.")
    qos: SlurmWord | None = Field(default=None, description="Slurm QOS of the jobs.")
    constraint: SlurmWord | None = Field(default=None, description="Node features that the jobs need.")
    reservation: SlurmWord | None = Field(default=None, description="Reservation that the jobs run in.")
    gres: SlurmWord | None = Field(
        default=None, description="Generic resources per node, as sbatch --gres takes them; stands before gpus."
    )
    cpus: int | None = Field(default=None, ge=1, description="CPUs per node; left out: what UCloud says.")
    memory_gb: Gibibytes | None = Field(
        default=None, gt=0, description="Memory per node in GiB (1024 MiB); left out: what UCloud says."
    )
    gpus: int | None = Field(default=None, ge=0, description="GPUs per node; left out: what UCloud says.")
    exclusive: bool = Field(default=False, description="Jobs have their nodes for themselves (sbatch --exclusive).")
    options: tuple[Option, ...] = Field(
        default=(), description="Further options of sbatch. What ucloud-slurm decides itself is refused."
    )
    signal: Signal | None = Field(
        default=None,
        description="Signal that the application gets before its time is over, and how long before: HUP, TERM, USR1 "
        "or USR2.",
    )
    prologue: PlainPath | None = Field(
        default=None, description="Shell file on the compute nodes that is sourced before the application."
    )
    epilogue: PlainPath | None = Field(
        default=None,
        description="Shell file on the compute nodes that is sourced after the application has ended by itself.",
    )
    nodes_max: int | None = Field(default=None, ge=1, description="Most nodes of one job.")
    time_max: Duration | None = Field(default=None, description="Longest time of one job.")
    charge_by: Literal["node", "core", "gpu", "allocated"] | None = Field(
        default=None,
        description="What a unit is multiplied with: nodes, nodes times cpus, nodes times gpus, or the CPUs that Slurm "
        "allocated. Left out: node for CREDITS_*, core for UNITS_*, and core in products v2.",
    )
    price: int | None = Field(
        default=None,
        ge=0,
        description="What one of these costs in a period: millionths of a credit for CREDITS_*, else units; left out: "
        "1. Counts in products v2 only; before those it is for the record.",
    )
    unit: PriceUnit | None = Field(default=None, description="unitOfPrice; left out: what UCloud says.")
    frequency: Frequency | None = Field(
        default=None,
        description="The period in which units are counted in products v2, the same for a whole category. Left out: "
        "that of unit, else minute.",
    )
    unit_name: str | None = Field(
        default=None,
        min_length=1,
        description="What products v2 call one unit, the same for a whole category. Left out: Credit for CREDITS_* "
        "with a price, else Node, Core or GPU.",
    )
    unit_name_plural: str | None = Field(
        default=None, min_length=1, description="The same of several units; left out: with an s."
    )
    free: bool = Field(
        default=False, description="Use is neither paid for nor limited, in products v2; the same for a whole category."
    )
    hidden: bool = Field(default=False, description="People who apply for resources are not shown the product.")
    description: str | None = Field(
        default=None, description="What people read about the product; left out: its CPUs, memory and GPUs."
    )
    cpu_model: str | None = Field(default=None, description="What the CPUs are.")
    memory_model: str | None = Field(default=None, description="What the memory is.")
    gpu_model: str | None = Field(default=None, description="What the GPUs are.")

    @property
    def period(self) -> Frequency | None:
        """The period in which units are counted; None for a product that is not counted by time."""
        if self.frequency is not None or self.unit is None:
            return self.frequency or "minute"
        return _PERIODS.get(self.unit.rpartition("_")[2])

    @model_validator(mode="after")
    def _has_what_is_counted(self) -> Self:
        if self.charge_by == "gpu" and not self.gpus:
            raise ValueError('gpus is needed for charge_by = "gpu"')
        return self
