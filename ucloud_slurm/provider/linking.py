"""Telling UCloud who is connected, and who is not any more."""

import logging

from ucloud_slurm.errors import one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.ucloud.errors import CoreRefusedError, CoreUnavailableError

log = logging.getLogger(__name__)

TIMEOUT = 5.0  # seconds for one call, so that telling ends long before somebody else takes it over


def deliver_link_changes(provider: Provider) -> bool:
    """Tells UCloud of everybody of whom it does not know yet.

    :returns: False when UCloud could not be reached
    """
    if provider.config.users.mapping != "table":
        return True
    owed = provider.link_states.pending()
    for number, username in enumerate(owed):
        try:
            tell(provider, username)
        except CoreUnavailableError as error:
            log.warning("%d connections wait to be told: %s", len(owed) - number, error)
            return False
    return True


def tell(provider: Provider, username: str) -> None:
    """Tells UCloud how a user stands, unless it knows or another process is at it.

    What an earlier call may have done is taken back first, where UCloud has a call for that.

    :raises CoreUnavailableError: it could not be told
    """
    states, core = provider.link_states, provider.core
    before = states.claim(username, provider.now())
    if before is None:
        return
    known: bool | None = before.known
    refusal = None
    try:
        if known is not False and provider.era.has_clear_connection:
            known = None
            core.clear_connection(username, timeout=TIMEOUT)
            known = False
        if before.wanted:
            known = None
            core.approve_connection(username, timeout=TIMEOUT)
        known = before.wanted
    except CoreUnavailableError:
        states.record_report(username, known)
        raise
    except CoreRefusedError as error:
        if not _about_the_person(provider, error):
            states.record_report(username, known)
            raise CoreUnavailableError(str(error)) from None
        refusal = one_line(error.why, 200)
        log.error("UCloud does not take the connection of %s: %s", one_line(username, 60), refusal)
        provider.people.note(provider.now(), "UCloud", f"refused the connection of {username}: {refusal}")
    states.record_report(username, known, refusal)


def _about_the_person(provider: Provider, error: CoreRefusedError) -> bool:
    """Whether UCloud refuses a user; what is not its own form of words comes from something in between.

    Today's says 403 as well to an access token that it does not take, which says nothing about anybody.
    """
    if error.status not in provider.era.not_ours or (error.status in (403, 404) and not error.explained):
        return False
    try:
        return error.status != 403 or provider.core.admits_us()
    except CoreUnavailableError:
        return False
