"""The backend through which this process reaches Slurm."""

import importlib.util
import logging

from ucloud_slurm.config import SlurmSection
from ucloud_slurm.slurm.commands import Commands
from ucloud_slurm.slurm.complaints import Complaints
from ucloud_slurm.slurm.scheduler import Scheduler

log = logging.getLogger(__name__)

NOT_INSTALLED = 'pyslurm is not installed; install it (pip install "ucloud-slurm[pyslurm]"), or choose another backend'
SELF_TEST_SECONDS = 40.0


def scheduler(section: SlurmSection, complaints: Complaints | None = None) -> Scheduler:
    """The configured backend, or Slurm's commands where it cannot be used.

    It never fails: an upgrade of Slurm must not prevent the start of the service.

    :param complaints: gets what Slurm's commands complain about; None: they are logged
    """
    by_name = section.backend == "pyslurm"
    if section.backend != "commands" and _is_installed():
        # Imported only where it is used: a pass of the worker is short.
        from ucloud_slurm.slurm.pyslurm.backend import PySlurm

        level = logging.WARNING if by_name else logging.INFO
        return PySlurm(section.commands, section.conf, section.timeout, complaints, level=level)
    if by_name:
        log.warning("Slurm's commands are used: %s", NOT_INSTALLED)
    return Commands(section.commands, section.conf, section.timeout, complaints)


def self_test(section: SlurmSection) -> tuple[bool, str]:
    """Tests the configured backend.

    :returns: whether it can be used, and a sentence that says what is used
    """
    if section.backend == "commands":
        return True, "Slurm's commands are used"
    if not _is_installed():
        return section.backend == "auto", f"Slurm's commands are used: {NOT_INSTALLED}"
    from ucloud_slurm.slurm.pyslurm.backend import PySlurm

    slurm = PySlurm(section.commands, section.conf, section.timeout, level=logging.DEBUG)
    try:
        if slurm.ready(SELF_TEST_SECONDS):
            return True, "pyslurm can be used"
        return section.backend == "auto", f"Slurm's commands are used, not pyslurm: {slurm.reason}"
    finally:
        slurm.close()


def _is_installed() -> bool:
    return importlib.util.find_spec("pyslurm") is not None
