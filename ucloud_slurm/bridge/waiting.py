"""Why a job waits: Slurm's reasons in kinds, each with a sentence for the researcher.

The reasons are those of squeue(1), JOB REASON CODES, and the sentences that slurmctld puts in their place.
"""

import re
from enum import StrEnum
from functools import cache, lru_cache
from typing import NamedTuple

from ucloud_slurm.errors import one_line

MOST_KIND_CHARACTERS = 60
MOST_QUOTED_CHARACTERS = 200


class WaitingKind(StrEnum):
    """What keeps a job in the queue. A reason that is in no kind has a kind of its own, ``other: <the reason>``."""

    NONE = "none"
    LINE = "line"
    BEGIN = "begin"
    DEPENDENCY = "dependency"
    DEPENDENCY_FAILED = "dependency failed"
    LICENCES = "licences"
    RESERVATION = "reservation"
    RESERVATION_GONE = "reservation gone"
    NODES = "nodes"
    MAINTENANCE = "maintenance"
    PARTITION = "partition"
    RUNNING_LIMIT = "running limit"
    SHARE = "share"
    BUDGET = "budget"
    TOO_LONG = "too long"
    TOO_LARGE = "too large"
    TOO_SMALL = "too small"
    NOT_ALLOWED = "not allowed"
    HELD = "held"
    HELD_BY_ADMINISTRATOR = "held by administrator"
    LAUNCH_FAILED = "launch failed"
    EARLIER_RUN = "earlier run"
    DEADLINE = "deadline"


class WaitingReason(NamedTuple):
    """Why a job waits.

    :ivar kind: a :class:`WaitingKind`, or ``other: …``; one line of at most ``MOST_KIND_CHARACTERS`` characters. Kind
        NONE says only that Slurm has not looked at the job again: what was known about the job is still true
    :ivar sentence: for the researcher
    :ivar waiting_helps: False where no waiting lets the job start; the sentence then says what to do
    """

    kind: str
    sentence: str
    waiting_helps: bool = True


# Each reason with the patterns of Slurm's texts, between bars: * is any text, capitals do not matter, _ is a space.
# Of several patterns that fit, the longest decides.
REASONS: dict[WaitingReason, str] = {
    WaitingReason(WaitingKind.NONE, "The job is in the queue."): "None",
    # One kind, because Slurm changes from one to the other in every pass of its scheduler.
    WaitingReason(WaitingKind.LINE, "The job waits in line for free machines."): (
        "Priority|Resources|ReqNodeNotAvail, May be reserved for other job|BurstBufferResources|MaxPoweredUpNodes|"
        "MpiPortsBusy|NvidiaImexChannels|PowerNotAvail|PowerReserved|SchedDefer"
    ),
    WaitingReason(WaitingKind.LINE, "The cluster prepares the start of the job."): (
        "BurstBufferStageIn|Cleaning|FedJobLock|Prolog"
    ),
    WaitingReason(WaitingKind.BEGIN, "The job waits for the time at which it may begin."): "BeginTime",
    WaitingReason(WaitingKind.DEPENDENCY, "The job waits for another job."): "Dependency",
    WaitingReason(
        WaitingKind.DEPENDENCY_FAILED,
        "The job waits for another job, which did not end as it should. It will not start: cancel it.",
        waiting_helps=False,
    ): "DependencyNeverSatisfied",
    WaitingReason(WaitingKind.LICENCES, "The job waits for a free licence."): "Licenses",
    WaitingReason(WaitingKind.RESERVATION, "The job waits for its reservation."): "Reservation",
    WaitingReason(
        WaitingKind.RESERVATION_GONE,
        "The job's reservation is gone. It will not start: cancel it, or ask the provider's support.",
        waiting_helps=False,
    ): "ReservationDeleted|ReservationInvalid|Reservation * was deleted|Reservation * is invalid",
    WaitingReason(
        WaitingKind.NODES,
        "The job waits for machines that are not available at the moment. If this lasts, ask the provider's support.",
    ): "ReqNodeNotAvail|NodeDown|FrontEndDown|Constraints|Nodes required for job are DOWN, DRAINED*",
    WaitingReason(
        WaitingKind.MAINTENANCE,
        "The machines are reserved for maintenance, which begins before the job could end. The job waits until it is "
        "over; with less time, a job may start before it.",
    ): "ReqNodeNotAvail, Reserved for maintenance",
    WaitingReason(
        WaitingKind.PARTITION,
        "The job's partition is not in service at the moment. The job waits until the administrators open it.",
    ): "PartitionDown|PartitionInactive",
    WaitingReason(
        WaitingKind.RUNNING_LIMIT,
        "The job's user, account or QOS has reached its limit on what runs at the same time. The job waits until "
        "others have ended; if none runs, it is larger than the limit: cancel it and start a smaller one.",
    ): (
        "QOSGrp*|QOSGrp*RunMinutes*|QOSMax*PerUser*|QOSJobLimit|QOSResourceLimit|AssocGrp*|AssocGrp*RunMinutes*|"
        "AssocMax*|AssociationJobLimit|AssociationResourceLimit|Max*PerAccount|Max*PerUser|AccountingPolicy|"
        "JobArrayTaskLimit"
    ),
    WaitingReason(
        WaitingKind.SHARE,
        "The job's account has used more than the share that the QOS requires. The job waits until this counts less.",
    ): "QOSUsageThreshold",
    WaitingReason(
        WaitingKind.BUDGET,
        "The job's account or QOS has too little computing time left for it. Cancel it and start a shorter or smaller "
        "one, or ask the provider's support for more.",
        waiting_helps=False,
    ): "QOSGrp*Minutes*|QOSGrpWallLimit|QOSTimeLimit|AssocGrp*Minutes*|AssocGrpWallLimit|AssociationTimeLimit",
    WaitingReason(
        WaitingKind.TOO_LONG,
        "The job asks for more time than its partition, account or QOS allows. It will not start: cancel it and start "
        "it again with less time.",
        waiting_helps=False,
    ): "PartitionTimeLimit|QOSMaxWallDuration*|AssocMaxWallDuration*",
    WaitingReason(
        WaitingKind.TOO_LARGE,
        "The job asks for more than its partition, account or QOS allows or any machine has. It will not start: cancel "
        "it and start it again with smaller or fewer machines or less time, or ask the provider's support.",
        waiting_helps=False,
    ): (
        "PartitionConfig|PartitionNodeLimit|BadConstraints|QOSMax*PerJob*|QOSMax*PerNode*|AssocMax*PerJob*|"
        "AssocMax*PerNode*|MaxMemPerLimit"
    ),
    WaitingReason(
        WaitingKind.TOO_SMALL,
        "The job asks for less than its QOS demands. It will not start: cancel it and start it again with a larger machine.",
        waiting_helps=False,
    ): "QOSMin*",
    WaitingReason(
        WaitingKind.NOT_ALLOWED,
        "The job may not use its partition with its account or QOS. It will not start: ask the provider's support, or "
        "cancel it.",
        waiting_helps=False,
    ): (
        "AccountNotAllowed|InvalidAccount|QOSNotAllowed|InvalidQOS|Job's account not * this partition*|"
        "Job's QOS not * this partition*|uid * not in group permitted to use this partition*"
    ),
    WaitingReason(
        WaitingKind.HELD,
        "The job is held in the queue. It starts only after it is released on the cluster (scontrol release); if you "
        "did not hold it, ask the provider's support.",
        waiting_helps=False,
    ): "JobHeldUser|job requeued in held state|job requeued in special exit state",
    WaitingReason(
        WaitingKind.HELD_BY_ADMINISTRATOR,
        "The cluster's administrators hold the job in the queue. It starts only after they release it: ask the "
        "provider's support.",
        waiting_helps=False,
    ): "JobHeldAdmin|License request * is no longer valid, holding job",
    WaitingReason(
        WaitingKind.LAUNCH_FAILED,
        "The cluster could not start the job and holds it in the queue. Ask the provider's support to release it, or "
        "cancel it and start it again.",
        waiting_helps=False,
    ): "* requeued held|JobHoldMaxRequeue|JobLaunchFailure|SystemFailure|BurstBufferOperation|Burst buffer *|burst_buffer/*",
    WaitingReason(
        WaitingKind.EARLIER_RUN, "A run of the job has ended early, and the cluster has put the job back into the queue."
    ): "NonZeroExitCode|RaisedSignal|TimeLimit|OutOfMemory|InactiveLimit",
    WaitingReason(
        WaitingKind.DEADLINE,
        "The job cannot end before its deadline. It will not start: cancel it and start it again with less time.",
        waiting_helps=False,
    ): "DeadLine",
}

_DETAILS = r"(?:\s*[,(:].*)?"  # behind a reason: the nodes, or the reasons of other tasks of an array


def _comparable(text: str) -> str:
    return text.replace("_", " ").casefold()


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in _comparable(pattern).split("*")) + _DETAILS)


# With the beginning that a text must have: one pattern in ninety is compiled for it.
_PATTERNS = [
    (_comparable(pattern.partition("*")[0]), pattern, reason)
    for pattern, reason in sorted(
        ((pattern, reason) for reason, patterns in REASONS.items() for pattern in patterns.split("|")),
        key=lambda row: -len(row[0]),
    )
]


@lru_cache(maxsize=4096)
def waiting_reason(reason: str) -> WaitingReason:
    """Why a job waits, from the reason that squeue prints. A reason that is in no kind is quoted."""
    quoted = one_line(reason, MOST_QUOTED_CHARACTERS)
    text = _comparable(quoted) or "none"
    for beginning, pattern, known in _PATTERNS:
        if text.startswith(beginning) and _compiled(pattern).fullmatch(text):
            return known
    word = re.sub(r"\d+", "#", re.split("[,(]", quoted)[0])  # what is counted, or a node's number, is no other reason
    return WaitingReason(one_line(f"other: {word}", MOST_KIND_CHARACTERS), f"The job waits in the queue ({quoted}).")
