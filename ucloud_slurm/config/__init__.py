"""The configuration file. What other rooms use of it is imported from here."""

from ucloud_slurm.config.jobs import (
    LAYOUT,
    ApplicationsSection,
    ContainersSection,
    FilesRoot,
    JobsSection,
    PriceUnit,
    Product,
)
from ucloud_slurm.config.model import (
    DEFAULT_PATH,
    VARIABLE,
    Config,
    ExternalJobRule,
    SessionsSection,
    SlurmSection,
    location,
    parse,
    read,
)
from ucloud_slurm.config.users import LINK_SOCKET, UsersSection

__all__ = [
    "DEFAULT_PATH",
    "LAYOUT",
    "LINK_SOCKET",
    "VARIABLE",
    "ApplicationsSection",
    "Config",
    "ContainersSection",
    "ExternalJobRule",
    "FilesRoot",
    "JobsSection",
    "PriceUnit",
    "Product",
    "SessionsSection",
    "SlurmSection",
    "UsersSection",
    "location",
    "parse",
    "read",
]
