"""The tables of the configuration file about jobs: their folders, limits, files, containers and applications."""

from dataclasses import dataclass
from typing import Literal

from ucloud_slurm.config.types import (
    Duration,
    JobsFolder,
    OptionName,
    PlainPath,
    RootPath,
    Section,
    SlurmWord,
    SrunOption,
    SshCommand,
    key,
)

WHO_STARTED = "{user}"  # as created_by of jobs from outside UCloud


@dataclass(frozen=True, kw_only=True)
class JobsSection(Section):
    """How jobs are made and observed."""

    folder: JobsFolder = key(
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
    ssh: SshCommand | None = key(
        default=None,
        example="ssh {user}@login.example.org",
        description="The command with which the owner of a running job logs in to the cluster; today's UCloud shows it in a "
        "box of the job's page. {user} is the Unix user of the job. Left out: no box.",
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
    versions: Literal["exact", "newer", "older", "any"] = key(
        default="exact",
        description="Which version may take the place of one that is not listed in load, where other versions of the "
        "software are: exact, only a more precise one, such as 1.2.93 for 1.2; newer or older, the newest one that is "
        "newer or older; any, the newest of all. A template may choose otherwise for itself.",
    )
    find_modules: bool = key(
        default=False,
        description="Once an hour the worker lists the environment modules of this host, which should be those of the nodes: "
        "users choose from them in the forms of applications, and versions of software are found among them.",
    )
    readme: dict[str, str] = key(
        default={},
        description="Texts in Markdown that the forms of applications show, under the name of the software that they load or "
        "name/version.",
    )


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
        default=None,
        example="Ada#1234",
        description='The user of UCloud who owns them; "{user}": the one who started the job, where exactly one user of '
        "UCloud is connected with that account, else as if it were left out; left out: UCloud's own account.",
    )
    project: str | None = key(
        default=None,
        example="6b2e1c8e-0000-4000-8000-000000000000",
        description="The project of UCloud that pays for the jobs.",
    )
    application: str = key(default="unknown", description="The application that the jobs are shown with.")
    version: str = key(default="unknown", description="The version of that application.")
