"""Lists the environment modules of this host once an hour, after a pass: nobody waits for it."""

import logging

from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.caches import Cache

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
LIST_SECONDS = 10.0
ASKED = "modules-asked"  # the kind of cache that says when they were asked for: also by a pass that was ended meanwhile


def refresh_modules(provider: Provider) -> None:
    """Lists them, if that was long enough ago. While it fails, the last list stays.

    Called without the lock of the pass, so that a tree that hangs delays no other pass.
    """
    asked, now = Cache(provider.store, ASKED, EVERY_SECONDS), provider.now()
    if not provider.config.applications.find_modules or asked.get("", now) is not None:
        return
    from ucloud_slurm.provider.modules import KIND, ModulesUnavailableError, list_modules

    asked.put("", "", now)
    try:
        found = list_modules(provider.config.jobs.modules_init, LIST_SECONDS)
    except ModulesUnavailableError as error:
        log.warning("%s; the last list is used for another hour", error)
        return
    Cache(provider.store, KIND).put("", "\n".join(found), now)
