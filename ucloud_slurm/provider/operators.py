"""What administrators do at the command line or on the operator's page. Each act is recorded, and repeated it changes nothing.

``who`` is the person, as the record of the act names them.
"""

import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from ucloud_slurm.config.types import UNIT_SECONDS
from ucloud_slurm.errors import Misconfigured, NotFound, Refused, one_line
from ucloud_slurm.provider.cancellation import cancel_marked, must_end
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.status import moment
from ucloud_slurm.store.acts import HOOKS, JOBS, MAINTENANCE, OUTBOX
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.store.maintenance import ALL, MaintenanceWindow
from ucloud_slurm.store.people import UserLink
from ucloud_slurm.ucloud.reports import JobUpdate
from ucloud_slurm.users.mapping import IneligibleUserError, account_of, is_member

log = logging.getLogger(__name__)

MOST_CHARACTERS = 200  # of what researchers read
LONGEST_SECONDS = 366 * 86400.0
Machine = tuple[str, str]  # category and id of a product, or ALL


def line(field: str, text: str) -> str:
    """A text that is sent to UCloud.

    :raises Refused: it is not one line of printable characters, or too long
    """
    text = text.strip()
    if not (text.isprintable() and 1 <= len(text) <= MOST_CHARACTERS):
        raise Refused(f"{field}: should be one line of 1 to {MOST_CHARACTERS} characters, without control characters.")
    return text


# ---- jobs


def cancel_job(provider: Provider, job_id: str, why: str | None, who: str) -> str:
    """Cancels a job: it is marked to end, and Slurm is asked at once. The worker repeats that until Slurm confirms the end.

    :param why: what its owner reads; None: only that it was cancelled
    :returns: a sentence that says how far it is
    :raises NotFound: there is no such job
    """
    said = None if why is None else JobUpdate(None, f"The provider cancels the job: {line('why', why)}")
    acts, now = provider.acts, provider.now()
    with provider.store.writing():
        row = provider.jobs.get(job_id)
        if row is None:
            raise NotFound(f"There is no job {one_line(job_id, 60)}; `ucloud-slurm jobs --all` lists them.")
        if row.phase in (JobPhase.ENDED, JobPhase.REFUSED):
            return f"Job {row.id} has ended already."
        if must_end(provider, row, Stop.CANCELLED, said):
            acts.record(JOBS, f"cancelled the job {row.id}{f': {why}' if why else ''}", now, who=who)
    log.info("job %s: %s wants it to be cancelled", row.id, one_line(who, 60))
    if row.phase is JobPhase.ACCEPTED:
        return f"Job {row.id} was not at Slurm yet, and has ended."
    if cancel_marked(provider, [row.id], time.monotonic() + provider.config.slurm.timeout):
        return f"Slurm was asked to cancel job {row.id}; the worker asks again until it has ended."
    return f"Job {row.id} is marked to end; the worker cancels it as soon as Slurm answers."


# ---- messages and events


def retry_messages(provider: Provider, who: str) -> int:
    """Queues the messages again that UCloud has refused; returns how many."""
    acts, now = provider.acts, provider.now()
    with provider.store.writing():
        if number := provider.outbox.retry():
            acts.record(OUTBOX, f"queued {number} refused messages again", now, who=who)
    return number


def retry_events(provider: Provider, who: str) -> int:
    """Queues the events again that wait or have failed; returns how many."""
    acts, now = provider.acts, provider.now()
    with provider.store.writing():
        if number := provider.hook_events.retry(now):
            acts.record(HOOKS, f"queued {number} events again", now, who=who)
    return number


def drop_event(provider: Provider, number: int, who: str) -> None:
    """Gives up an event.

    :raises NotFound: there is no such event that waits or has failed
    """
    acts, now = provider.acts, provider.now()
    with provider.store.writing():
        provider.hook_events.drop(number, now)
        acts.record(HOOKS, f"dropped the event {number}", now, who=who)


# ---- people


def user_link(provider: Provider, ucloud_user: str, local_user: str, who: str) -> UserLink:
    """The link of a user of UCloud with a Unix user, which :class:`ucloud_slurm.store.people.People` writes.

    :raises Misconfigured: jobs may not run as this Unix user
    """
    if not ucloud_user or one_line(ucloud_user, 200) != ucloud_user:
        raise Misconfigured([f"{one_line(ucloud_user, 40)!r} is not a user of UCloud."])
    try:
        account = account_of(local_user, provider.config.users)
    except IneligibleUserError as error:
        raise Misconfigured([f"{error.reason}."]) from None
    group = provider.config.users.group
    if not is_member(account, group):
        raise Misconfigured([f"{account.name} is not in the group {group}; add it: gpasswd --add {account.name} {group}"])
    return UserLink(ucloud_user, account.name, account.uid, provider.now(), who)


# ---- maintenance


def machines(provider: Provider, names: Sequence[str]) -> list[Machine]:
    """The named products, each once.

    :param names: ids, or category/id
    :raises Refused: a name is that of no product, or of several
    """
    found = []
    for name in names:
        these = [each for each in provider.config.products if name in (each.id, f"{each.category}/{each.id}")]
        if len(these) != 1:
            what = "is the id of several products; name one" if these else "is not a configured product; there are"
            known = ", ".join(f"{each.category}/{each.id}" for each in these or provider.config.products)
            raise Refused(f"product: {one_line(name, 100)} {what}: {known}.")
        found.append((these[0].category, these[0].id))
    return list(dict.fromkeys(found))


def machine_name(machine: Machine) -> str:
    """What an administrator reads."""
    return "all" if machine == ALL else "/".join(machine)


def end_time(text: str, now: float) -> float:
    """A time in seconds since the epoch.

    :param text: a date and time in UTC, or a span from now, such as ``90m``
    :raises Refused: it is none, or not in the year that begins now
    """
    if match := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
        seconds = now + int(match[1]) * UNIT_SECONDS[match[2]]
    else:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            what = "is neither a time in UTC such as 2026-12-01T18:00 nor a span such as 90m, 12h or 7d"
            raise Refused(f"until: {one_line(text, 40)} {what}.") from None
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if not now < seconds <= now + LONGEST_SECONDS:
        raise Refused(f"until: {one_line(text, 40)} should be after now, and within a year.")
    return seconds


def begin_maintenance(provider: Provider, these: Sequence[Machine], message: str, until: float | None, who: str) -> None:
    """Accepts no new jobs of machines, from now on. Those of which the same is said already stay as they are.

    :param message: for researchers
    :param until: when it is over by itself, in seconds since the epoch; None: when somebody ends it
    :raises Refused: the message is not one line
    """
    message, acts, now = line("message", message), provider.acts, provider.now()
    with provider.store.writing():
        known = {window.key: (window.message, window.until) for window in provider.maintenance.on(now)}
        new = [machine for machine in these if known.get(machine) != (message, until)]
        if new:
            provider.maintenance.begin(MaintenanceWindow(*machine, message, until, now, who) for machine in new)
            what = f"maintenance of {names(new)}{f' until {moment(until)}' if until is not None else ''}: {message}"
            acts.record(MAINTENANCE, what, now, who=who)


def end_maintenance(provider: Provider, these: Sequence[Machine], who: str) -> list[Machine]:
    """Accepts new jobs again; returns the machines that were under maintenance.

    :param these: empty: whatever is under maintenance
    :raises Refused: all machines are, not only these
    """
    acts, now = provider.acts, provider.now()
    with provider.store.writing():
        windows = {window.key: window for window in provider.maintenance.listed()}
        everything = windows.get(ALL)
        if these and ALL not in these and everything is not None and not everything.is_over(now):
            raise Refused(
                "All machines are under maintenance, not only these; end it with `maintenance off` without --product, or on "
                "the page for all."
            )
        ended = [machine for machine in these or windows if machine in windows]
        if ended:
            provider.maintenance.end(ended, now, who)
            acts.record(MAINTENANCE, f"end of the maintenance of {names(ended)}", now, who=who)
    return ended


def names(these: Sequence[Machine]) -> str:
    """What an administrator reads."""
    return ", ".join(map(machine_name, these))
