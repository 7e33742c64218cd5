"""The configuration file. Other rooms import from here."""

from ucloud_slurm.config.jobs import (
    ApplicationsSection,
    ContainersSection,
    ExternalJobRule,
    FilesRoot,
    JobsSection,
    PriceUnit,
    Product,
)
from ucloud_slurm.config.model import DEFAULT_PATH, VARIABLE, Config, SessionsSection, SlurmSection, location, parse, read
from ucloud_slurm.config.types import LAYOUT
from ucloud_slurm.config.users import LINK_SOCKET, UsersSection

__all__ = ["DEFAULT_PATH", "LAYOUT", "LINK_SOCKET", "VARIABLE", "ApplicationsSection", "Config",
    "ContainersSection", "ExternalJobRule", "FilesRoot", "JobsSection", "PriceUnit", "Product",
    "SessionsSection", "SlurmSection", "UsersSection", "location", "parse", "read"]  # fmt: skip
