"""Delivers events to the programs of the site: a pass of its own, so that no program is in the way of a job."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ucloud_slurm.errors import one_line
from ucloud_slurm.hooks.client import HooksAwayError, ask
from ucloud_slurm.hooks.program import HookFailedError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.hooks import HookEvent
from ucloud_slurm.system.filelock import HOOKS, exclusive_lock
from ucloud_slurm.worker.run import Result

log = logging.getLogger(__name__)

AT_ONCE = 4  # programs; events about one subject are delivered one after the other
PASS_SECONDS = 120.0  # after which no further program is started; a program has at most as much again
MESSAGE_SECONDS = 5.0  # for question and answer, beside the program's own limit


def deliver_events(provider: Provider, clock: Callable[[], float] = time.monotonic) -> Result:
    """Delivers what waits, oldest first, until nothing is left that may be delivered now, or the time is over."""
    until = clock() + PASS_SECONDS
    with exclusive_lock(provider.store.path, HOOKS) as mine, ThreadPoolExecutor(AT_ONCE, "hooks") as threads:
        if not mine:
            return Result.ELSEWHERE
        if (why := provider.store.why_elsewhere()) is not None:
            log.warning("events wait: %s", why)
            return Result.NOT_ALL
        whole = True
        while clock() < until and (events := provider.hook_events.heads(provider.now(), AT_ONCE)):
            whole &= all(list(threads.map(partial(_deliver, provider), events)))
        return Result.DONE if whole else Result.NOT_ALL


def _deliver(provider: Provider, event: HookEvent) -> bool:
    """Delivers one event; False where nobody could be asked."""
    events, hook = provider.hook_events, provider.config.hook(event.event)
    if hook is None:
        events.unneeded(event, "its event has no program any more", provider.now())
        return True
    try:
        ask(hook.socket, event.event, event.document(provider.config.provider.id), hook.seconds + MESSAGE_SECONDS)
    except HooksAwayError as error:
        log.warning("event %d (%s, %s) waits: %s", event.id, event.event, one_line(event.subject, 80), error)
        events.postponed(event, one_line(str(error)), provider.now())
        return False
    except HookFailedError as error:
        again = events.failed(event, one_line(str(error)), provider.now())
        what = "is delivered again later" if again else "is given up; `ucloud-slurm hooks retry` delivers it again"
        log.error("event %d (%s, %s) %s: %s", event.id, event.event, one_line(event.subject, 80), what, error)
        return True
    events.delivered(event, provider.now())
    return True
