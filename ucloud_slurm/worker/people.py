"""Telling UCloud who is connected."""

import logging

from ucloud_slurm.errors import one_line
from ucloud_slurm.provider import Provider
from ucloud_slurm.ucloud.core import CoreAway, CoreRefused

log = logging.getLogger(__name__)


def tell_owed(provider: Provider) -> bool:
    """Tells UCloud of everybody of whom it does not know yet.

    :returns: False when UCloud could not be reached
    """
    if provider.config.users.mapping != "table":
        return True
    owed = provider.people.owed()
    for number, username in enumerate(owed):
        try:
            tell(provider, username)
        except CoreAway as error:
            log.warning("%d connections wait to be told: %s", len(owed) - number, error)
            return False
    return True


def tell(provider: Provider, username: str, timeout: float | None = None) -> None:
    """Tells UCloud that somebody is connected, unless it knows or another process is at it.

    :param timeout: seconds, for one try
    :raises CoreAway: it could not be told
    """
    if not provider.people.asking(username, provider.now()):
        return
    refusal = None
    try:
        provider.core.approve_connection(username, timeout=timeout)
    except CoreAway:
        provider.people.unasked(username)
        raise
    except CoreRefused as error:
        # Only these are words about the person; a bare 404 and the others come from something in between.
        if error.status not in provider.era.not_ours or (error.status == 404 and not error.explained):
            provider.people.unasked(username)
            raise CoreAway(str(error)) from None
        refusal = one_line(error.why, 200)
        log.error("UCloud does not take the connection of %s: %s", one_line(username, 60), refusal)  # noqa: TRY400
    provider.people.approved(username, provider.now(), refusal)
