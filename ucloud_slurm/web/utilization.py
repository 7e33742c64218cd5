"""retrieveUtilization, and what Slurm lets us do: asked of Slurm, kept for a while, shared by all processes."""

import logging

from pydantic import TypeAdapter

from ucloud_slurm.config import own_account
from ucloud_slurm.errors import Refused
from ucloud_slurm.provider import Provider
from ucloud_slurm.slurm.records import Load
from ucloud_slurm.slurm.scheduler import SchedulerAway
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.store.health import SLURM
from ucloud_slurm.ucloud.answers import Capacity, QueueStatus, Utilization
from ucloud_slurm.worker.catalogue import PAUSE

log = logging.getLogger(__name__)

LOAD_SECONDS = 5.0
RIGHTS_SECONDS = 600.0
STALE = 60.0  # seconds that an old load is better than none, while Slurm does not answer
MIB = 1024 * 1024

_LOAD = TypeAdapter(Load)


def utilization(provider: Provider, category: str | None) -> Utilization:
    """How full the partitions of our products are.

    :param category: of the products that matter; None for all
    :raises Refused: we sell nothing in that category
    :raises SchedulerAway: Slurm does not answer, and nothing is known
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


def _load(provider: Provider, partitions: list[str]) -> Load:
    now, key = provider.now(), ",".join(partitions)
    kept = Cache(provider.store, "load", LOAD_SECONDS).get(key, now)
    if kept is not None:
        return _LOAD.validate_json(kept)
    try:
        if not provider.health.may_ask(SLURM, now):
            raise SchedulerAway("Slurm did not answer a moment ago")
        load = provider.scheduler.load(partitions, provider.config.jobs.submit_within)
    except SchedulerAway as error:
        if provider.health.may_ask(SLURM, now):
            provider.health.failed(SLURM, str(error), now, PAUSE)
        old = Cache(provider.store, "load", STALE).get(key, now)
        if old is None:
            raise
        return _LOAD.validate_json(old)
    Cache(provider.store, "load").put(key, _LOAD.dump_json(load).decode(), now)
    return load


def may_extend(provider: Provider) -> bool:
    """Whether Slurm lets us raise time limits and suspend. What it said last holds while it does not answer."""
    now, cache = provider.now(), Cache(provider.store, "operator", RIGHTS_SECONDS)
    kept = cache.get("", now)
    if kept is None and provider.health.may_ask(SLURM, now):
        try:
            found = provider.scheduler.is_operator(own_account(), provider.config.jobs.submit_within)
        except SchedulerAway as error:
            # It is the accounting database that was asked: no word to the breaker.
            log.warning("whether we may raise time limits cannot be asked: %s", error)
        else:
            kept = "yes" if found else ""
            cache.put("", kept, now)
    return bool(kept if kept is not None else cache.get("", now, stale=True))
