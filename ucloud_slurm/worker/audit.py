"""The audit of the worker: every ten minutes, over the time since the last one, as metrics and in the journal."""

import json
import logging
import pwd
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.store.caches import AUDIT, Cache
from ucloud_slurm.store.job_rows import OpenJob

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0


def audit_regularly(provider: Provider, rows: Iterable[OpenJob]) -> None:
    """Audits what has happened since the last audit, if that was long enough ago.

    :param rows: all jobs that have not ended
    """
    now, last = provider.now(), Cache(provider.store, AUDIT, INTERVAL_SECONDS)
    if last.get("", now) is not None:
        return
    before = last.get("", now, stale=True)
    if before is None:  # the first pass: there is nothing to audit
        last.put("", json.dumps({"until": now}), now)
        return
    # Most passes audit nothing.
    from ucloud_slurm.provider.audit import NO_ACCOUNT, audit

    counts = Counter[str]()
    try:
        found = audit(provider, json.loads(before)["until"], ask=False)
    except SchedulerUnavailableError as error:
        log.warning("the bills could not be audited: %s", error)
        return
    for finding in found.findings:
        counts[finding.kind] += 1
        log.warning("audit: Slurm job %d (job %s): %s: %s", finding.slurm_id, finding.job_id or "-", finding.kind, finding.text)
    for user in _without_account(rows):
        counts[NO_ACCOUNT] += 1
        log.warning("audit: %s has open jobs and no account on this host; they are followed by their numbers", user)
    last.put("", json.dumps({"until": now, **counts}), now)


def _without_account(rows: Iterable[OpenJob]) -> set[str]:
    users = {row.uid: row.local_user for row in rows if row.uid is not None}
    for uid in list(users):
        with suppress(KeyError):
            pwd.getpwuid(uid)
            del users[uid]
    return set(users.values())
