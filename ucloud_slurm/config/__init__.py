"""The configuration file. Other rooms import from here."""

from ucloud_slurm.config.drives import DriveRule, TransfersSection
from ucloud_slurm.config.hooks import HOOK_SOCKET, JOB_ACCEPTED, Hook, JobChanges
from ucloud_slurm.config.jobs import WHO_STARTED, ApplicationsSection, ContainersSection, ExternalJobRule, FilesRoot
from ucloud_slurm.config.model import Config, SessionsSection, SlurmSection
from ucloud_slurm.config.products import PriceUnit, Product
from ucloud_slurm.config.reader import parse, parse_table, problem, read
from ucloud_slurm.config.types import LAYOUT, Section
from ucloud_slurm.config.users import LINK_SOCKET, UsersSection
from ucloud_slurm.system.config_file import VARIABLE, location

__all__ = [
    "HOOK_SOCKET", "JOB_ACCEPTED", "LAYOUT", "LINK_SOCKET", "VARIABLE", "WHO_STARTED", "ApplicationsSection", "Config",
    "ContainersSection", "DriveRule", "ExternalJobRule", "FilesRoot", "Hook", "JobChanges", "PriceUnit", "Product", "Section",
    "SessionsSection", "SlurmSection", "TransfersSection", "UsersSection", "location", "parse", "parse_table", "problem",
    "read",
]  # fmt: skip
