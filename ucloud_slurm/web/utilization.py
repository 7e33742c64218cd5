"""retrieveUtilization, and what Slurm lets us do: asked of Slurm, kept for a while, shared by all processes."""

import logging
import time
from collections.abc import Iterable

from pydantic import TypeAdapter

from ucloud_slurm.bridge.queue_level import level
from ucloud_slurm.errors import Refused, StorageTrouble
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import Load
from ucloud_slurm.store.breaker import FAIR_TRIAL_SECONDS, OPEN_SECONDS, SLURM
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.system.accounts import own_account
from ucloud_slurm.ucloud.responses import Capacity, QueueLevel, QueueStatus, Utilization

log = logging.getLogger(__name__)

LOAD_SECONDS = 5.0
RIGHTS_SECONDS = 600.0
STALE = 60.0  # seconds that an old load is better than none, while Slurm does not answer
QUEUE_SECONDS = 30.0
QUEUE_STALE = 300.0  # seconds that an old word about a queue is better than none
QUEUE_WAIT = 1.0  # seconds
MIB = 1024 * 1024

_LOAD = TypeAdapter(Load)


def utilization(provider: Provider, category: str | None) -> Utilization:
    """How full the partitions of our products are.

    :param category: of the products that matter; None for all
    :raises Refused: we sell nothing in that category
    :raises SchedulerUnavailableError: Slurm does not answer, and nothing is known
    """
    products = [product for product in provider.config.products if category in (None, product.category)]
    if not products:
        raise Refused(f"categoryId: this provider has no products in {category}.")
    load = _load(provider, sorted({product.partition for product in products}))
    return Utilization(
        capacity=Capacity(cpu=load.cpus, memory=load.memory * MIB),
        used_capacity=Capacity(cpu=load.cpus_used, memory=load.memory_used * MIB),
        queue_status=QueueStatus(running=load.running, pending=load.pending),
    )


def _load(
    provider: Provider,
    partitions: list[str],
    *,
    fresh: float = LOAD_SECONDS,
    stale: float = STALE,
    within: float | None = None,
) -> Load:
    """What Slurm says, or said.

    :param fresh: seconds for which an answer will do
    :param stale: seconds for which it is better than none
    :param within: seconds that Slurm has; None for as long as a request may wait
    """
    now, key = provider.now(), ",".join(partitions)
    kept = Cache(provider.store, "load", fresh).get(key, now)
    if kept is not None:
        return _LOAD.validate_json(kept)
    within = provider.config.jobs.submit_within if within is None else within
    try:
        if not provider.breaker.allows(SLURM, now):
            raise SchedulerUnavailableError("Slurm did not answer a moment ago")
        if within <= 0:
            raise SchedulerUnavailableError("there is no time left to ask Slurm")
        load = provider.scheduler.load(partitions, within)
    except SchedulerUnavailableError as error:
        if provider.breaker.allows(SLURM, now) and within >= FAIR_TRIAL_SECONDS:
            provider.breaker.record_failure(SLURM, str(error), now, OPEN_SECONDS)
        old = Cache(provider.store, "load", stale).get(key, now)
        if old is None:
            raise
        return _LOAD.validate_json(old)
    Cache(provider.store, "load").put(key, _LOAD.dump_json(load).decode(), now)
    return load


def queues(provider: Provider, partitions: Iterable[str]) -> dict[str, QueueLevel]:
    """How full each of these partitions is; those of which nothing is known are left out. Never fails.

    UCloud asks every few seconds and waits for no more than five: all of them together may take one second, and those
    that there was no time for come with the next call, while the others are kept.
    """
    until = time.monotonic() + QUEUE_WAIT
    found: dict[str, QueueLevel] = {}
    for partition in sorted(set(partitions)):
        try:
            found[partition] = level(
                _load(provider, [partition], fresh=QUEUE_SECONDS, stale=QUEUE_STALE, within=until - time.monotonic())
            )
        except (SchedulerUnavailableError, StorageTrouble) as error:
            log.debug("how full %s is cannot be told: %s", partition, error)
    return found


def may_extend(provider: Provider) -> bool:
    """Whether Slurm lets us raise time limits and suspend. What it said last holds while it does not answer."""
    now, cache = provider.now(), Cache(provider.store, "operator", RIGHTS_SECONDS)
    kept = cache.get("", now)
    if kept is None and provider.breaker.allows(SLURM, now):
        try:
            found = provider.scheduler.is_operator(own_account(), provider.config.jobs.submit_within)
        except SchedulerUnavailableError as error:
            # It is the accounting database that was asked: no word to the breaker.
            log.warning("whether we may raise time limits cannot be asked: %s", error)
        else:
            kept = "yes" if found else ""
            cache.put("", kept, now)
    return bool(kept if kept is not None else cache.get("", now, stale=True))
