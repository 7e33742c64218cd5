"""Reports to UCloud which users are connected with users of this host, and which are not any more."""

import logging

from ucloud_slurm.errors import CoreRefusedError, CoreUnavailableError, one_line
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.system.filelock import CONNECTIONS, exclusive_lock

log = logging.getLogger(__name__)

CALL_SECONDS = 5.0  # for one call
LOCK_SECONDS = 2 * CALL_SECONDS  # for another process, which reports one connection


def deliver_link_changes(provider: Provider) -> bool:
    """Reports every connection that has changed since its last report.

    :returns: False if UCloud could not be reached
    """
    if provider.config.users.mapping != "table":
        return True
    pending = provider.link_states.pending()
    for number, username in enumerate(pending):
        try:
            report_connection(provider, username)
        except CoreUnavailableError as error:
            log.log(error.severity, "%d connections wait to be reported: %s", len(pending) - number, error)
            return False
    return True


def report_connection(provider: Provider, username: str) -> None:
    """Reports whether a user is connected, unless UCloud knows it or another process is reporting it.

    It always clears first: nothing that is stored here proves what UCloud has. A lock, which a process that stands still
    keeps and a process that dies loses, keeps two processes from clearing first and connecting afterwards.

    :raises CoreUnavailableError: UCloud did not answer; or the database is older than what UCloud knows, and is not
        reconciled yet: reports that it does not know of may be under way
    """
    if (why := Generation(provider.store).why_behind()) is not None:
        raise CoreUnavailableError(f"{why}, and nothing is reported to UCloud; run ucloud-slurm reconcile")
    with exclusive_lock(provider.store.path, CONNECTIONS, LOCK_SECONDS) as mine:
        if mine:
            _report(provider, username)


def _report(provider: Provider, username: str) -> None:
    states, core, at = provider.link_states, provider.core, provider.now()
    before = states.claim(username, at)
    if before is None or before.user is None:
        return
    known: bool | None = None
    refusal, in_work = None, False
    try:
        cleared = core.clear_connection(before.user, exists=provider.era.has_clear_connection, timeout=CALL_SECONDS)
        known = False
        if before.wanted and states.is_claimed(username, at):
            known, in_work = None, provider.era.ends_of_approval
            core.approve_connection(cleared, timeout=CALL_SECONDS)
            known = True
        in_work = False
    except CoreUnavailableError:
        states.record_report(username, known, in_work=in_work)
        raise
    except CoreRefusedError as error:
        if not _is_about_user(provider, error):
            states.record_report(username, known)
            raise CoreUnavailableError(str(error)) from None
        refusal = one_line(error.why, 200)
        log.error("UCloud does not take the connection of %s: %s", one_line(username, 60), refusal)
        provider.people.note(provider.now(), "UCloud", f"refused the connection of {username}: {refusal}")
    states.record_report(username, known, refusal)


def _is_about_user(provider: Provider, error: CoreRefusedError) -> bool:
    """Whether UCloud refuses the user. An answer that has not UCloud's form comes from a proxy.

    Today's Core also answers 403 to an access token that it does not accept, which says nothing about a user.
    """
    if error.status not in provider.era.not_ours or (error.status in (403, 404) and not error.explained):
        return False
    try:
        return error.status != 403 or provider.core.admits_us()
    except CoreUnavailableError:
        return False
