"""The distributions that packages are built for."""

import platform
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """A distribution.

    :ivar name: what it is called on the command line of the build
    :ivar kind: the form of its packages
    :ivar suffix: ends the version of its packages; newer releases of a distribution sort later
    :ivar python: the release of its Python that runs the program, such as ``3.11``
    """

    name: str
    kind: Literal["deb", "rpm"]
    suffix: str
    python: str

    @property
    def site(self) -> str:
        """Where the program's modules are, below the root folder."""
        return f"opt/ucloud-slurm/lib/python{self.python}/site-packages"


TARGETS = (
    Target("debian12", "deb", "~deb12", "3.11"),
    Target("debian13", "deb", "~deb13", "3.13"),
    Target("ubuntu24.04", "deb", "~ubuntu24.04", "3.12"),
    Target("el9", "rpm", ".el9", "3.12"),
)

# How Debian calls the kinds of processors that the locked packages have compiled modules for.
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def processor() -> str:
    """The kind of processor of this machine, which the packages are for.

    :raises SystemExit: there are no compiled modules for it
    """
    found = platform.machine()
    if found not in DEBIAN_ARCHITECTURES:
        raise SystemExit(f"Packages are built on {' or '.join(DEBIAN_ARCHITECTURES)}; this machine is {found}.")
    return found


def named(name: str) -> Target:
    """The distribution of that name.

    :raises SystemExit: there is none
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise SystemExit(f"{name} is no distribution that packages are built for: {', '.join(each.name for each in TARGETS)}.")


@dataclass(frozen=True)
class Release:
    """What is packaged.

    :ivar version: the program's own
    :ivar revision: the number of commits, so that the package of a later commit is an upgrade
    :ivar epoch: the time that all files have, seconds since 1970
    """

    version: str
    revision: int
    epoch: int
