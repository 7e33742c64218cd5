"""The states of a job between UCloud and Slurm, and the only transitions between them.

A test compares :data:`TRANSITIONS` with what the statements of :mod:`ucloud_slurm.store.jobs` and
:mod:`ucloud_slurm.store.observations` do to rows in every state.
"""

from collections.abc import Iterator
from enum import Enum, StrEnum
from typing import Any, NamedTuple


class JobPhase(StrEnum):
    """What the column ``phase`` says."""

    ACCEPTED = "accepted"  # written; no submission has begun
    SUBMITTING = "submitting"  # a submission has begun; its outcome is not recorded
    LIVE = "live"  # Slurm has it
    ENDED = "ended"  # its last state is in the outbox
    REFUSED = "refused"  # create was answered with an error, or UCloud does not have the job


class Stop(StrEnum):
    """Why a job must end before its time."""

    TERMINATED = "terminated"  # UCloud asked for it
    CANCELLED = "cancelled"  # an administrator of this provider asked for it
    NO_FUNDS = "no-funds"
    ROLLED_BACK = "rolled-back"  # another job of the same bulk was refused, or UCloud does not have the job


class Lifecycle(StrEnum):
    """The state of a job: its phase, and whether anybody still waits for the outcome of its submission."""

    ABSENT = "absent"  # there is no row
    ACCEPTED = "accepted"
    SUBMITTING = "submitting"  # a claim holds: its owner waits for the outcome
    UNKNOWN = "unknown"  # the claim has expired, or its owner does not know: Slurm may have the job, or not
    LIVE = "live"
    ENDED = "ended"
    REFUSED = "refused"

    @classmethod
    def of(cls, phase: JobPhase, claimed_until: float | None, now: float) -> "Lifecycle":
        """The state of a row.

        :param claimed_until: when the claim of its submission expires, in seconds since the epoch
        """
        if phase is JobPhase.SUBMITTING and (claimed_until is None or claimed_until < now):
            return cls.UNKNOWN
        return cls(phase.value)


OPEN = "phase in ('accepted', 'submitting', 'live')"  # of the index jobs_open
# The same in SQL: the state UNKNOWN, at the time of the parameter.
IS_UNKNOWN = "phase = 'submitting' and (claimed_until is null or claimed_until < ?)"
# The end of a job; a condition follows. Parameters: node-seconds or CPU-seconds that it used, and the time.
END = (
    "update jobs set phase = case when stop is 'rolled-back' then 'refused' else 'ended' end, "
    "used = case when stop is 'rolled-back' then used else ? end, ended_at = ?, claimed_until = null"
)


class JobEvent(StrEnum):
    """What changes the state or a mark of a job. Each is the name of the method that writes it."""

    ACCEPT = "accept"
    ACCEPT_CLAIMED = "accept(claimed)"
    ADOPT = "adopt"
    LOOK_UP = "look_up"
    REGISTER = "register"
    ACKNOWLEDGE = "acknowledge"
    CLAIM = "claim"
    CLAIM_EXPIRES = "(time)"
    OUTCOME_UNKNOWN = "mark_outcome_unknown"
    SUBMITTED = "submitted"
    SUBMITTED_ACKNOWLEDGED = "submitted(acknowledged_at)"
    RELEASE_CLAIM = "release_claim"
    REFUSED = "refused"
    ROLL_BACK = "roll_back"
    END_UNSUBMITTED = "end_unsubmitted"
    HOLD = "held"
    RELEASE = "released"
    STOP = "stop"
    END = "record_end"
    FORGET = "forgotten"


class Guard(Enum):
    """What must hold of a row for a transition, beside its state."""

    NOT_STOPPED = "not marked to end"
    NOT_HELD = "we do not hold it"
    HELD = "we hold it in the queue"
    ACKNOWLEDGED = "create was or will be answered with success"
    NOT_ACKNOWLEDGED = "create may still be answered with an error"
    VISIBLE = "UCloud has it: it is not rolled back"
    ROLLED_BACK = "marked as rolled back"


class Transition(NamedTuple):
    """One legal change. What no transition is for changes nothing.

    :ivar when: all of these must hold
    :ivar stop: the mark that is set; None: it stays as it is
    :ivar held: likewise
    :ivar acknowledged: likewise
    """

    source: Lifecycle
    event: JobEvent
    target: Lifecycle
    when: tuple[Guard, ...] = ()
    stop: Stop | None = None
    held: bool | None = None
    acknowledged: bool | None = None


def _each(
    sources: tuple[Lifecycle, ...], event: JobEvent, target: Lifecycle | None, *when: Guard, **marks: Any
) -> Iterator[Transition]:
    """A transition from each of several states.

    :param target: None: only marks are set, and the state stays
    """
    for source in sources:
        yield Transition(source, event, target or source, when, **marks)


_ABSENT, _ACCEPTED, _SUBMITTING = Lifecycle.ABSENT, Lifecycle.ACCEPTED, Lifecycle.SUBMITTING
_UNKNOWN, _LIVE, _ENDED, _REFUSED = Lifecycle.UNKNOWN, Lifecycle.LIVE, Lifecycle.ENDED, Lifecycle.REFUSED
_BEGUN = (_SUBMITTING, _UNKNOWN)
_UNSUBMITTED = (_ACCEPTED, *_BEGUN)
_OPEN = (*_UNSUBMITTED, _LIVE)

TRANSITIONS: tuple[Transition, ...] = (
    Transition(_ABSENT, JobEvent.ACCEPT, _ACCEPTED),
    Transition(_ABSENT, JobEvent.ACCEPT_CLAIMED, _SUBMITTING),
    Transition(_ABSENT, JobEvent.ADOPT, _UNKNOWN, acknowledged=True),
    Transition(_ABSENT, JobEvent.REGISTER, _LIVE, acknowledged=True),
    # Submission.
    Transition(_ACCEPTED, JobEvent.LOOK_UP, _UNKNOWN),
    Transition(_ACCEPTED, JobEvent.CLAIM, _SUBMITTING, (Guard.NOT_STOPPED, Guard.NOT_HELD)),
    Transition(_SUBMITTING, JobEvent.CLAIM_EXPIRES, _UNKNOWN),
    Transition(_SUBMITTING, JobEvent.OUTCOME_UNKNOWN, _UNKNOWN),
    *_each(_BEGUN, JobEvent.RELEASE_CLAIM, _ACCEPTED),
    *_each(_BEGUN, JobEvent.SUBMITTED, _LIVE),
    *_each(_BEGUN, JobEvent.SUBMITTED_ACKNOWLEDGED, _LIVE, Guard.VISIBLE, acknowledged=True),
    *_each(_BEGUN, JobEvent.SUBMITTED_ACKNOWLEDGED, _LIVE, Guard.ROLLED_BACK),
    # The answer to create. What is refused later is a FAILURE of the job, which UCloud hears.
    *_each((*_OPEN, _ENDED), JobEvent.ACKNOWLEDGE, None, Guard.VISIBLE, acknowledged=True),
    *_each(_UNSUBMITTED, JobEvent.REFUSED, _REFUSED, Guard.NOT_ACKNOWLEDGED),
    *_each(_UNSUBMITTED, JobEvent.REFUSED, _REFUSED, Guard.ACKNOWLEDGED, Guard.ROLLED_BACK),
    *_each(_UNSUBMITTED, JobEvent.REFUSED, _ENDED, Guard.ACKNOWLEDGED, Guard.VISIBLE),
    Transition(_ACCEPTED, JobEvent.ROLL_BACK, _REFUSED, (Guard.NOT_ACKNOWLEDGED,)),
    *_each((*_BEGUN, _LIVE), JobEvent.ROLL_BACK, None, Guard.NOT_ACKNOWLEDGED, Guard.NOT_STOPPED, stop=Stop.ROLLED_BACK),
    # Marks. The reason of a stop is the caller's; the first one stays.
    *_each(_OPEN, JobEvent.STOP, None, Guard.NOT_STOPPED, stop=Stop.TERMINATED),
    *_each((_ACCEPTED, _LIVE), JobEvent.HOLD, None, Guard.NOT_STOPPED, Guard.NOT_HELD, held=True),
    *_each((_ACCEPTED, _LIVE), JobEvent.RELEASE, None, Guard.HELD, held=False),
    # The end.
    *_each(_UNSUBMITTED, JobEvent.END_UNSUBMITTED, _ENDED, Guard.VISIBLE),
    *_each(_UNSUBMITTED, JobEvent.END_UNSUBMITTED, _REFUSED, Guard.ROLLED_BACK),
    Transition(_LIVE, JobEvent.END, _ENDED, (Guard.VISIBLE,)),
    Transition(_LIVE, JobEvent.END, _REFUSED, (Guard.ROLLED_BACK,)),
    Transition(_ENDED, JobEvent.FORGET, _REFUSED, stop=Stop.ROLLED_BACK),
    *_each((*_OPEN, _REFUSED), JobEvent.FORGET, None, stop=Stop.ROLLED_BACK),
)
