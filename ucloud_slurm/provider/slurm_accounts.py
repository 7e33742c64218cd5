"""The choice of a Slurm account, if neither the mapping nor the product gives one and the user has several.

UCloud shows it in the form of every application (requestDynamicParameters) and sends it as a parameter that no
application declares.
"""

import logging
import time
from collections.abc import Sequence

from pydantic import TypeAdapter

from ucloud_slurm.config import Product
from ucloud_slurm.errors import Refused, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.slurm.errors import SchedulerUnavailableError
from ucloud_slurm.store.breaker import SLURM
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.ucloud.jobs import Job
from ucloud_slurm.users.mapping import Identity

log = logging.getLogger(__name__)

NAME = "_injected_slurmAccount"  # UCloud accepts names with this prefix without a declaration
CACHE_SECONDS = 300.0
WAIT_SECONDS = 1.0  # that Slurm has while a form is being shown

_ACCOUNTS = TypeAdapter(list[str])


def offered(provider: Provider, identity: Identity) -> list[str]:
    """The accounts from which a user may choose; none if there is no choice, or Slurm does not answer."""
    given = all(product.account is not None for product in provider.config.products)
    if given or not _may_choose(provider, identity):
        return []
    try:
        accounts = _accounts(provider, identity.person.user)
    except SchedulerUnavailableError as error:
        log.info("no Slurm accounts are offered: %s", error)
        return []
    return list(accounts) if len(accounts) > 1 else []


def chosen(provider: Provider, job: Job, product: Product, identity: Identity) -> str | None:
    """The account that was chosen for a job, None if none was, or the product or the mapping gives it.

    :raises Refused: it is no account of the user
    :raises SchedulerUnavailableError: Slurm does not list the user's accounts
    """
    value = job.specification.parameters.get(NAME)
    if value is None or value.value in (None, "") or product.account is not None or not _may_choose(provider, identity):
        return None
    # Slurm does not distinguish capitals in their names.
    if str(value.value).lower() not in (account.lower() for account in _accounts(provider, identity.person.user)):
        raise Refused(f"The Slurm account {one_line(str(value.value), 40)} is not one of yours; choose another.")
    return str(value.value)


def _may_choose(provider: Provider, identity: Identity) -> bool:
    return identity.account is None and provider.config.users.mapping != "service"


def _accounts(provider: Provider, user: str) -> Sequence[str]:
    now, cache = provider.now(), Cache(provider.store, "accounts", CACHE_SECONDS)
    kept = cache.get(user, now)
    if kept is not None:
        return _ACCOUNTS.validate_json(kept)
    if not provider.breaker.allows(SLURM, now):
        raise SchedulerUnavailableError("Slurm did not answer a moment ago")
    within = min(WAIT_SECONDS, provider.deadline() - time.monotonic())
    if within <= 0:
        raise SchedulerUnavailableError("there is no time left to ask Slurm")
    found = provider.scheduler.accounts(user, within)
    cache.put(user, _ACCOUNTS.dump_json(found).decode(), now)
    return found
