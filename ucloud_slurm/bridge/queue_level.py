"""How full the queue of a partition is, in the one word that people read before they choose a machine."""

from ucloud_slurm.slurm.records import Load
from ucloud_slurm.ucloud.responses import QueueLevel


def level(load: Load) -> QueueLevel:
    """What somebody who starts a job now has to expect of a partition.

    Available: a CPU is free and nobody waits. Full: nothing is free, or in service at all, and others wait already or
    can do nothing else. Busy: all that is between.
    """
    if load.cpus == 0:
        return QueueLevel.FULL
    free, waiting = load.cpus > load.cpus_used, load.pending > 0
    if free and not waiting:
        return QueueLevel.AVAILABLE
    return QueueLevel.BUSY if free or not waiting else QueueLevel.FULL
