"""Deletion of jobs that ended long ago (``database.keep``), in small transactions."""

import logging
import time
from collections.abc import Sequence

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.records import QueueRecord
from ucloud_slurm.store.caches import Cache

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 3600.0
BATCH = 200  # jobs of one transaction, for which requests that write must wait
BUDGET_SECONDS = 5.0  # of a pass; later passes delete the rest


def prune(provider: Provider, queue: Sequence[QueueRecord]) -> None:
    """Deletes what is too old, once an hour.

    :param queue: squeue's answer
    """
    keep, now = provider.config.database.keep, provider.now()
    done = Cache(provider.store, "forgotten", INTERVAL_SECONDS)
    if not keep or done.get("", now) is not None:
        return
    # Most passes delete nothing.
    from ucloud_slurm.store.retention import Retention

    retention, number = Retention(provider.store), 0
    listed = [record.id for record in queue] if provider.config.outside else []
    until = time.monotonic() + BUDGET_SECONDS
    while True:
        begun = time.monotonic()
        some = retention.delete_jobs(now - keep, listed, BATCH)
        number += some
        if some < BATCH:
            retention.delete_others(now - keep, now)
            provider.breaker.prune(now)
            done.put("", "done", now)
        if some < BATCH or time.monotonic() > until:
            break
        # Other writers get as much time as this took.
        time.sleep(time.monotonic() - begun)
    if number:
        log.info("%d jobs that ended long ago were deleted (database.keep)", number)
