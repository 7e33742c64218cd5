"""The life of a job as a list of events, from what the database has of it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Any, NamedTuple

from ucloud_slurm.store.browsing import SessionOfJob
from ucloud_slurm.store.charges import EndedRun, LedgerEntry
from ucloud_slurm.store.job_rows import JobRow
from ucloud_slurm.store.job_state import JobPhase, Stop
from ucloud_slurm.store.outbox import OutboxMessage

MOST_EVENTS = 400
STOPS = {
    Stop.TERMINATED: "UCloud asked to end the job",
    Stop.CANCELLED: "An administrator has cancelled the job",
    Stop.NO_FUNDS: "The job must end: its wallet has nothing left",
    Stop.ROLLED_BACK: "The job is taken back: its create failed, or UCloud does not have it",
}
KINDS = {"update": "Update", "charge": "Charge", "usage": "Report of use"}


class Source(StrEnum):
    """Who did something."""

    UCLOUD = "UCloud"
    PROVIDER = "provider"
    SLURM = "Slurm"
    USER = "user"


class Event(NamedTuple):
    """Something that happened.

    :ivar at: seconds since the epoch
    :ivar text: one sentence without its full stop
    :ivar detail: what was said, or figures
    :ivar outcome: of a message or charge; empty: it has none
    """

    at: float
    source: Source
    text: str
    detail: str = ""
    outcome: str = ""


def timeline(
    row: JobRow,
    runs: Sequence[EndedRun],
    messages: Sequence[OutboxMessage],
    charges: Sequence[LedgerEntry],
    sessions: Sequence[SessionOfJob],
) -> list[Event]:
    """All events of a job, oldest first. Of a very long life the middle is left out: see :data:`MOST_EVENTS`."""
    events = [
        *_of_create(row),
        *_of_changes(row),
        *_of_runs(runs),
        *_of_messages(messages),
        *_of_charges(charges),
        *_of_sessions(sessions),
    ]
    events.sort(key=lambda event: event.at)
    left_out = len(events) - MOST_EVENTS
    if left_out <= 0:
        return events
    head, tail = events[: MOST_EVENTS // 2], events[-MOST_EVENTS // 2 :]
    gap = Event(head[-1].at, Source.PROVIDER, f"{left_out} events are left out here", f"ucloud-slurm show {row.id}")
    return [*head, gap, *tail]


def _of_create(row: JobRow) -> Iterator[Event]:
    """How the job came, until both sides had it."""
    if row.external:
        yield Event(row.accepted_at, Source.PROVIDER, "A job from outside UCloud was found, and registered there")
    else:
        yield Event(row.accepted_at, Source.UCLOUD, "UCloud asked to create the job, and it was written down")
    if row.attempted_at is not None:
        which = "The submission began" if row.attempts <= 1 else f"The last of {row.attempts} attempts to submit it began"
        yield Event(row.attempted_at, Source.PROVIDER, which)
    if row.submitted_at is not None:
        detail = "" if row.slurm_id is None else f"Slurm job {row.slurm_id}"
        yield Event(float(row.submitted_at), Source.SLURM, f"Slurm queued the job as {row.local_user}", detail)
    if row.acknowledged_at is not None and not row.external:
        yield Event(row.acknowledged_at, Source.PROVIDER, "The create was answered with success")
    if row.confirmed_at is not None:
        yield Event(row.confirmed_at, Source.UCLOUD, "UCloud confirmed that it has the job")


def _of_changes(row: JobRow) -> Iterator[Event]:
    """What became of the job later, of which the row has the last time."""
    if row.run_submitted is not None and row.run_submitted != row.submitted_at:
        yield Event(float(row.run_submitted), Source.SLURM, "Slurm queued the job again: a new run")
    if row.held_at is not None:
        yield Event(row.held_at, Source.PROVIDER, "The job is held in the queue: its wallet has nothing left")
    if row.extended_at is not None:
        limit = "" if row.time_limit is None else f"time limit {row.time_limit} min"
        yield Event(row.extended_at, Source.UCLOUD, "UCloud asked for more time, and Slurm granted it", limit)
    if row.missing_since is not None:
        yield Event(row.missing_since, Source.SLURM, "Slurm does not list the job any more", f"{row.missing_reads} passes")
    if row.stop is not None and row.stop_at is not None:
        yield Event(row.stop_at, Source.UCLOUD if row.stop is Stop.TERMINATED else Source.PROVIDER, STOPS[row.stop])
    if row.ended_at is not None and row.phase is JobPhase.REFUSED:
        status = "" if row.refused_status is None else f" (status {row.refused_status})"
        yield Event(row.ended_at, Source.PROVIDER, f"The job was refused{status}", row.refused_why or "")
    elif row.ended_at is not None:
        yield Event(row.ended_at, Source.PROVIDER, "The end was recorded", row.refused_why or "")


def _of_runs(runs: Sequence[EndedRun]) -> Iterator[Event]:
    for number, run in enumerate(runs, 1):
        which = "The job" if len(runs) == 1 else f"Run {number}"
        if run.started is not None:
            place = ", ".join(filter(None, (counted(run.nodes, "node"), counted(run.cpus, "CPU"), run.partition)))
            yield Event(float(run.started), Source.SLURM, f"{which} started", place)
        if run.ended is not None:
            code = f"exit code {run.exit_code}" + (f", signal {run.signal}" if run.signal else "")
            yield Event(
                float(run.ended), Source.SLURM, f"{which} ended as {run.state}", f"{code}; {run.seconds} s without suspension"
            )


def _of_messages(messages: Sequence[OutboxMessage]) -> Iterator[Event]:
    for message in messages:
        if message.kind == "charge":
            continue  # it is in the ledger
        name, outcome = KINDS.get(message.kind, message.kind), message.outcome or "waiting"
        yield Event(message.created_at, Source.PROVIDER, f"{name} for UCloud: {said(message)}", _delivery(message), outcome)


def said(message: OutboxMessage) -> str:
    """What a message says, in words."""
    try:
        return _said(message.kind, message.content)
    except (ValueError, AttributeError):
        return "something that cannot be read"


def _said(kind: str, content: Mapping[str, Any]) -> str:
    match kind:
        case "charge":
            return f"{content.get('units')} units, times {content.get('numberOfProducts')}"
        case "usage":
            return f"{content.get('usage')} units in all"
    update = content.get("update", {})
    parts = [update.get("state"), update.get("status")]
    return ": ".join(str(part) for part in parts if part) or "no change of state"


def _delivery(message: OutboxMessage) -> str:
    if message.settled_at is None:
        return f"sent {message.sends} times" if message.sends else ""
    took = f"after {message.settled_at - message.created_at:.1f} s"
    tries = f", at the {message.sends}. attempt" if message.sends > 1 else ""
    return f"{took}{tries}" + (f": {message.answer}" if message.answer else "")


def _of_charges(charges: Sequence[LedgerEntry]) -> Iterator[Event]:
    """Those that were written at the same time are one event: a pass catches up with all that is due."""
    for (at, outcome), of in groupby(charges, lambda charge: (charge.created_at, charge.outcome)):
        some = list(of)
        units = sum(charge.units * charge.multiplier for charge in some)
        parts = f" in {len(some)} parts" if len(some) > 1 else ""
        detail = f"{counted(units, 'unit')}{parts}, for the seconds {some[0].start} to {some[-1].end} of its use"
        yield Event(at, Source.PROVIDER, "Use was charged", detail, outcome or "waiting")


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _of_sessions(sessions: Sequence[SessionOfJob]) -> Iterator[Event]:
    names = {"SHELL": "a shell", "WEB": "the web page", "VNC": "the screen"}
    for session in sessions:
        what, who = names.get(session.kind, session.kind), session.username or "somebody whom UCloud has not named"
        yield Event(session.created_at, Source.UCLOUD, f"{who} asked for {what}", f"node {session.rank}")
        if session.opened_at is not None:
            yield Event(session.opened_at, Source.USER, f"{who} opened {what}")
        if session.ended_at is not None:
            yield Event(session.ended_at, Source.USER, f"{what} of {who} was closed")
