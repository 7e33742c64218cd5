"""Deleting jobs that ended long ago (``database.keep``), a little at a time."""

import logging
import time
from collections.abc import Sequence

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.store.retention import Retention

log = logging.getLogger(__name__)

EVERY = 3600.0  # seconds
SOME = 200  # jobs of one transaction: requests wait for it, and for no longer
BUDGET = 5.0  # seconds of a pass; what is left is deleted by the next ones


def prune(provider: Provider, queue: Sequence[QueueRecord]) -> None:
    """Deletes what is too old, from time to time.

    :param queue: squeue's answer
    """
    keep, now = provider.config.database.keep, provider.now()
    done = Cache(provider.store, "forgotten", EVERY)
    if not keep or done.get("", now) is not None:
        return
    retention, number = Retention(provider.store), 0
    listed = [record.id for record in queue] if provider.config.outside else []
    until = time.monotonic() + BUDGET
    while True:
        begun = time.monotonic()
        some = retention.jobs(now - keep, listed, SOME)
        number += some
        if some < SOME:
            retention.others(now - keep, now)
            done.put("", "done", now)
        if some < SOME or time.monotonic() > until:
            break
        # Whoever else wants to write has as long as this took.
        time.sleep(time.monotonic() - begun)
    if number:
        log.info("%d jobs that ended long ago were deleted (database.keep)", number)
