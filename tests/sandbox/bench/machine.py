"""What this machine is, for the head of a table."""

import os
import platform
from importlib import metadata
from pathlib import Path

from tests.sandbox.bench.rows import Machine


def machine(slurm: str) -> Machine:
    """Looks around.

    :param slurm: the release of the cluster
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        pyslurm: str | None = metadata.version("pyslurm")
    except metadata.PackageNotFoundError:
        pyslurm = None
    return Machine(
        processor=processor(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        cores=os.cpu_count() or 1,
        memory=round(pages / 2**30),
        system=platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        slurm=slurm,
        pyslurm=pyslurm,
    )


def processor(cpuinfo: str) -> str:
    """The name of the first processor.

    :param cpuinfo: what the kernel says in /proc/cpuinfo
    """
    for text in cpuinfo.splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return "unknown processor"
