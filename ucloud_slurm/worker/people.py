"""Telling UCloud who is connected with an account here, and who is not any more."""

import logging

from ucloud_slurm.errors import one_line
from ucloud_slurm.provider import Provider
from ucloud_slurm.store.linking import Owed, Told
from ucloud_slurm.ucloud.core import CoreAway, CoreRefused

log = logging.getLogger(__name__)

TIMES = 8  # how many times the limit of a call telling one thing may take
LATER = 600.0  # seconds until what UCloud refuses is tried again


def tell(provider: Provider, username: str | None = None) -> bool:
    """Tells UCloud what it is to know. It hears of each connection once, unless nobody knows whether it heard.

    :param username: about this user only
    :returns: False when something could not be told; it stays owed
    """
    for owed in provider.connections.owed(provider.now(), username):
        until = provider.now() + TIMES * provider.config.ucloud.timeout
        if not provider.connections.claim(owed, provider.now(), until):
            continue
        try:
            _send(provider, owed)
        except CoreAway as error:
            log.warning("UCloud cannot be told who is connected: %s", error)
            provider.connections.postpone(owed, until, provider.now())
            return False
        except CoreRefused as error:
            log.error("UCloud does not want to know whether %s is connected: %s", one_line(owed.username, 80), error)  # noqa: TRY400
            provider.connections.postpone(owed, until, provider.now() + LATER)
            if username is not None:
                return False
        else:
            provider.connections.settle(owed, until)
    return True


def _send(provider: Provider, owed: Owed) -> None:
    clears = provider.era.has_clear_connection
    # Some UCloud breaks when it hears of a connection twice.
    if clears and (not owed.connected or owed.told is not Told.NONE):
        provider.core.clear_connection(owed.username)
    if owed.connected:
        provider.core.approve_connection(owed.username)
