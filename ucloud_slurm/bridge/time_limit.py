"""Extending a job: the time limit that a request asks for, and the update that reports it.

A limit is absolute, counted from the job's start, so that a repeated request gives the same limit.
"""

from typing import NamedTuple

from ucloud_slurm.errors import Refused
from ucloud_slurm.ucloud.eras import Era
from ucloud_slurm.ucloud.reports import JobUpdate

MAX_MINUTES = 10 * 365 * 24 * 60  # Slurm keeps time limits in 32 bits
REPEAT_SECONDS = 60.0  # within which the same request counts as a repetition


class Extension(NamedTuple):
    """A request for more time, and the limit that it led to.

    :ivar known: the limit that UCloud knew, in minutes; None for none
    :ivar more: minutes to be added
    :ivar target: the new limit in minutes
    """

    known: int | None
    more: int
    target: int

    @property
    def key(self) -> str:
        """The key by which a repetition is recognised."""
        return f"{self.known}+{self.more}={self.target}"


def extension(
    *, known: int | None, requested: int | None, limit: int | None, before: int, last: str | None, since: float | None, era: Era
) -> Extension:
    """Computes the new limit.

    A Core that reads new limits from updates adds to the limit that it knows, so that a repeated request asks for the
    same limit. A Core of 2021 always sends the first limit; there the request is added to the present limit, unless
    the same request came a moment ago.

    :param known: the job's time allocation as UCloud sent it, in seconds
    :param requested: seconds to be added
    :param limit: the present limit on the cluster in minutes; None for none
    :param before: minutes of the limit that had passed when UCloud's clock began, which ``known`` does not have
    :param last: key of the last request that was carried out
    :param since: seconds since then
    :raises Refused: the job has no limit, the extension is not above 0, or the new limit is too long for any cluster
    """
    if not requested or requested < 0:
        raise Refused("requestedTime: a job can only be extended by more than 0 seconds.")
    if limit is None:
        raise Refused("The job has no time limit, so it cannot be extended.")
    known_minutes = -(-known // 60) if known else None
    more = -(-requested // 60)
    repeated = last is not None and since is not None and 0 <= since < REPEAT_SECONDS
    if repeated and last is not None and last.startswith(f"{known_minutes}+{more}="):
        return Extension(known_minutes, more, int(last.partition("=")[2]))
    base = known_minutes + before if era.has_new_time_allocation and known_minutes is not None else limit
    if base + more > MAX_MINUTES:
        raise Refused("requestedTime: longer than any job may run.")
    return Extension(known_minutes, more, max(limit, base + more))


def check(target: int, product: str, most: int | None, unit: str) -> None:
    """Refuses a limit above the largest one.

    :param most: minutes; None for no limit
    :param unit: what sets that limit
    :raises Refused: with the limit named
    """
    if most is not None and target > most:
        raise Refused(
            f"A job on {product} may run for at most {span(most)} in all ({unit}); with this extension it would be "
            f"{span(target)}."
        )


def limit_update(minutes: int, before: int, era: Era) -> JobUpdate:
    """The update that reports a new limit; its sentence says it to an era that does not read the field.

    :param before: minutes of the limit that had passed when UCloud's clock began
    """
    left = max(1, minutes - before) * 60_000
    return JobUpdate(None, f"The job may now run for {span(minutes)}.", left if era.has_new_time_allocation else None)


def clock_before(limit: int | None, elapsed: int, era: Era) -> int:
    """The minutes of its limit that a job has used when UCloud hears that it runs: UCloud counts from then.

    :param limit: minutes
    :param elapsed: seconds that the present run has run
    """
    return 0 if limit is None or not era.restarts_clock else min(elapsed // 60, limit - 1)


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def span(minutes: int) -> str:
    """A number of minutes in words."""
    days, rest = divmod(minutes, 24 * 60)
    hours, left = divmod(rest, 60)
    parts = [counted(days, "day")] if days else []
    parts += [counted(hours, "hour")] if hours else []
    parts += [counted(left, "minute")] if left or not parts else []
    return " ".join(parts)
