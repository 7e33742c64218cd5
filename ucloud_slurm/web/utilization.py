"""retrieveUtilization, the load of queues, and our rights in Slurm: cached in the database for all processes."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress

from pydantic import TypeAdapter

from ucloud_slurm.bridge.states import queue_level
from ucloud_slurm.errors import Refused, StorageError
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.slurm.records import Load
from ucloud_slurm.store.breaker import FAIR_TRIAL_SECONDS, SLURM
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.store.maintenance import covering
from ucloud_slurm.ucloud.responses import Capacity, QueueLevel, QueueStatus, Utilization

log = logging.getLogger(__name__)

LOAD_SECONDS = 5.0
LOAD_STALE_SECONDS = 60.0  # an older load is not used, though Slurm does not answer
RIGHTS_SECONDS = 600.0
QUEUE_SECONDS = 30.0
QUEUE_STALE_SECONDS = 300.0
QUEUE_WAIT_SECONDS = 1.0
MIB = 1024 * 1024

_LOAD = TypeAdapter(Load)


def utilization(provider: Provider, category: str | None) -> Utilization:
    """The resources and the jobs in the partitions of our products. Machines under maintenance are in use.

    :param category: of products; None for all
    :raises Refused: there is no product in that category
    :raises SchedulerUnavailableError: Slurm does not answer, and nothing is cached
    """
    products = [product for product in provider.config.products if category in (None, product.category)]
    if not products:
        raise Refused(f"categoryId: this provider has no products in {category}.")
    partitions = {product.partition for product in products}
    load, windows = _load(provider, sorted(partitions)), provider.maintenance.on(provider.now())
    usable = {each.partition for each in products if not covering(windows, each.category, each.id)}
    if usable != partitions:
        load = _closed(load, _load(provider, sorted(usable)) if usable else None)
    return Utilization(
        capacity=Capacity(cpu=load.cpus, memory=load.memory * MIB),
        used_capacity=Capacity(cpu=load.cpus_used, memory=load.memory_used * MIB),
        queue_status=QueueStatus(running=load.running, pending=load.pending),
    )


def _closed(load: Load, usable: Load | None) -> Load:
    """The load with everything in use but what is free in the usable partitions, a part of all."""
    cpus, memory = (usable.cpus - usable.cpus_used, usable.memory - usable.memory_used) if usable else (0, 0)
    return load._replace(cpus_used=load.cpus - cpus, memory_used=load.memory - memory)


def _load(
    provider: Provider,
    partitions: list[str],
    *,
    fresh: float = LOAD_SECONDS,
    stale: float = LOAD_STALE_SECONDS,
    within: float | None = None,
) -> Load:
    """The load of partitions, from the cache or from Slurm.

    :param fresh: seconds for which the cache is used
    :param stale: seconds for which it is used while Slurm does not answer
    :param within: seconds that Slurm has for its answer; None for as long as a request may wait
    :raises SchedulerUnavailableError: Slurm does not answer, and the cache is older
    """
    now, key = provider.now(), ",".join(partitions)
    kept = Cache(provider.store, "load", fresh).get(key, now)
    if kept is not None:
        return _LOAD.validate_json(kept)
    within = provider.deadline() - time.monotonic() if within is None else within
    try:
        if not provider.breaker.allows(SLURM, now):
            raise SchedulerUnavailableError("Slurm did not answer a moment ago")
        if within <= 0:
            raise SchedulerUnavailableError("there is no time left to ask Slurm")
        load = provider.scheduler.load(partitions, within)
    except SchedulerUnavailableError as error:
        if provider.breaker.allows(SLURM, now) and within >= FAIR_TRIAL_SECONDS:
            with suppress(StorageError):
                provider.breaker.record_failure(SLURM, str(error), now)
        old = Cache(provider.store, "load", stale).get(key, now)
        if old is None:
            raise
        return _LOAD.validate_json(old)
    with suppress(StorageError):  # without a cache the next call asks again
        Cache(provider.store, "load").put(key, _LOAD.dump_json(load).decode(), now)
    return load


def queues(provider: Provider, partitions: Iterable[str]) -> dict[str, QueueLevel]:
    """The queue level of each of these partitions; a partition is missing while its load is unknown. Never fails.

    UCloud asks every few seconds and waits for at most five. So all questions to Slurm together may take one second;
    the next call asks the rest, while the others are cached.
    """
    until = min(time.monotonic() + QUEUE_WAIT_SECONDS, provider.deadline())
    found: dict[str, QueueLevel] = {}
    for partition in sorted(set(partitions)):
        left = until - time.monotonic()
        try:
            load = _load(provider, [partition], fresh=QUEUE_SECONDS, stale=QUEUE_STALE_SECONDS, within=left)
        except (SchedulerUnavailableError, StorageError) as error:
            log.debug("the load of the partition %s is unknown: %s", partition, error)
        else:
            found[partition] = queue_level(load)
    return found


def may_extend(provider: Provider) -> bool:
    """Whether Slurm lets us raise time limits and suspend jobs. While it does not answer, its last answer is used."""
    now, cache = provider.now(), Cache(provider.store, "operator", RIGHTS_SECONDS)
    within = min(QUEUE_WAIT_SECONDS, provider.deadline() - time.monotonic())
    kept = cache.get("", now)
    if kept is None and within > 0 and provider.breaker.allows(SLURM, now):
        try:
            found = provider.scheduler.is_operator(provider.account, within)
        except SchedulerUnavailableError as error:
            # The question goes to slurmdbd: it says nothing about slurmctld, whose breaker this would open.
            log.warning("whether this account is an Operator of Slurm is unknown: %s", error)
        else:
            kept = "yes" if found else ""
            with suppress(StorageError):
                cache.put("", kept, now)
    return bool(kept if kept is not None else cache.get("", now, stale=True))
